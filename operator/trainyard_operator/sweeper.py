"""One look at one sweep: observe its trials, plan, write the status, act."""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from trainyard_operator.decision import Create
from trainyard_operator.defaults import Defaults
from trainyard_operator.errors import Conflict, NotFound
from trainyard_operator.executor import Outcome, create_owned, errors_of, outcome_of
from trainyard_operator.kube import JOBS, SWEEPS, Collection
from trainyard_operator.looker import Looker, first_problem, merge_patch
from trainyard_operator.objectcache import ObjectCache, key_of
from trainyard_operator.sweep.api import TrainingSweep
from trainyard_operator.sweep.decision import (
    DeleteReport,
    DeleteSweep,
    HoldTrial,
    ReleaseTrial,
    SweepAction,
    SweepDecision,
)
from trainyard_operator.sweep.names import (
    HELD_ANNOTATION,
    HELD_REASON_ANNOTATION,
    sweep_prefix,
)
from trainyard_operator.sweep.plan import plan_sweep
from trainyard_operator.sweep.scene import SweepScene
from trainyard_operator.sweep.status import parse_sweep_status
from trainyard_operator.trials import SweepKey, Trials

MINOR_FIELDS = frozenset({"counts", "trials", "best", "summary", "display"})
"""What follows from the trials: a sweep whose trials end every second writes it now and then.

It acts all the same: no plan reads these fields, and a trial's name makes it one of its kind."""


@dataclass
class Sweeper(Looker[SweepKey]):
    """The loop's body for sweeps."""

    trials: Trials
    trial_jobs: ObjectCache
    defaults: Defaults

    async def reconcile(self, key: SweepKey) -> bool:
        """Whether nothing has to be tried again. Raises KubeError."""
        raw = self.cache.get(self.place(key))
        if raw is None:
            self.forget(key)
            return True
        status = parse_sweep_status(raw.get("status"))
        try:
            sweep = parse_sweep(raw)
        except ValidationError as error:
            return await self.refuse(key, raw, status, first_problem(error))
        now, uid = self.now(), sweep.metadata.uid
        scene = SweepScene(
            sweep=sweep,
            status=status,
            records=self.trials.of(uid),
            report=self.trials.report_of(uid),
            now=now,
            defaults=self.defaults,
            create_error=self.refusal(key, uid),
            rival=self._rival(raw),
        )
        try:
            decision = plan_sweep(scene)
        except Exception as error:  # Whoever wrote the sweep must hear of it, not only the log.
            await self.refuse(key, raw, status, f"spec: the operator failed on it: {error!r}.")
            raise
        patch = merge_patch(raw.get("status") or {}, decision.status.to_dict())
        may_wait = self.may_wait(key, patch, frozenset() if decision.events else MINOR_FIELDS)
        if not may_wait and not await self.write_status(key, raw, patch):
            return True
        complete = await self._act(key, sweep, decision)
        self.wake_at(key, decision.wake_at, now)
        return complete

    async def _act(self, key: SweepKey, sweep: TrainingSweep, decision: SweepDecision) -> bool:
        self.tell(sweep, decision.events)
        calls = [self._carry_out(sweep, action) for action in decision.actions]
        outcome: Outcome = outcome_of(sweep, await errors_of(calls))
        has_acted = bool(decision.actions)
        self.note_refusal(key, sweep.metadata.uid, outcome.refusal, has_acted=has_acted)
        return outcome.is_complete

    def _carry_out(self, sweep: TrainingSweep, action: SweepAction) -> Coroutine[Any, Any, None]:
        if isinstance(action, Create):
            return self._create(sweep, action)
        if isinstance(action, DeleteSweep):
            return self._delete(SWEEPS, sweep, sweep.metadata.name, sweep.metadata.uid)
        if isinstance(action, DeleteReport):
            return self._delete(JOBS, sweep, action.job, action.uid)
        return self._patch(sweep, action)

    async def _create(self, sweep: TrainingSweep, action: Create) -> None:
        """What is stored is known from then on, so that the next look does not ask again."""
        stored = await create_owned(self.kube, sweep, action.manifest, is_read=True)
        if stored:
            self._know(stored)

    async def _patch(self, sweep: TrainingSweep, action: HoldTrial | ReleaseTrial) -> None:
        """Suspend a trial, or let it go on."""
        body = {
            "metadata": {"uid": action.uid, "annotations": _notes(action)},
            "spec": action.changes,
        }
        try:
            stored = await self.kube.patch(JOBS, sweep.metadata.namespace, action.job, body)
        except (NotFound, Conflict):
            return  # It is gone, and a namesake is none of our business.
        self._know(stored)

    def _know(self, job: dict[str, Any]) -> None:
        """The watch will bring nothing new of it, so it is looked at now."""
        if self.trial_jobs.put(job):
            self.queue.add(key_of(job))

    async def _delete(
        self, collection: Collection, sweep: TrainingSweep, name: str, uid: str
    ) -> None:
        try:
            await self.kube.delete(collection, sweep.metadata.namespace, name, uid)
        except (NotFound, Conflict):
            return

    def _rival(self, raw: dict[str, Any]) -> str:
        """The sweep in whose storage this one's lies: an older one, for its uid is in the path."""
        own = _prefix(raw, self.defaults)
        for other in self.cache.objects.values():
            prefix = _prefix(other, self.defaults)
            if prefix and prefix != own and own.startswith(prefix):
                return f"{other['metadata']['namespace']}/{other['metadata']['name']}"
        return ""


def parse_sweep(raw: dict[str, Any]) -> TrainingSweep:
    """The typed sweep, without its status."""
    return TrainingSweep.model_validate({key: raw[key] for key in raw if key != "status"})


def _notes(action: HoldTrial | ReleaseTrial) -> dict[str, str | None]:
    """None takes an annotation away."""
    if isinstance(action, ReleaseTrial):
        return {HELD_ANNOTATION: None, HELD_REASON_ANNOTATION: None}
    return {HELD_ANNOTATION: action.held_by, HELD_REASON_ANNOTATION: action.because}


def _prefix(raw: dict[str, Any], defaults: Defaults) -> str:
    """Where everything of a sweep lies, as a folder; empty without storage."""
    template = (raw["spec"].get("template") or {}).get("spec") or {}
    base = (template.get("storage") or {}).get("uri")
    base = base or (defaults.storage.uri if defaults.storage else "")
    meta = raw["metadata"]
    prefix = sweep_prefix(meta["namespace"], meta["name"], meta["uid"])
    return f"{base.rstrip('/')}/{prefix}/" if base else ""
