"""Any history of trials, people and operators keeps the promises of a sweep's plan."""

import dataclasses
import json

from core_sweepcluster import SweepCluster
from core_sweeps import METHODS, make_sweep
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trainyard_operator.sweep.search import trials_in_all
from trainyard_operator.sweep.status import SWEEP_ENDS
from trainyard_operator.sweeper import MINOR_FIELDS

STOPPING = {"method": "asha", "minSteps": 10, "reductionFactor": 2}
PURE = sorted(set(METHODS) - {"bayes"})
"""bayes asks Optuna, which takes a while."""


class SweepHistories(RuleBasedStateMachine):
    """Operators that die between any two writes, and look at old lists; trials that end as they
    like; people who suspend, raise and lower."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = SweepCluster(make_sweep("folds"))
        self.ended = ""
        self.saw_old_list = False
        self.most = 1

    @initialize(
        method=st.sampled_from(PURE),
        parallelism=st.integers(1, 3),
        stops=st.booleans(),
        ttl=st.sampled_from([None, None, 50]),
        most=st.sampled_from([None, None, 1]),
        replace=st.booleans(),
    )
    def a_sweep_is_created(
        self,
        method: str,
        parallelism: int,
        stops: bool,
        ttl: int | None,
        most: int | None,
        replace: bool,
    ) -> None:
        can_stop = stops and method in {"random", "grid"}
        self.most = parallelism
        self.cluster = SweepCluster(
            make_sweep(
                method,
                parallelism=parallelism,
                earlyStopping=STOPPING if can_stop else None,
                runPolicy={"ttlSecondsAfterFinished": ttl} if ttl else None,
                failurePolicy={
                    **({"maxFailedTrials": most} if most is not None else {}),
                    "replace": replace and method == "random",
                },
            )
        )

    def name(self, index: int) -> str | None:
        names = self.cluster.active()
        return names[index % len(names)] if names else None

    @rule(index=st.integers(0, 5), step=st.sampled_from([5, 10, 20, 40]), value=st.integers(0, 9))
    def a_trial_reports(self, index: int, step: int, value: int) -> None:
        if name := self.name(index):
            known = self.cluster.jobs[name].get("status", {}).get("progress", {}).get("curve", [])
            if not known or known[-1][0] < step:
                pauses_at = self.cluster.jobs[name]["spec"]["checkpoint"].get("pauseAtStep")
                pauses = pauses_at is not None and step >= pauses_at
                (self.cluster.pause if pauses else self.cluster.report)(name, step, value / 10)

    @rule(index=st.integers(0, 5), value=st.integers(0, 9))
    def a_trial_succeeds(self, index: int, value: int) -> None:
        if name := self.name(index):
            self.cluster.succeed(name, value / 10)

    @rule(index=st.integers(0, 5), cause=st.sampled_from(["UserExit", "ConfigurationError"]))
    def a_trial_fails(self, index: int, cause: str) -> None:
        if name := self.name(index):
            self.cluster.fail(name, cause)

    @rule()
    def jobs_follow_their_spec(self) -> None:
        self.cluster.obey()

    @rule(seconds=st.sampled_from([1, 60]))
    def time_passes(self, seconds: int) -> None:
        self.cluster.pass_time(seconds)

    @rule(parallelism=st.integers(1, 3))
    def parallelism_is_edited(self, parallelism: int) -> None:
        self.most = max(self.most, parallelism)
        self.cluster.edit(parallelism=parallelism)

    @rule(suspend=st.booleans())
    def suspend_is_toggled(self, suspend: bool) -> None:
        policy = self.cluster.sweep.spec.run_policy.to_dict()
        self.cluster.edit(runPolicy={**policy, "suspend": suspend})

    @rule()
    def the_operator_passes(self) -> None:
        self.cluster.reconcile()

    @rule(actions=st.integers(0, 2))
    def the_operator_dies_between_two_writes(self, actions: int) -> None:
        self.cluster.reconcile(actions)

    @rule()
    def the_operator_passes_on_an_old_list(self) -> None:
        """Of a trial that it does not know of it makes no second one."""
        self.saw_old_list = True
        decision = self.cluster.decide()
        self.cluster.write(decision)
        for action in decision.actions:
            self.cluster.carry_out(action)

    @invariant()
    def every_trial_is_made_once(self) -> None:
        made = self.cluster.made
        assert len(set(made)) == len(made)
        assert len(made) <= trials_in_all(self.cluster.sweep.spec, self._trials())

    @invariant()
    def no_more_trials_run_than_were_ever_allowed(self) -> None:
        if not self.saw_old_list:
            assert len(self.cluster.active()) <= self.most

    @invariant()
    def a_sweep_that_has_ended_stays_so(self) -> None:
        phase = self.cluster.status.phase or ""
        if self.ended:
            assert phase == self.ended
        self.ended = phase if phase in SWEEP_ENDS else ""

    @invariant()
    def conditions_and_phase_agree(self) -> None:
        status = self.cluster.status
        holds = {c.type for c in status.conditions if c.status == "True"}
        for phase in ("Running", "Suspended", "Succeeded", "Failed"):
            assert (phase in holds) == (status.phase == phase)

    @invariant()
    def nothing_that_may_be_written_later_changes_what_is_done(self) -> None:
        cluster = self.cluster
        kept = {name: value for name, value in cluster.stored.items() if name not in MINOR_FIELDS}
        seen = dataclasses.replace(cluster, stored=kept)
        assert seen.decide().actions == cluster.decide().actions

    @invariant()
    def status_is_small(self) -> None:
        assert len(json.dumps(self.cluster.stored)) < 100_000

    @rule()
    def a_settled_state_stays_as_it_is(self) -> None:
        self.cluster.settle()
        decision = self.cluster.decide()
        assert decision.status == self.cluster.status
        assert decision.events == ()

    def _trials(self):
        spec = self.cluster.sweep.spec
        self.cluster.refresh()
        return tuple(record.as_trial(spec) for record in self.cluster.seen)

    def teardown(self) -> None:
        """Once nothing goes wrong any more, the sweep reaches its end."""
        self.suspend_is_toggled(False)
        for _ in range(60):
            self.cluster.settle()
            if self.cluster.is_deleted or self.cluster.status.phase in SWEEP_ENDS:
                break
            self.cluster.obey()
            for name in self.cluster.active():
                self.cluster.succeed(name, 0.5)
        assert self.cluster.is_deleted or self.cluster.status.phase in SWEEP_ENDS
        self.cluster.settle()
        self.cluster.obey()
        assert self.cluster.active() == []
