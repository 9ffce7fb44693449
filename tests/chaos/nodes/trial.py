"""Jobs under one kind of fault, again and again, beside one that was left alone."""

import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos import compare
from chaos.nodes import operators
from chaos.nodes.arena import Arena, Mark
from chaos.nodes.faults import FAULTS, Fault, struck
from chaos.nodes.nodes import SPREAD, mend_nodes
from cluster import fullcluster
from cluster.console import ClusterError
from cluster.namespace import prepare_namespace
from demo.jobs import BUCKET, cluster_template, digits_job
from integration.api_server import ApiServer, Namespace

from trainyard_operator.layout import run_prefix
from trainyard_trainer.manifest import list_manifests
from trainyard_trainer.storage import Storage, open_storage

RANKS = 2
EPOCHS, BATCH = 80, 20
"""1,200 steps over 300 images: what is measured is not how fast images are fetched."""
STEPS_BETWEEN = 20
"""That far an attempt has to come before the next fault."""
LAST_SHARE = 0.85
"""Beyond this share of its steps a job is left to its end, and the next fault meets another."""
END_SECONDS = 240
FAILURES = (AssertionError, ClusterError, OSError)
"""What a fault or a job that does not recover raises."""
MOST_LINES = 20
"""Of what differs between two runs."""
RESOURCES = {"limits": {"memory": "1500Mi"}, "requests": {"cpu": "100m"}}


@dataclass(frozen=True)
class Blow:
    """One fault and what it cost."""

    fault: str
    seconds: float
    """To the next trained step."""
    repeated: int
    """Steps that were trained before and had to be trained again, as far as reports knew."""
    lost: str = ""
    """What the status had named as saved and was not found; empty: nothing."""


@dataclass
class Trial:
    """One job, what it went through, and what differs from the run that was left alone."""

    job: str
    blows: list[Blow] = field(default_factory=list)
    found: list[str] = field(default_factory=list)


@dataclass
class Court:
    """Runs jobs in one namespace of the test cluster."""

    dataset: str
    epochs: int = EPOCHS
    seed: int = 1
    calm: str = ""
    """Where the run lies that was left alone; empty before it was."""
    jobs: int = 0

    def __post_init__(self) -> None:
        name = f"chaos-{uuid.uuid4().hex[:6]}"
        prepare_namespace(name)
        namespace = Namespace(ApiServer(fullcluster.control_plane()), name)
        self.endpoint = fullcluster.s3_access().endpoint
        self.arena = Arena(namespace, self.make_job, random.Random(self.seed))

    def close(self) -> None:
        """Everything in the cluster goes; what lies in S3 stays."""
        space = self.arena.namespace
        space.api.must("DELETE", f"/api/v1/namespaces/{space.name}")

    def make_job(self, name: str, **spec: Any) -> dict[str, Any]:
        """The job that all trials run, with a fault's own fields of the spec."""
        template = cluster_template()
        template["spec"]["affinity"] = SPREAD
        policy = {"maxRestarts": 1000} | spec.pop("runPolicy", {})
        storage = {
            "uri": f"s3://{BUCKET}/chaos",
            "endpoint": self.endpoint,
            "credentialsSecretRef": {"name": "s3-credentials"},
        }
        fields = {
            "storage": storage,
            "dataset": {"uri": self.dataset, "mountPath": "/data"},
            "template": template,
            "resources": RESOURCES,
            "checkpoint": {"everySteps": 50, "keepLast": 3},
            "runPolicy": policy,
        }
        job = digits_job(**fields | spec)
        job["metadata"] = {"name": name, "namespace": self.arena.namespace.name}
        job["spec"]["config"]["training"] |= {
            "epochs": self.epochs,
            "batch_size": BATCH,
            "seed": self.seed,
        }
        return job

    def has_calm_run(self) -> bool:
        """Whether the run that was left alone still lies in S3."""
        return bool(self.calm) and bool(list_manifests(self.open(self.calm)).valid)

    def leave_alone(self) -> float:
        """Run the job that the others are compared with; returns its seconds."""
        began = time.monotonic()
        self.arena.submit("calm")
        self.finish()
        self.calm = self.place()
        return time.monotonic() - began

    def judge(self, faults: Sequence[Fault], keep: Callable[[Trial], None], until: float) -> None:
        """The faults in this order, in as many jobs as that takes; `keep` gets each job's trial.

        faults: all with the same `spec`. until: on the monotonic clock; no fault strikes later.
        """
        waiting = list(faults)
        while waiting and time.monotonic() < until:
            self.jobs += 1
            trial = Trial(job=f"{self.arena.namespace.name}/job-{self.jobs}")
            self.arena.submit(f"job-{self.jobs}", **waiting[0].spec)
            try:
                self.attack(waiting, trial, until)
                mend_nodes()
                self.finish()
                causes = (FAULTS[blow.fault].causes for blow in trial.blows)
                trial.found += self.differences(frozenset().union(*causes))
            except FAILURES as error:
                trial.found.append(str(error))
            keep(trial)
            self.arena.namespace.delete(self.arena.name)

    def attack(self, waiting: list[Fault], trial: Trial, until: float) -> None:
        """One fault after the other while there are steps for them; those done leave the list."""
        while waiting and time.monotonic() < until:
            if not waiting[0].same_attempt:
                operators.wait_until_led()
            if not self.arena.wait_until_trained(STEPS_BETWEEN, LAST_SHARE):
                return
            fault = waiting.pop(0)
            try:
                blow = self.blow(fault)
            except FAILURES as error:
                trial.found.append(f"{fault.name}: {error}")
                return
            print(f"    {blow.fault}: {blow.seconds:.1f} s, {blow.repeated} steps", flush=True)
            trial.blows.append(blow)
            trial.found += [blow.lost] if blow.lost else []

    def blow(self, fault: Fault) -> Blow:
        """One fault, until the job has trained again and the cluster is whole."""
        mark = self.arena.mark()
        with struck(fault, self.arena):
            mark = Mark() if fault.makes_anew else mark
            seconds, report = self.arena.next_step(mark, same_attempt=fault.same_attempt)
        if fault.same_attempt:
            return Blow(fault.name, seconds, 0)
        resumed = report.get("resumed_step") or 0
        is_lost = resumed < mark.saved
        lost = f"resumed from step {resumed}, step {mark.saved} was saved" if is_lost else ""
        return Blow(fault.name, seconds, max(mark.step - resumed, 0), lost)

    def finish(self) -> None:
        """Until the job has succeeded."""
        self.arena.wait(lambda: self.arena.status().get("phase") == "Succeeded", "Succeeded", 0.5)

    def differences(self, causes: frozenset[str]) -> list[str]:
        """What the job's storage and status do not have in common with the calm run."""
        stores = (self.open(self.calm), self.open(self.place()))
        found = compare.differences(*stores, RANKS)
        status = self.arena.status()
        reasons = {e["reason"] for e in status["history"] if e["type"] in {"Restarted", "Edited"}}
        if strange := reasons - causes:
            found.append(f"history: restarted for {', '.join(sorted(strange))}")
        return found[:MOST_LINES]

    def place(self) -> str:
        """Where the arena's job keeps its run."""
        meta = self.arena.namespace.job(self.arena.name)["metadata"]
        return f"s3://{BUCKET}/chaos/{run_prefix(meta['namespace'], meta['name'], meta['uid'])}"

    def open(self, uri: str) -> Storage:
        """A run's storage."""
        return open_storage(uri, endpoint=self.endpoint)
