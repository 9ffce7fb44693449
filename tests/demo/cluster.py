"""`make demo-cluster`: the demonstration through kubectl, on the two nodes of `make cluster-up`.

A pod is deleted by force halfway; the job goes on from its last checkpoint.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster import commands, fullcluster
from cluster.namespace import kubectl, prepare_namespace
from demo.install import install
from demo.jobs import BUCKET, CHECKOUT, cluster_template, digits_job, upload_folder, write_job
from demo.verify import test_accuracy

from trainyard_trainer.digits import write_digits

PLACE = CHECKOUT / ".demo"
DATA = PLACE / "data"
NAMESPACE = "demo"
NAME = "digits"
TRAINYARD = str(Path(sys.executable).with_name("trainyard"))
PATIENCE_SECONDS = 180
ENOUGH = 0.96


def main() -> int:
    """Returns the exit code of the demonstration."""
    use_cluster()
    say("Install the operator from manifests/:")
    install()
    prepare_namespace(NAMESPACE)
    kubectl("-n", NAMESPACE, "delete", "tj", NAME, "--ignore-not-found")
    endpoint = os.environ["TRAINYARD_TEST_S3_ENDPOINT"]
    write_digits(DATA)
    count = upload_folder(endpoint, DATA, "datasets/digits")
    say(f"{count} files of handwritten digits lie in s3://{BUCKET}/datasets/digits.")
    job_file = write_job(cluster_job(endpoint), PLACE / "digits-cluster.yaml")
    subprocess.run(shown("kubectl", "-n", NAMESPACE, "apply", "-f", job_file), check=True)
    watch_and_delete_a_pod()
    say("The story, in events:")
    describe = shown("kubectl", "-n", NAMESPACE, "describe", "tj", NAME)
    described = subprocess.run(describe, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(described[described.index("Events:") :])
    say("What lies in S3, and the best of it:")
    subprocess.run(shown(TRAINYARD, "checkpoints", NAME, "-n", NAMESPACE), check=True)
    fetch = shown(TRAINYARD, "fetch", NAME, "best", "-n", NAMESPACE, "-d", PLACE / "best-cluster")
    fetched = subprocess.run(fetch, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    print(fetched.removeprefix(f"{CHECKOUT}/"))
    return conclude(Path(fetched))


def use_cluster() -> None:
    """Let kubectl, trainyard and boto3 find the test cluster."""
    os.environ |= commands.environment()
    os.environ["PATH"] = f"{fullcluster.binaries()}:{os.environ['PATH']}"


def cluster_job(endpoint: str) -> dict:
    """configs/digits.yaml for this cluster."""
    storage = {
        "uri": f"s3://{BUCKET}/runs",
        "endpoint": endpoint,
        "credentialsSecretRef": {"name": "s3-credentials"},
    }
    return digits_job(storage=storage, template=cluster_template())


def watch_and_delete_a_pod() -> None:
    """`kubectl get tj -w` until the end; at half of the steps a pod is deleted by force."""
    with subprocess.Popen(shown("kubectl", "-n", NAMESPACE, "get", "tj", NAME, "-w")) as watch:
        deadline, is_deleted = time.monotonic() + PATIENCE_SECONDS, False
        while time.monotonic() < deadline:
            status = job_status()
            if status.get("phase") in {"Succeeded", "Failed"}:
                break
            if not is_deleted and (status.get("progress") or {}).get("percent", 0) >= 40:
                is_deleted = True
                pod = f"{NAME}-worker-0"
                force = ["--force", "--grace-period=0"]
                command = shown("kubectl", "-n", NAMESPACE, "delete", "pod", pod, *force)
                subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            time.sleep(0.5)
        time.sleep(1)
        watch.terminate()


def job_status() -> dict:
    """The job's status; empty before the operator saw it."""
    return json.loads(kubectl("-n", NAMESPACE, "get", "tj", NAME, "-o", "json")).get("status", {})


def conclude(fetched: Path) -> int:
    """Check what the checkpoint is worth."""
    accuracy, status = test_accuracy(fetched / "model.pt", DATA), job_status()
    say(f"model.pt opens with torch.load and classifies {accuracy:.1%} of the test images.")
    print(f"  job       {status['phase']} in {status['attempt']} attempts")
    print(f"  storage   {status['logs']['uri'].removesuffix('/logs')}")
    print("next: make cluster-down")
    survived = status["phase"] == "Succeeded" and status["attempt"] == 2
    return 0 if survived and accuracy >= ENOUGH else 1


def shown(*arguments: object) -> list[str]:
    """The command line, printed first."""
    words = [str(argument) for argument in arguments]
    short = [word.removeprefix(f"{CHECKOUT}/").replace(TRAINYARD, "trainyard") for word in words]
    print(f"$ {shlex.join(short).replace('.venv/bin/', '')}", flush=True)
    return words


def say(sentence: str) -> None:
    """One line for the person who watches."""
    print(f"\n{sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
