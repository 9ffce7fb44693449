"""`make recipes`: each recipe's example as a TrainingJob on the two-node cluster, killed once.

    python tests/recipes/on_cluster.py [--only skin-lesion csr] [--data FOLDER]

Data is drawn by `trainyard synth`, or found in FOLDER where an earlier run left it, and uploaded;
when the job has done 40 % of its steps, a pod is deleted by force. It prints what each job took,
beside the machine's load, and a row for each naive method that its metric is compared with.
Exit code 1: a job did not succeed, was not restarted, did not beat a method by its margin, or its
report's title does not say whether its data is synthetic.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cluster import fullcluster
from cluster.namespace import prepare_namespace
from demo.cluster import use_cluster
from demo.install import install
from demo.jobs import BUCKET, CHECKOUT, cluster_template, upload_folder
from e2e.kube import TRAINYARD, Namespace
from recipes.baselines import Ended, is_titled_rightly
from recipes.examples import EXAMPLES, Claim, Example

NAMESPACE = "recipes"
KILL_AT_PERCENT = 40
HEADER = (
    *("RECIPE", "SECONDS", "LOAD", "ATTEMPTS"),
    *("METRIC", "VALUE", "NAIVE", "MARGIN", "METHOD", ""),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One naive method beside one example."""

    recipe: str
    seconds: float
    """From `kubectl apply` to the end, with the restart."""
    load: float
    """Average of the last minute, the job's own processes included."""
    attempts: int
    claim: Claim
    value: float
    naive: float

    @property
    def is_good(self) -> bool:
        """Whether it was killed, ended, and beat the naive method by the margin."""
        return self.attempts == 2 and self.value >= self.naive + self.claim.margin

    def cells(self) -> tuple[str, ...]:
        """In the order of HEADER."""
        claim = self.claim
        value, naive, margin = (
            f"{figure:.3f}" for figure in (self.value, self.naive, claim.margin)
        )
        took = (f"{self.seconds:.0f}", f"{self.load:.1f}", str(self.attempts))
        told = (self.recipe, *took, claim.metric)
        return *told, value, naive, margin, claim.method, "ok" if self.is_good else "FAILED"


def main() -> int:
    """Returns the exit code."""
    options = parse()
    names = options.only or list(EXAMPLES)
    use_cluster()
    install()
    prepare_namespace(NAMESPACE)
    namespace = Namespace(NAMESPACE, dict(os.environ))
    rows: list[Row] = []
    failures = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            data = (options.data or Path(folder)) / f"data-{name}"
            try:
                rows += run_example(namespace, name, data, Path(folder))
            except (AssertionError, subprocess.CalledProcessError) as error:
                failures.append(f"{name}: {error}")
    print(*table(rows), *failures, sep="\n")
    return 0 if not failures and all(row.is_good for row in rows) else 1


def run_example(namespace: Namespace, recipe: str, data: Path, folder: Path) -> list[Row]:
    """data: drawn unless it is there. folder: for what the job leaves.

    Raises AssertionError, with events and logs, where the job does not succeed; and where its
    report's title is silent on synthetic data.
    """
    example, endpoint = EXAMPLES[recipe], fullcluster.s3_access().endpoint
    if not data.exists():
        write_data(example, data)
    upload_folder(endpoint, data, f"datasets/recipes/{recipe}")
    job = build_job(example, endpoint, f"s3://{BUCKET}/datasets/recipes/{recipe}")
    name = job["metadata"]["name"]
    namespace.kubectl("delete", "tj", name, "--ignore-not-found")
    began = time.monotonic()
    namespace.apply(job)
    namespace.wait_until(name, is_under_way, "under way")
    pod = ("pod", f"{name}-worker-0")
    namespace.kubectl("delete", *pod, "--force", "--grace-period=0")
    status = namespace.wait_for_phase(name, "Succeeded")
    seconds, load = time.monotonic() - began, os.getloadavg()[0]
    ended = fetch(namespace, name, folder, data)
    assert is_titled_rightly(ended), "the report's title does not say whether data is synthetic"
    return [
        Row(
            recipe=recipe,
            seconds=seconds,
            load=load,
            attempts=status["attempt"],
            claim=claim,
            value=ended.metrics[claim.metric],
            naive=claim.naive(ended),
        )
        for claim in example.claims
    ]


def write_data(example: Example, data: Path) -> None:
    """As the example's first lines say; whole, or not there."""
    partial = data.with_name(f"{data.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    words = [word.format(partial) for word in example.data]
    subprocess.run([TRAINYARD, *words], check=True, stdout=subprocess.DEVNULL)
    partial.rename(data)


def build_job(example: Example, endpoint: str, dataset: str) -> dict[str, Any]:
    """configs/<config>.yaml for this cluster."""
    job: dict[str, Any] = yaml.safe_load((CHECKOUT / f"configs/{example.config}.yaml").read_text())
    job["spec"]["storage"]["endpoint"] = endpoint
    job["spec"]["dataset"]["uri"] = dataset
    job["spec"]["template"] = cluster_template()
    return job


def is_under_way(status: dict[str, Any]) -> bool:
    """Whether it is time to delete a pod: steps are done, and a checkpoint is there."""
    percent = (status.get("progress") or {}).get("percent", 0)
    has_saved = bool((status.get("checkpoints") or {}).get("latest"))
    return percent >= KILL_AT_PERCENT and has_saved


def fetch(namespace: Namespace, name: str, folder: Path, data: Path) -> Ended:
    """The job's result and reports, beside its data."""
    for what in ("metrics", "report"):
        namespace.trainyard("fetch", name, "--what", what, "-d", str(folder / "found"))
    result = json.loads((folder / "found" / "result.json").read_text())
    return Ended(result["metrics"], folder / "found" / "reports", data)


def table(rows: list[Row]) -> list[str]:
    """Aligned lines."""
    cells = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def parse() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(EXAMPLES), metavar="RECIPE")
    parser.add_argument("--data", type=Path, metavar="FOLDER")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
