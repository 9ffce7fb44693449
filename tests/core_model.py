"""What may befall a job: the world of the model test, and the operators in it."""

from datetime import timedelta
from typing import Any, ClassVar

from core_cluster import Cluster
from core_objects import make_job, summary
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from trainyard_operator.contract import Cause, ExitCode
from trainyard_operator.status import JobStatus

ENDS = {
    "done": (0, summary(0, "every rank ended well")),
    "stored": (0, summary(0, "every rank ended well", result=True)),
    "plain": (1, "ValueError: bad"),
    "user": (1, summary(1, "rank 1: bad", cause=Cause.USER_EXIT, rank=1)),
    "peer": (ExitCode.PEER_LOST, summary(76, "rank 1: lost", cause=Cause.PEER_LOST)),
    "configuration": (ExitCode.CONFIGURATION, summary(78, "spec.config: bad")),
    "checkpointed": (ExitCode.CHECKPOINTED, summary(75, "saved")),
    "storage": (1, summary(1, "no answer", cause=Cause.STORAGE)),
    "odd": (3, '{"exit_code": "x", "message": 1}'),
}
EDITS = [
    {"nodes": 1},
    {"nodes": 2},
    {"nodes": 3},
    {"args": ["--fast"]},
    {"run_policy": {"clean_pod_policy": "All"}},
    {"run_policy": {"max_restarts": 1}},
    {"run_policy": {"ttl_seconds_after_finished": 20}},
]
SELDOM = 24


class World(RuleBasedStateMachine):
    """A cluster of one job; operators that die, look at old lists, and work two at once."""

    program: ClassVar[dict[str, Any]] = {}
    kind: ClassVar[type[Cluster]] = Cluster

    def __init__(self) -> None:
        super().__init__()
        self.cluster = self.kind(make_job(2, **self.program))
        self.saw_old_list = False
        self.highest = JobStatus()
        self.finished: JobStatus | None = None

    @initialize(
        restarts=st.sampled_from([0, 2, 2, 9]),
        ttl=st.sampled_from([None, None, 0, 50]),
        deadline=st.sampled_from([None, None, 600]),
        clean=st.sampled_from(["All", "Running", "None"]),
        spares=st.booleans(),
    )
    def a_job_is_created(
        self, restarts: int, ttl: int | None, deadline: int | None, clean: str, spares: bool
    ) -> None:
        policy = {
            "maxRestarts": restarts,
            "startupDeadlineSeconds": 300,
            "ttlSecondsAfterFinished": ttl,
            "activeDeadlineSeconds": deadline,
            "cleanPodPolicy": clean,
        }
        self.cluster = self.kind(make_job(2, runPolicy=policy, **self.program), spares=spares)

    # Pods and nodes

    @rule(index=st.integers(0, 2))
    def a_pod_starts(self, index: int) -> None:
        if name := self.name(index):
            self.cluster.start(name)

    @rule(index=st.integers(0, 2), why=st.sampled_from(["", "ErrImagePull", "OutOfcpu"]))
    def a_pod_cannot_start(self, index: int, why: str) -> None:
        name = self.name(index)
        if name and why == "OutOfcpu":
            self.cluster.refuse(name)
        elif name:
            self.cluster.wait(name, why, unschedulable="" if why else "no node is free.")

    @rule(index=st.integers(0, 2), how=st.sampled_from(sorted(ENDS)))
    def a_program_ends(self, index: int, how: str) -> None:
        if name := self.name(index):
            self.cluster.end(name, *ENDS[how])

    @rule(step=st.integers(0, 9), saved=st.sampled_from([None, None, 2, 5]))
    def rank_0_reports(self, step: int, saved: int | None) -> None:
        self.cluster.say(step, saved)

    @rule(index=st.integers(0, 2), grace=st.sampled_from([0, 30]))
    def somebody_deletes_a_pod(self, index: int, grace: int) -> None:
        if name := self.name(index):
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

    # People

    @rule(change=st.sampled_from(EDITS))
    def the_spec_is_edited(self, change: dict[str, Any]) -> None:
        spec = self.cluster.job.spec
        if policy := change.get("run_policy"):
            change = {"run_policy": spec.run_policy.model_copy(update=policy)}
        self.edit(change)

    @rule(suspend=st.booleans())
    def suspend_is_toggled(self, suspend: bool) -> None:
        policy = self.cluster.job.spec.run_policy
        self.edit({"run_policy": policy.model_copy(update={"suspend": suspend})})

    @rule(chance=st.integers(0, SELDOM))
    def somebody_deletes_the_job(self, chance: int) -> None:
        if chance == SELDOM:
            self.cluster.delete_job()

    @rule(chance=st.integers(0, SELDOM))
    def somebody_wipes_the_status(self, chance: int) -> None:
        """What was counted is lost; what pods and reports prove is found again."""
        if chance == SELDOM:
            self.cluster.status, self.cluster.version = JobStatus(), self.cluster.version + 1
            self.highest, self.finished = JobStatus(), None

    # Operators

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

    @rule()
    def another_operator_takes_over(self) -> None:
        """It does not know which orders were taken, nor what rank 0 said."""
        self.cluster.taken.clear()
        self.cluster.report = None

    @rule(seconds=st.sampled_from([0, 10]))
    def a_second_operator_writes_first(self, seconds: int) -> None:
        cluster = self.cluster
        cluster.refresh()
        version, decision = cluster.version, cluster.decide()
        cluster.now += timedelta(seconds=seconds)
        cluster.reconcile()
        if cluster.write(decision, version):
            cluster.execute(decision.actions)

    def name(self, index: int) -> str | None:
        """Of one of the pods that are there."""
        names = sorted(self.cluster.pods)
        return names[index] if index < len(names) else None

    def edit(self, change: dict[str, Any]) -> None:
        """The API server counts a generation for each change of the spec."""
        job = self.cluster.job
        spec = job.spec.model_copy(update=change)
        if spec != job.spec and not self.cluster.is_job_deleted:
            number = {"generation": job.metadata.generation + 1}
            metadata = job.metadata.model_copy(update=number)
            self.cluster.job = job.model_copy(update={"spec": spec, "metadata": metadata})
