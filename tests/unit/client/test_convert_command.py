"""`trainyard convert` as it is typed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

SOURCE = """\
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: demo}
spec:
  pytorchReplicaSpecs:
    Master:
      replicas: 1
      template:
        spec:
          containers:
            - {name: pytorch, image: pytorch-cpu, command: [torchrun, demo.py]}
"""


def test_output_is_a_valid_job_and_sentences_go_to_stderr(
    trainyard: Callable[..., Any], place: Path
) -> None:
    (place / "pytorchjob.yaml").write_text(SOURCE)
    ran = trainyard("convert", "pytorchjob.yaml")
    assert ran.code == 0
    assert yaml.safe_load(ran.out)["spec"]["command"] == ["torchrun", "demo.py"]
    assert ran.err.startswith("spec.storage is not there")
    (place / "job.yaml").write_text(ran.out)
    assert trainyard("config", "check", "job.yaml").code == 0


def test_job_without_a_command_is_exit_code_5(trainyard: Callable[..., Any], place: Path) -> None:
    (place / "pytorchjob.yaml").write_text(SOURCE.replace(", command: [torchrun, demo.py]", ""))
    assert trainyard("convert", "pytorchjob.yaml").code == 5
    ran = trainyard("convert", "pytorchjob.yaml", "--entrypoint", "python -u 'my train.py'")
    assert yaml.safe_load(ran.out)["spec"]["command"] == ["python", "-u", "my train.py"]
