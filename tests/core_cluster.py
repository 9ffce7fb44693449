"""A cluster of one job in memory: it carries out decisions as the operator and kubelets would."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from core_objects import DEFAULTS, T0, standing_by, summary

from trainyard_operator.api import TrainingJob
from trainyard_operator.contract import Annotation, Env, Label, Report, now_text
from trainyard_operator.decision import (
    Action,
    Create,
    Decision,
    DeleteJob,
    DeletePod,
    OrderAttempt,
)
from trainyard_operator.observed import Observed, PodRecord, Terminated, Waiting
from trainyard_operator.plan import plan
from trainyard_operator.status import JobStatus

GRACE = 60
"""Of every pod, in seconds."""


@dataclass
class Cluster:
    """The API server's truth: the job, its status, its pods, and the time."""

    job: TrainingJob
    status: JobStatus = field(default_factory=JobStatus)
    pods: dict[str, PodRecord] = field(default_factory=dict)
    now: datetime = T0
    seen: tuple[PodRecord, ...] = ()
    """The operator's cached list."""
    lost_nodes: set[str] = field(default_factory=set)
    is_job_deleted: bool = False
    wake_at: datetime | None = None
    made: set[tuple[str, int, int]] = field(default_factory=set)
    """(uid, attempt, node index) of every pod ever made."""
    launchers: dict[str, int] = field(default_factory=dict)
    """Attempt that each pod's launcher works on, by the pod's uid."""
    taken: dict[str, int] = field(default_factory=dict)
    """Orders of which the operator remembers that they were taken, by the pod's uid."""
    version: int = 0
    """Of the status: a write that expects another one is refused."""
    serial: int = 0
    report: Report | None = None
    """What rank 0 was last heard to say."""
    spares: bool = True
    """Whether a pod that keeps off its node finds another one."""
    shunned: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Nodes that each pod insists on keeping off, by its uid."""
    _last: tuple[tuple, Decision] | None = None

    def refresh(self) -> None:
        """The cached list becomes the truth."""
        pods = self.pods.values()
        self.seen = tuple(replace(pod, taken=self.taken.get(pod.uid, 0)) for pod in pods)

    def decide(self) -> Decision:
        """What the operator wants now."""
        return self.decide_on(self.seen)

    def decide_on(self, pods: tuple[PodRecord, ...]) -> Decision:
        """The same, on another list. What was asked last is remembered: plan() is pure."""
        facts = (self.job, self.status, self.observe(pods), self.now)
        if self._last is None or self._last[0] != facts:
            self._last = (facts, plan(*facts, DEFAULTS))
        return self._last[1]

    def observe(self, pods: tuple[PodRecord, ...]) -> Observed:
        """What the operator knows beside the job."""
        return Observed(pods=pods, report=self.report)

    def write(self, decision: Decision, version: int) -> bool:
        """Write the status unless somebody else did since."""
        if version != self.version:
            return False
        if decision.status != self.status:
            self.status, self.version = decision.status, self.version + 1
        self.wake_at = decision.wake_at
        return True

    def execute(self, actions: tuple[Action, ...]) -> None:
        """Carry the actions out."""
        for action in actions:
            match action:
                case Create(manifest) if manifest["kind"] == "Pod":
                    self._create(manifest)
                case DeletePod(name=name, uid=uid, grace_seconds=grace):
                    self.delete(name, uid, GRACE if grace is None else grace)
                case OrderAttempt(name=name, uid=uid, order=order):
                    self.order(name, uid, order.attempt)
                case DeleteJob():
                    self.delete_job()

    def delete_job(self) -> None:
        """The API server marks it, and the garbage collector deletes its pods."""
        self.is_job_deleted = True
        mark = {"deletion_timestamp": now_text(self.now)}
        metadata = self.job.metadata.model_copy(update=mark)
        self.job = self.job.model_copy(update={"metadata": metadata})
        for pod in list(self.pods.values()):
            self.delete(pod.name, pod.uid, GRACE)

    def reconcile(self) -> Decision:
        """One whole pass of the operator on a fresh list."""
        self.refresh()
        decision = self.decide()
        assert self.write(decision, self.version)
        self.execute(decision.actions)
        return decision

    def settle(self, passes: int = 20) -> None:
        """Passes until nothing changes any more. Raises AssertionError if that never happens."""
        for _ in range(passes):
            before = (self.version, dict(self.pods), dict(self.taken))
            decision = self.reconcile()
            self.others_pass()
            if (self.version, self.pods, self.taken) == before:
                woken = decision.wake_at is None or decision.wake_at > self.now
                assert woken or self.is_job_deleted, f"busy loop: {decision}"
                return
        raise AssertionError(f"does not settle: {self.status}")

    def others_pass(self) -> None:
        """Other operators of the cluster do their part."""

    def delete(self, name: str, uid: str, grace_seconds: int) -> None:
        """Delete a pod: gone at once, or when its node says so."""
        pod = self.pods.get(name)
        if pod is None or pod.uid != uid:
            return
        if grace_seconds == 0 or pod.is_finished or pod.node is None:
            del self.pods[name]
            return
        deadline = self.now + timedelta(seconds=grace_seconds)
        self.pods[name] = replace(pod, deadline=min(deadline, pod.deadline or deadline))

    def order(self, name: str, uid: str, attempt: int) -> None:
        """A launcher that can still be reached begins an attempt in place, once."""
        pod = self.pods.get(name)
        is_there = pod is not None and pod.uid == uid and pod.running and not pod.is_deleting
        if pod is None or not is_there or pod.node in self.lost_nodes:
            return
        if attempt > self.launchers[uid]:
            self.launchers[uid] = attempt
            self.pods[name] = replace(pod, standby=None)
        if attempt == self.launchers[uid]:
            self.taken[uid] = attempt

    def stand_by(self, name: str, code: int, **fields: object) -> None:
        """Ranks fail, and their launcher waits for an order."""
        pod = self.pods[name]
        if pod.running and not pod.is_deleting and pod.standby is None:
            at = {"attempt": self.launchers[pod.uid], "seconds": (self.now - T0).total_seconds()}
            self.pods[name] = replace(pod, **standing_by(code, "bad", **at, **fields))

    def give_up(self, name: str) -> None:
        """No order came: a launcher ends as its ranks did."""
        pod = self.pods[name]
        if pod.standby:
            self.end(name, pod.standby.summary.exit_code, pod.standby.summary.to_json())

    def start(self, name: str) -> None:
        """A kubelet starts a pod, if the scheduler finds it a node."""
        pod = self.pods[name]
        if pod.phase != "Pending" or pod.is_deleting:
            return
        own, spare = f"node-{pod.node_index}", f"spare-{pod.node_index}"
        places = [own, spare] if self.spares else [own]
        closed = {*self.shunned[pod.uid], *self.lost_nodes}
        free = [place for place in places if place not in closed]
        if not free:
            self.pods[name] = replace(pod, unschedulable="no node matches the affinity.")
            return
        fields = {"phase": "Running", "running": True, "waiting": None, "scheduled": self.now}
        found = {"node": free[0], "ip": "10.0.0.1", "unschedulable": ""}
        self.pods[name] = replace(pod, **fields, **found)

    def wait(self, name: str, reason: str, unschedulable: str = "") -> None:
        """A pod does not start, for this reason."""
        pod = self.pods[name]
        if pod.phase == "Pending":
            waiting = Waiting(reason=reason, message="not found")
            self.pods[name] = replace(pod, waiting=waiting, unschedulable=unschedulable)

    def refuse(self, name: str) -> None:
        """A kubelet does not take a pod that the scheduler gave it."""
        pod = self.pods[name]
        if pod.phase == "Pending" and not pod.is_deleting:
            told = {"reason": "OutOfcpu", "message": "no cpu", "node": f"node-{pod.node_index}"}
            self.pods[name] = replace(pod, phase="Failed", waiting=None, **told)

    def say(self, step: int, saved: int | None) -> None:
        """Rank 0 reports, and the operator hears it."""
        first = next((p for p in self.pods.values() if p.node_index == 0 and p.running), None)
        if first and first.node not in self.lost_nodes:
            latest = {"step": saved} if saved is not None else None
            attempt, time = self.launchers[first.uid], now_text(self.now)
            progress = {"step": step}
            self.report = Report(attempt=attempt, time=time, progress=progress, latest=latest)

    def end(self, name: str, code: int, message: str = "", reason: str = "Error") -> None:
        """A program ends."""
        pod = self.pods[name]
        if pod.phase == "Running" and pod.node not in self.lost_nodes:
            ended = Terminated(exit_code=code, reason=reason, message=message, finished=self.now)
            phase = "Failed" if code else "Succeeded"
            changes = {"phase": phase, "running": False, "terminated": ended, "standby": None}
            self.pods[name] = replace(pod, **changes)

    def kubelets(self) -> None:
        """Pods that are being deleted go, unless their node is lost."""
        for name, pod in list(self.pods.items()):
            if pod.is_deleting and pod.node not in self.lost_nodes:
                del self.pods[name]

    def lose_node(self, index: int) -> None:
        """A node stops answering; the taint manager deletes its pods, which stay."""
        self.lost_nodes.add(f"node-{index}")
        for name, pod in list(self.pods.items()):
            if pod.node == f"node-{index}":
                deadline = pod.deadline or self.now + timedelta(seconds=GRACE)
                told = {"disruption": "DeletionByTaintManager", "silent": pod.running}
                lost = {"deadline": deadline, **told}
                self.pods[name] = replace(pod, **lost)

    def behave(self) -> None:
        """One step of a cluster in which nothing goes wrong: nodes answer, programs succeed."""
        self.lost_nodes.clear()
        self.kubelets()
        for name, pod in list(self.pods.items()):
            self.give_up(name)
            if pod.running and pod.standby is None:
                self.end(name, 0, summary(0, "done", result=pod.node_index == 0), "Completed")
            self.start(name)
        self.settle()
        soon = self.now + timedelta(seconds=1)
        is_stuck = not self.pods or any(pod.unschedulable for pod in self.pods.values())
        self.now = max(soon, self.wake_at) if self.wake_at and is_stuck else soon
        self.settle()

    def _create(self, manifest: dict) -> None:
        metadata = manifest["metadata"]
        name, labels = metadata["name"], metadata["labels"]
        if name in self.pods:
            return
        self.serial += 1
        attempt, index = int(labels[Label.ATTEMPT]), int(labels[Label.NODE_INDEX])
        uid = f"pod-{self.serial}"
        self.made.add((uid, attempt, index))
        self.launchers[uid] = attempt
        self.shunned[uid] = shunned_by(manifest)
        env = manifest["spec"]["containers"][0]["env"]
        tokens = (entry["value"] for entry in env if entry["name"] == Env.ORDER_TOKEN)
        self.pods[name] = PodRecord(
            name=name,
            uid=uid,
            attempt=attempt,
            node_index=index,
            phase="Pending",
            created=self.now,
            waiting=Waiting(reason="ContainerCreating", message=""),
            spec_hash=metadata["annotations"][Annotation.SPEC_HASH],
            order_token=next(tokens, ""),
        )


def shunned_by(manifest: dict) -> tuple[str, ...]:
    """Nodes that a pod insists on keeping off."""
    affinity = manifest["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    fields = (f for t in required.get("nodeSelectorTerms", ()) for f in t["matchFields"])
    return tuple(name for field in fields for name in field["values"])
