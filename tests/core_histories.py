"""Any history of pods, nodes, people and operators keeps the promises of the plan.

The promises are the invariants below. TRAINYARD_EXAMPLES sets the number of histories of each of
the four kinds of job, where it is set.
"""

import os
from typing import Any, ClassVar

from core_cluster import Cluster
from core_kubeflow import KubeflowCluster
from core_model import World
from core_objects import RECIPE
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from trainyard_operator.contract import Cause, ExitCode, Label
from trainyard_operator.decision import Create, Decision, DeleteJob
from trainyard_operator.headway import PATIENCE
from trainyard_operator.plan import MENDABLE
from trainyard_operator.status import FINISHED, HISTORY_LENGTH

FAILURES = {
    "user": (1, {"cause": Cause.USER_EXIT}),
    "memory": (137, {"cause": Cause.OUT_OF_MEMORY}),
    "stall": (ExitCode.PEER_LOST, {"cause": Cause.STALLED}),
    "peer": (ExitCode.PEER_LOST, {}),
    "storage": (1, {"cause": Cause.STORAGE}),
    "configuration": (ExitCode.CONFIGURATION, {}),
}
"""Of ranks whose launcher then stands by."""


class Histories(World):
    """Of a plain program."""

    @invariant()
    def counters_never_go_back(self) -> None:
        before, now = self.highest, self.cluster.status
        assert now.attempt >= before.attempt
        assert now.formed_attempt >= before.formed_attempt
        assert now.restarts.user >= before.restarts.user
        assert now.restarts.infrastructure >= before.restarts.infrastructure
        faults = {fault.node: fault.attempts for fault in now.node_faults}
        assert all(faults[fault.node] >= fault.attempts for fault in before.node_faults)
        if before.headway:
            assert now.headway
            assert now.headway.step >= before.headway.step
        self.highest = now

    @invariant()
    def no_retry_budget_is_passed(self) -> None:
        status = self.cluster.status
        most = max(self.cluster.job.spec.run_policy.max_restarts, self.most_restarts)
        assert status.restarts.user <= most
        assert status.headway is None or status.headway.idle_restarts <= PATIENCE
        self.most_restarts = most

    most_restarts = 0
    """An edit may lower the budget below what is used up."""

    @invariant()
    def no_attempt_is_counted_twice(self) -> None:
        restarts = self.cluster.status.restarts
        assert restarts.user + restarts.infrastructure <= self.cluster.status.attempt

    @invariant()
    def no_launcher_works_on_an_attempt_that_the_status_does_not_know(self) -> None:
        """Nor any pod: a status that was wiped knows of no attempt until its pods are seen."""
        if self.cluster.status.attempt:
            pods = [*self.cluster.seen, *self.cluster.pods.values()]
            known = max(self.cluster.status.attempt, *(pod.attempt for pod in pods), 0)
            for pod in self.cluster.pods.values():
                assert self.cluster.launchers[pod.uid] <= known

    @invariant()
    def a_finished_job_never_runs_again(self) -> None:
        status = self.cluster.status
        if self.finished and status.phase not in FINISHED:
            assert self.finished.failure
            assert self.finished.failure.cause in MENDABLE
        self.finished = status if status.phase in FINISHED else None

    @invariant()
    def two_attempts_never_live_at_once(self) -> None:
        """As long as lists were fresh; what an old list breaks, storage's fencing bears."""
        if not self.saw_old_list:
            assert len({pod.attempt for pod in self.cluster.pods.values()}) <= 1

    @invariant()
    def conditions_and_phase_agree(self) -> None:
        status = self.cluster.status
        holds = {c.type for c in status.conditions if c.status == "True"}
        for phase in ("Running", "Suspended", "Succeeded", "Failed"):
            assert (phase in holds) == (status.phase == phase)
        assert len(status.history) <= HISTORY_LENGTH

    @invariant()
    def a_pod_is_made_only_for_the_live_attempt_and_beside_no_other(self) -> None:
        """Seen from the list that the decision was made from."""
        decision = self.cluster.decide()
        made = [a.manifest for a in decision.actions if isinstance(a, Create)]
        gang = {"Pod", "PyTorchJob"}
        labels = [m["metadata"]["labels"] for m in made if m["kind"] in gang]
        status = decision.status
        for label in labels:
            assert label[Label.ATTEMPT] == str(status.attempt)
            assert status.next_attempt_time is None
            assert status.phase == "Starting"
        if labels:
            assert {pod.attempt for pod in self.cluster.seen} <= {status.attempt}
            assert not self.cluster.is_job_deleted

    @invariant()
    def something_comes(self) -> None:
        """An unfinished job waits for a time, for a pod to change, or for an edit; and a pod that
        does not go is forced out, in every phase."""
        status, pods = self.cluster.status, tuple(self.cluster.pods.values())
        if self.cluster.is_job_deleted:
            return
        decision = self.cluster.decide_on(pods)
        is_news = bool(decision.actions) or decision.status != status
        if any(pod.is_deleting for pod in pods):
            assert decision.wake_at or is_news
        if status.phase not in {*FINISHED, "Suspended"}:
            assert decision.wake_at or is_news or pods
        self._is_expiry_safe(decision)

    def _is_expiry_safe(self, decision: Decision) -> None:
        """A job is not deleted while a pod of it may still save its logs."""
        if DeleteJob() in decision.actions:
            pods = self.cluster.pods.values()
            assert all(pod.is_finished or not pod.is_deleting for pod in pods)
            kept = self.cluster.job.spec.run_policy.clean_pod_policy == "None"
            assert kept or all(pod.is_finished for pod in pods)

    @rule()
    def a_settled_state_stays_as_it_is(self) -> None:
        self.cluster.settle()
        decision = self.cluster.decide()
        assert decision.status == self.cluster.status
        assert decision.events == ()
        if not self.cluster.is_job_deleted:
            newest = decision.status.pods_attempt or decision.status.attempt
            is_over = decision.status.phase in FINISHED
            for pod in self.cluster.pods.values():
                assert pod.attempt == newest or pod.is_deleting or is_over

    def teardown(self) -> None:
        """Once nothing goes wrong any more, the job reaches its end."""
        self.suspend_is_toggled(False)
        self.cluster.settle()  # An edit may start a job anew that had failed.
        for _ in range(40):
            if self.cluster.status.phase in FINISHED or self.cluster.is_job_deleted:
                break
            self.cluster.behave()
        assert self.cluster.is_job_deleted or self.cluster.status.phase in FINISHED
        self.cluster.kubelets()
        self.cluster.settle()
        if self.cluster.job.spec.run_policy.clean_pod_policy != "None":
            assert all(pod.is_finished or pod.is_deleting for pod in self.cluster.pods.values())


class HistoriesOfElasticJobs(Histories):
    """The same, of a job that goes on with fewer nodes."""

    program: ClassVar[dict[str, Any]] = {"elastic": {"minNodes": 1, "maxNodes": 3}}

    @invariant()
    def never_fewer_nodes_than_the_least(self) -> None:
        elastic = self.cluster.status.elastic
        assert elastic is None or elastic.nodes >= 1


class HistoriesOfKubeflow(Histories):
    """The same, where Kubeflow's training-operator makes the pods."""

    program: ClassVar[dict[str, Any]] = {"backend": "kubeflow"}
    kind: ClassVar[type[Cluster]] = KubeflowCluster

    @rule()
    def kubeflows_operator_passes(self) -> None:
        self.cluster.others_pass()


class HistoriesInPlace(Histories):
    """The same, of a recipe: launchers stand by and take orders."""

    program: ClassVar[dict[str, Any]] = RECIPE

    @rule(index=st.integers(0, 2), how=st.sampled_from(sorted(FAILURES)), step=st.integers(-1, 9))
    def ranks_fail_and_their_launcher_stands_by(self, index: int, how: str, step: int) -> None:
        """step: how far the attempt got; -1: it never reported."""
        if name := self.name(index):
            code, fields = FAILURES[how]
            attempt = self.cluster.launchers[self.cluster.pods[name].uid]
            last = {"attempt": attempt, "time": "2026-01-01T12:00:00Z", "progress": {"step": step}}
            self.cluster.stand_by(name, code, **fields, report=last if step >= 0 else None)

    @rule(index=st.integers(0, 2))
    def a_launcher_gives_up_waiting(self, index: int) -> None:
        if name := self.name(index):
            self.cluster.give_up(name)


def check(machine: type[World], examples: int) -> None:
    wanted = int(os.environ.get("TRAINYARD_EXAMPLES", examples))
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=wanted,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=quiet,
        ),
    )


MACHINES = (Histories, HistoriesOfElasticJobs, HistoriesOfKubeflow, HistoriesInPlace)
