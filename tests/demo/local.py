"""`make demo`: train the digits on two ranks, kill one halfway, recover, fetch the best checkpoint.

Everything runs on this machine as ordinary processes; objects lie in a real S3 server
(versitygw) where it is built already or Go is there to build it, else in a folder.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster.console import ClusterError
from cluster.s3 import S3
from demo.jobs import BUCKET, CHECKOUT, digits_job, upload_folder, write_job
from demo.verify import test_accuracy

PLACE = CHECKOUT / ".demo"
DATA = PLACE / "data"
TRAINYARD = str(Path(sys.executable).with_name("trainyard"))
PATIENCE_SECONDS = 120
ENOUGH = 0.96


def main() -> int:
    """Returns the exit code of the demonstration."""
    began = time.monotonic()
    os.environ["XDG_STATE_HOME"] = str(PLACE / "state")
    with ExitStack() as stack:
        job_file = prepare(stack)
        uid_before = newest_uid()
        say("Training on two ranks; one of them is about to be killed.")
        training = subprocess.Popen(shown("run", "--fresh", job_file))
        stack.callback(training.terminate)
        kill_rank(training, uid_before)
        if training.wait():
            return training.returncode
        say("What lies in storage:")
        subprocess.run(shown("checkpoints", "digits"), check=True)
        say("Fetch the best one, verified on the way:")
        fetched = subprocess.run(
            shown("fetch", "digits", "best", "-d", PLACE / "best"),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.strip()
        print(fetched)
        return conclude(Path(fetched), job_file, time.monotonic() - began)


def prepare(stack: ExitStack) -> Path:
    """Write data and job; returns the job's file."""
    if not DATA.is_dir():
        say("Write scikit-learn's handwritten digits as an image folder:")
        subprocess.run(shown("data", "digits", DATA), check=True)
    try:
        access = stack.enter_context(S3(PLACE / "s3"))
    except ClusterError as error:
        say(f"Objects will lie in a folder, as there is no S3 server here: {error}")
        storage = {"uri": f"file://{PLACE / 'runs'}"}
        job = digits_job(storage=storage, dataset={"uri": f"file://{DATA}"})
        return write_job(job, PLACE / "digits.yaml")
    os.environ |= access.environment()
    count = upload_folder(access.endpoint, DATA, "datasets/digits")
    say(f"A local S3 server, versitygw, is up at {access.endpoint}: {count} files uploaded.")
    storage = {"uri": f"s3://{BUCKET}/runs", "endpoint": access.endpoint}
    dataset = {"uri": f"s3://{BUCKET}/datasets/digits", "mountPath": str(PLACE / "dataset")}
    return write_job(digits_job(storage=storage, dataset=dataset), PLACE / "digits.yaml")


def kill_rank(training: subprocess.Popen[bytes], uid_before: str | None) -> None:
    """SIGKILL rank 1 halfway, once a checkpoint is there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (uid := newest_uid()) in {None, uid_before} and time.monotonic() < deadline:
        time.sleep(0.1)
    attempt = PLACE / "state" / "trainyard" / "jobs" / "digits" / str(uid) / "a1"
    while time.monotonic() < deadline and training.poll() is None:
        if is_halfway(attempt):
            pid = int((attempt / "digits-worker-0" / "rank-1.pid").read_text())
            say(f"Half of the steps are done: SIGKILL to rank 1 (process {pid}).")
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.05)


def is_halfway(attempt: Path) -> bool:
    """Whether rank 0 reports half of the steps and a checkpoint."""
    try:
        report = json.loads((attempt / "digits-master-0" / "report.json").read_text())
    except FileNotFoundError:
        return False
    progress = report["progress"] or {}
    return bool(report["latest"]) and progress["step"] >= progress["steps"] / 2


def job_object() -> dict:
    """The TrainingJob as the client has it; empty before it exists."""
    got = subprocess.run(
        [TRAINYARD, "get", "digits", "-o", "json"], check=False, capture_output=True, text=True
    )
    return json.loads(got.stdout) if got.returncode == 0 else {}


def newest_uid() -> str | None:
    """Tells one run from the next."""
    return job_object().get("metadata", {}).get("uid")


def conclude(fetched: Path, job_file: Path, seconds: float) -> int:
    """Check what the checkpoint is worth, and say where everything lies."""
    weights = fetched if fetched.is_file() else fetched / "model.pt"
    accuracy = test_accuracy(weights, DATA)
    status = job_object()["status"]
    say(f"{weights.name} opens with torch.load and classifies {accuracy:.1%} of the test images.")
    print(
        f"  job       {job_file.relative_to(CHECKOUT)}: {status['phase']} in "
        f"{status['attempt']} attempts\n"
        f"  storage   {status['logs']['uri'].removesuffix('/logs')}\n"
        f"  weights   {weights.relative_to(CHECKOUT)}\n"
        f"  objects   {objects().relative_to(CHECKOUT)}, each a file\n"
        f"  took      {seconds:.0f} s\n"
        "The S3 server, if one was there, has ended with the demonstration. To go on by hand:\n"
        "  . .venv/bin/activate\n"
        f"  trainyard run configs/digits.yaml --storage runs --dataset {DATA.relative_to(CHECKOUT)}"
    )
    survived = status["phase"] == "Succeeded" and status["attempt"] == 2
    return 0 if survived and accuracy >= ENOUGH else 1


def objects() -> Path:
    """Where this machine keeps what the job stored."""
    bucket = PLACE / "s3" / BUCKET
    return bucket / "runs" if bucket.is_dir() else PLACE / "runs"


def shown(*arguments: object) -> list[str]:
    """The command line, printed first."""
    words = [str(argument) for argument in arguments]
    short = [word.removeprefix(f"{CHECKOUT}/") for word in words]
    print(f"$ trainyard {shlex.join(short)}", flush=True)
    return [TRAINYARD, *words]


def say(sentence: str) -> None:
    """One line for the person who watches."""
    print(f"\n{sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
