"""Whatever an operator was doing when it died, the next one brings the job to the same end.

Each tale is lived once without a fault. Then it is lived again for every pass of the operator and
every part of that pass's actions that may have been carried out: actions go out at the same time,
so any of them may be missing, and not only the last.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, combinations

import pytest
from core_cluster import Cluster
from core_objects import RECIPE, make_job, summary

from trainyard_operator.contract import Cause
from trainyard_operator.decision import Action, Decision

OWN = summary(1, "rank 1: bad", cause=Cause.USER_EXIT, rank=1)
MASTER, WORKER = "nodules-master-0", "nodules-worker-0"


class Killed(Exception):
    """The operator died."""


@dataclass
class Fragile(Cluster):
    """A cluster whose operator dies once: in that pass, with only those actions carried out."""

    fatal_pass: int = -1
    survivors: tuple[int, ...] | None = None
    """Indices of the actions that were carried out; None: not even the status was written."""
    passes: list[int] = field(default_factory=list)
    """How many actions each pass had."""

    def reconcile(self) -> Decision:
        """One pass; after a death another operator, which knows nothing, takes over."""
        if len(self.passes) != self.fatal_pass:
            decision = super().reconcile()
            self.passes.append(len(decision.actions))
            return decision
        self.refresh()
        decision = self.decide()
        self.passes.append(len(decision.actions))
        if self.survivors is not None:
            assert self.write(decision, self.version)
            self.execute(tuple(decision.actions[index] for index in self.survivors))
        self.taken.clear()
        self.report = None
        self.settle()
        return super().reconcile()


Tale = Callable[[Cluster], None]


def run(cluster: Cluster) -> None:
    """Until the gang runs."""
    cluster.settle()
    for name in sorted(cluster.pods):
        cluster.start(name)
    cluster.settle()


def wait(cluster: Cluster) -> None:
    """Until the next thing that time alone brings."""
    cluster.kubelets()
    cluster.settle()
    if cluster.wake_at:
        cluster.now = max(cluster.now, cluster.wake_at)
    cluster.settle()


def change(cluster: Cluster, **policy: object) -> None:
    """Somebody edits runPolicy."""
    job = cluster.job
    policies = job.spec.run_policy.model_copy(update=policy)
    spec = job.spec.model_copy(update={"run_policy": policies})
    metadata = job.metadata.model_copy(update={"generation": job.metadata.generation + 1})
    cluster.job = job.model_copy(update={"spec": spec, "metadata": metadata})
    cluster.settle()


def fail(cluster: Cluster) -> None:
    cluster.end(WORKER, 1, OWN)
    cluster.settle()


def succeed(cluster: Cluster) -> None:
    for name in sorted(cluster.pods):
        cluster.end(name, 0, summary(0, "done", result=name == MASTER), "Completed")
    cluster.settle()


def a_failure(cluster: Cluster) -> None:
    run(cluster)
    fail(cluster)
    wait(cluster)
    run(cluster)
    succeed(cluster)


def a_failure_in_place(cluster: Cluster) -> None:
    run(cluster)
    cluster.stand_by(WORKER, 1, cause=Cause.USER_EXIT)
    cluster.stand_by(MASTER, 76, cause=Cause.PEER_LOST)
    cluster.settle()
    succeed(cluster)


def a_lost_node(cluster: Cluster) -> None:
    run(cluster)
    cluster.lose_node(1)
    cluster.end(MASTER, 76, summary(76, "rank 0: lost rank 1", cause=Cause.PEER_LOST))
    cluster.settle()
    wait(cluster)
    wait(cluster)
    run(cluster)
    succeed(cluster)


def a_suspension(cluster: Cluster) -> None:
    run(cluster)
    change(cluster, suspend=True)
    wait(cluster)
    change(cluster, suspend=False)
    run(cluster)
    succeed(cluster)


def a_suspension_in_a_back_off(cluster: Cluster) -> None:
    run(cluster)
    fail(cluster)
    change(cluster, suspend=True)
    wait(cluster)
    change(cluster, suspend=False)
    wait(cluster)
    run(cluster)


def a_bad_node_and_no_other(cluster: Cluster) -> None:
    cluster.spares = False
    for _ in range(2):
        run(cluster)
        fail(cluster)
        wait(cluster)
    run(cluster)
    assert cluster.pods[WORKER].unschedulable
    wait(cluster)  # It insists no more,
    wait(cluster)  # and its pods are gone.
    run(cluster)
    succeed(cluster)


def an_edit(cluster: Cluster) -> None:
    run(cluster)
    job = cluster.job
    spec = job.spec.model_copy(update={"nodes": 3})
    cluster.job = job.model_copy(update={"spec": spec})
    wait(cluster)
    run(cluster)
    succeed(cluster)


def a_deadline(cluster: Cluster) -> None:
    change(cluster, active_deadline_seconds=100)
    run(cluster)
    wait(cluster)
    wait(cluster)


def a_start_that_takes_too_long(cluster: Cluster) -> None:
    cluster.settle()
    cluster.wait(MASTER, "ErrImagePull")
    wait(cluster)
    wait(cluster)


def an_expiry(cluster: Cluster) -> None:
    change(cluster, ttl_seconds_after_finished=60, clean_pod_policy="All")
    run(cluster)
    cluster.end(MASTER, 0, summary(0, "done", result=True))
    cluster.settle()
    wait(cluster)  # The worker lingers.
    wait(cluster)
    wait(cluster)


def a_deletion(cluster: Cluster) -> None:
    run(cluster)
    fail(cluster)
    cluster.delete_job()
    cluster.settle()
    cluster.kubelets()


def no_restart_left(policy: str) -> Tale:
    def tale(cluster: Cluster) -> None:
        change(cluster, max_restarts=0, clean_pod_policy=policy)
        run(cluster)
        fail(cluster)
        wait(cluster)

    return tale


TALES: dict[str, tuple[Tale, dict, str]] = {
    "a failure": (a_failure, {}, "Succeeded"),
    "a failure in place": (a_failure_in_place, RECIPE, "Succeeded"),
    "a lost node": (a_lost_node, {}, "Succeeded"),
    "a bad node and no other": (a_bad_node_and_no_other, {}, "Succeeded"),
    "a suspension": (a_suspension, {}, "Succeeded"),
    "a suspension in a back-off": (a_suspension_in_a_back_off, {}, "Running"),
    "an edit": (an_edit, {}, "Succeeded"),
    "a deadline": (a_deadline, {}, "Failed"),
    "a start that takes too long": (a_start_that_takes_too_long, {}, "Failed"),
    "an expiry": (an_expiry, {}, "Succeeded"),
    "a deletion": (a_deletion, {}, "Restarting"),
    "clean All": (no_restart_left("All"), {}, "Failed"),
    "clean Running": (no_restart_left("Running"), {}, "Failed"),
    "clean None": (no_restart_left("None"), {}, "Failed"),
}


def live(tale: Tale, program: dict, **death) -> Fragile:
    cluster = Fragile(make_job(2, **program), **death)
    tale(cluster)
    return cluster


def outcome(cluster: Cluster) -> dict:
    """All that matters of how it ended."""
    status = cluster.status
    return {
        "status": status.model_copy(update={"history": []}),
        "told": [(entry.type, entry.attempt, entry.message) for entry in status.history],
        "pods": {
            name: (pod.attempt, pod.phase, pod.deadline, cluster.launchers[pod.uid])
            for name, pod in cluster.pods.items()
        },
        "made": sorted((attempt, index) for _, attempt, index in cluster.made),
        "deleted": cluster.is_job_deleted,
    }


def deaths(passes: list[int]) -> Iterator[dict]:
    """Every pass, with every part of its actions."""
    for number, count in enumerate(passes):
        parts = chain.from_iterable(combinations(range(count), n) for n in range(count + 1))
        for survivors in (None, *parts):
            yield {"fatal_pass": number, "survivors": survivors}


@pytest.mark.parametrize(("tale", "program", "phase"), TALES.values(), ids=TALES)
def test_the_next_operator_brings_the_job_to_the_same_end(tale, program, phase):
    undisturbed = live(tale, program)
    expected = outcome(undisturbed)
    assert expected["status"].phase == phase
    assert sum(undisturbed.passes) >= 3
    for death in deaths(undisturbed.passes):
        assert outcome(live(tale, program, **death)) == expected, death


def test_the_tales_hold_every_kind_of_action():
    kinds: set[type[Action]] = set()

    class Listening(Fragile):
        def execute(self, actions: tuple[Action, ...]) -> None:
            kinds.update(map(type, actions))
            super().execute(actions)

    for tale, program, _ in TALES.values():
        tale(Listening(make_job(2, **program)))
    assert {kind.__name__ for kind in kinds} == {
        "Create",
        "DeletePod",
        "DeleteJob",
        "OrderAttempt",
    }
