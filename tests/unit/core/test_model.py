"""Any history of pods, nodes, edits and operator failures keeps the promises of the plan.

TRAINYARD_EXAMPLES sets the number of histories (default 30; 10,000 for a long run).
"""

import os
from dataclasses import replace
from datetime import timedelta

from core_cluster import Cluster
from core_objects import RECIPE, make_job, summary
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trainyard_operator.contract import Cause, ExitCode
from trainyard_operator.plan import MENDABLE
from trainyard_operator.status import FINISHED, JobStatus

MAX_RESTARTS = 2
ENDS = {
    "done": (0, summary(0, "every rank ended well")),
    "stored": (0, summary(0, "every rank ended well", result=True)),
    "plain": (1, "ValueError: bad"),
    "user": (1, summary(1, "rank 1: bad", cause=Cause.USER_EXIT, rank=1)),
    "peer": (ExitCode.PEER_LOST, summary(76, "rank 1: lost", cause=Cause.PEER_LOST)),
    "configuration": (ExitCode.CONFIGURATION, summary(78, "spec.config: bad")),
    "checkpointed": (ExitCode.CHECKPOINTED, summary(75, "saved")),
    "odd": (3, '{"exit_code": "x", "message": 1}'),
}


FAILURES = {
    "user": (1, {"cause": Cause.USER_EXIT}),
    "memory": (137, {"cause": Cause.OUT_OF_MEMORY}),
    "stall": (ExitCode.PEER_LOST, {"cause": Cause.STALLED}),
    "peer": (ExitCode.PEER_LOST, {}),
    "storage": (1, {"cause": Cause.STORAGE}),
    "configuration": (ExitCode.CONFIGURATION, {}),
}
"""Of ranks whose launcher then stands by."""


class Histories(RuleBasedStateMachine):
    program: dict = {}

    def __init__(self) -> None:
        super().__init__()
        policy = {"maxRestarts": MAX_RESTARTS, "startupDeadlineSeconds": 300}
        self.cluster = Cluster(make_job(2, runPolicy=policy, **self.program))
        self.highest = JobStatus()
        self.finished: JobStatus | None = None
        self.saw_old_list = False

    # What the world does

    @rule(index=st.integers(0, 2))
    def a_pod_starts(self, index: int) -> None:
        if name := self._name(index):
            self.cluster.start(name)

    @rule(index=st.integers(0, 2), how=st.sampled_from(sorted(ENDS)))
    def a_program_ends(self, index: int, how: str) -> None:
        if name := self._name(index):
            self.cluster.end(name, *ENDS[how])

    @rule(index=st.integers(0, 2), grace=st.sampled_from([0, 30]))
    def somebody_deletes_a_pod(self, index: int, grace: int) -> None:
        if name := self._name(index):
            self.cluster.delete(name, self.cluster.pods[name].uid, grace)

    @rule()
    def kubelets_finish_deletions(self) -> None:
        self.cluster.kubelets()

    @rule(index=st.integers(0, 2))
    def a_node_is_lost(self, index: int) -> None:
        self.cluster.lose_node(index)

    @rule()
    def nodes_come_back(self) -> None:
        self.cluster.lost_nodes.clear()

    @rule(seconds=st.sampled_from([1, 10, 90, 400]))
    def time_passes(self, seconds: int) -> None:
        self.cluster.now += timedelta(seconds=seconds)

    @rule()
    def the_clock_jumps_back(self) -> None:
        self.cluster.now -= timedelta(seconds=5)

    @rule(change=st.sampled_from([{"nodes": 1}, {"nodes": 2}, {"nodes": 3}, {"args": ["--fast"]}]))
    def the_spec_is_edited(self, change: dict) -> None:
        self._edit(self.cluster.job.spec.model_copy(update=change))

    @rule(suspend=st.booleans())
    def suspend_is_toggled(self, suspend: bool) -> None:
        spec = self.cluster.job.spec
        policy = spec.run_policy.model_copy(update={"suspend": suspend})
        self._edit(spec.model_copy(update={"run_policy": policy}))

    # What operators do

    @rule()
    def the_operator_passes(self) -> None:
        self.cluster.reconcile()

    @rule()
    def the_operator_passes_on_an_old_list(self) -> None:
        self.saw_old_list |= self.cluster.seen != tuple(self.cluster.pods.values())
        decision = self.cluster.decide()
        self.cluster.write(decision, self.cluster.version)
        self.cluster.execute(decision.actions)

    @rule(executed=st.integers(0, 3))
    def the_operator_dies_between_status_and_actions(self, executed: int) -> None:
        self.cluster.refresh()
        decision = self.cluster.decide()
        self.cluster.write(decision, self.cluster.version)
        self.cluster.execute(decision.actions[:executed])

    @rule(seconds=st.sampled_from([0, 10]))
    def a_second_operator_writes_first(self, seconds: int) -> None:
        cluster = self.cluster
        cluster.refresh()
        version, decision = cluster.version, cluster.decide()
        cluster.now += timedelta(seconds=seconds)
        cluster.reconcile()
        if cluster.write(decision, version):
            cluster.execute(decision.actions)

    # What must hold

    @invariant()
    def counters_never_go_back(self) -> None:
        before, now = self.highest, self.cluster.status
        assert now.attempt >= before.attempt
        assert now.formed_attempt >= before.formed_attempt
        assert now.restarts.user >= before.restarts.user
        assert now.restarts.infrastructure >= before.restarts.infrastructure
        self.highest = now

    @invariant()
    def own_failures_restart_at_most_max_restarts_times(self) -> None:
        assert self.cluster.status.restarts.user <= MAX_RESTARTS

    @invariant()
    def no_attempt_is_counted_twice(self) -> None:
        restarts = self.cluster.status.restarts
        assert restarts.user + restarts.infrastructure <= self.cluster.status.attempt

    @invariant()
    def no_launcher_works_on_an_attempt_that_the_status_does_not_know(self) -> None:
        for pod in self.cluster.pods.values():
            assert self.cluster.launchers[pod.uid] <= self.cluster.status.attempt

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
    def an_attempt_begins_only_without_pods_of_another(self) -> None:
        """Seen from the list that the decision was made from."""
        decision = self.cluster.decide()
        creates = [a.manifest for a in decision.actions if hasattr(a, "manifest")]
        if creates:
            assert {pod.attempt for pod in self.cluster.seen} <= {decision.status.attempt}

    @rule()
    def a_settled_state_stays_as_it_is(self) -> None:
        self.cluster.settle()
        decision = self.cluster.decide()
        assert decision.status == self.cluster.status
        assert decision.events == ()

    @invariant()
    def an_unfinished_job_waits_for_something(self) -> None:
        """For a time, for a pod to change, or for an edit."""
        status = self.cluster.status
        if status.phase in {*FINISHED, "Suspended"}:
            return
        decision = self.cluster.decide_on(tuple(self.cluster.pods.values()))
        comes = decision.wake_at or decision.actions or decision.status != status
        assert comes or self.cluster.pods

    def teardown(self) -> None:
        """Once nothing goes wrong any more, the job reaches its end."""
        self.suspend_is_toggled(False)
        self.cluster.settle()  # An edit may start a job anew that had failed.
        for _ in range(40):
            if self.cluster.status.phase in FINISHED:
                break
            self.cluster.behave()
        assert self.cluster.status.phase in FINISHED, self.cluster.status
        self.cluster.kubelets()
        self.cluster.settle()
        assert all(pod.is_finished or pod.is_deleting for pod in self.cluster.pods.values())

    def _name(self, index: int) -> str | None:
        names = sorted(self.cluster.pods)
        return names[index] if index < len(names) else None

    def _edit(self, spec) -> None:
        job = self.cluster.job
        if spec != job.spec:
            generation = job.metadata.generation + 1
            metadata = job.metadata.model_copy(update={"generation": generation})
            self.cluster.job = job.model_copy(update={"spec": spec, "metadata": metadata})


class HistoriesOfElasticJobs(Histories):
    """The same, of a job that goes on with fewer nodes."""

    program = {"elastic": {"minNodes": 1, "maxNodes": 3}}

    @rule(index=st.integers(0, 2))
    def no_node_has_room_for_a_pod(self, index: int) -> None:
        pod = self.cluster.pods.get(self._name(index) or "")
        if pod and pod.node is None:
            self.cluster.pods[pod.name] = replace(pod, unschedulable="no room")

    @invariant()
    def never_fewer_nodes_than_the_least(self) -> None:
        elastic = self.cluster.status.elastic
        assert elastic is None or elastic.nodes >= 1


class HistoriesInPlace(Histories):
    """The same, of a recipe: launchers stand by and take orders."""

    program = RECIPE

    @rule(index=st.integers(0, 2), how=st.sampled_from(sorted(FAILURES)), report=st.booleans())
    def ranks_fail_and_their_launcher_stands_by(self, index: int, how: str, report: bool) -> None:
        """report: whether the attempt got anywhere."""
        if name := self._name(index):
            code, fields = FAILURES[how]
            attempt = self.cluster.launchers[self.cluster.pods[name].uid]
            last = {"attempt": attempt, "time": "2026-01-01T12:00:00Z", "progress": {"step": 7}}
            self.cluster.stand_by(name, code, **fields, report=last if report else None)

    @rule(index=st.integers(0, 2))
    def a_launcher_gives_up_waiting(self, index: int) -> None:
        if name := self._name(index):
            self.cluster.give_up(name)

    @rule()
    def another_operator_takes_over(self) -> None:
        """It does not know which orders were taken."""
        self.cluster.taken.clear()


TestHistories = Histories.TestCase
TestHistoriesOfElasticJobs = HistoriesOfElasticJobs.TestCase
TestHistoriesInPlace = HistoriesInPlace.TestCase
TestHistories.settings = TestHistoriesOfElasticJobs.settings = TestHistoriesInPlace.settings = (
    settings(
        max_examples=int(os.environ.get("TRAINYARD_EXAMPLES", "30")),
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
)
