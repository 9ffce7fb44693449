"""Every manifest of manifests/samples is a job that this operator takes."""

from pathlib import Path

import pytest
import yaml
from core_scenes import decide

from trainyard_operator.api import TrainingJob
from trainyard_operator.status import JobStatus

SAMPLES = sorted((Path(__file__).parents[3] / "manifests" / "samples").glob("*.yaml"))


@pytest.mark.parametrize("sample", SAMPLES, ids=[path.stem for path in SAMPLES])
def test_sample_is_accepted_and_starts(sample: Path) -> None:
    job = TrainingJob.model_validate(yaml.safe_load(sample.read_text()))
    decision = decide(JobStatus(), job=job)
    accepted = decision.status.condition("Accepted")
    assert accepted is not None
    assert (accepted.status, decision.status.phase) == ("True", "Starting")
