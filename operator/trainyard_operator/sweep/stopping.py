"""Which running trials to stop early, and which stopped ones to resume: pure rules over curves.

median: Golovin et al. 2017, "Google Vizier", section 3.2.2. A trial is stopped at a step if the
best it has had is strictly worse than the median, over the others that came as far, of their
average up to that step.

asha: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2. Rung k
lies at min_steps * reduction_factor**k; a trial pauses at each, and of those that came to a rung
the best one in reduction_factor goes on from its checkpoint: at once, or once it does belong to the
best. With fewer than reduction_factor trials at a rung none does, but where no other trial is to
come the best one has to. A trial's value at a rung is the best it had by then, for a trial's result
is its best checkpoint.

With bayes a trial is judged by those alone that were settled before it could begin (`known_to`): so
the rules see the same however fast which trial runs, and so does the search. There a trial goes on
where fewer than reduction_factor are known, for the search needs results that are whole.
"""

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from trainyard_operator.sweep.api import EarlyStopping, SweepSpec
from trainyard_operator.sweep.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to become of one trial."""

    number: int
    action: Literal["stop", "promote"]
    reason: str
    """A sentence, for the trial's story."""
    pause_at: int | None = None
    """promote: the rung at which the trial is to rest next."""


def judge(spec: SweepSpec, trials: Sequence[Trial]) -> tuple[Verdict, ...]:
    """Trials to stop, then those to promote, the best rung first and no more than have room.

    A trial that is promoted takes a slot: count it as running before new ones are proposed.
    """
    if spec.early_stopping is None:
        return ()
    field = _Field(spec, trials)
    first = _as_first_seen(spec, trials) if spec.method == "bayes" else {}
    early = _Field(spec, first.values())
    running = [trial for trial in trials if trial.state == "Running"]
    judged = [
        (t, None if t.is_cleared else (early if first.get(t.number) == t else field).judgement(t))
        for t in running
    ]
    stopped = [verdict for _, verdict in judged if verdict]
    kept = {trial.number for trial, verdict in judged if trial.is_paused and not verdict}
    places = sum(not t.is_paused for t in running) - sum(
        verdict is not None and not trial.is_paused for trial, verdict in judged
    )
    free = spec.parallelism - places
    return (*stopped, *field.promotions(kept)[: max(free, 0)])


def last_resort(spec: SweepSpec, trials: Sequence[Trial]) -> Verdict | None:
    """Where no trial runs and none is to come: who goes on, so that one succeeds at all.

    With fewer trials at a rung than one goes on of, none would.
    """
    rule, stopped = spec.early_stopping, [t for t in trials if t.state == "Stopped" and t.curve]
    if rule is None or rule.method != "asha" or not stopped:
        return None
    if any(trial.state == "Succeeded" for trial in trials):
        return None
    return _Field(spec, trials).leader(stopped)


def first_stops(spec: SweepSpec, trials: Sequence[Trial]) -> dict[int, int]:
    """Number of a trial to the step at which the rules stop it first, of those that they stop.

    What a promotion brings later is not looked at: a search that goes by these steps does not
    depend on when promotions happen.
    """
    if spec.early_stopping is None:
        return {}
    found: dict[int, int] = {}
    field = _Field(spec)
    for trial in sorted(trials, key=lambda trial: trial.number):
        field.put(trial)
        for count in range(1, len(trial.curve) + 1):
            if field.verdict(trial, count):
                found[trial.number] = trial.curve[count - 1][0]
                field.put(up_to(trial, found[trial.number]))
                break
    return found


def _as_first_seen(spec: SweepSpec, trials: Sequence[Trial]) -> dict[int, Trial]:
    """Trials by number, without what promotions brought: none is judged by that in a search that
    does not depend on when promotions happen, but those that were promoted themselves."""
    stops = first_stops(spec, trials)
    return {
        t.number: up_to(t, stops[t.number])
        if t.curve and stops.get(t.number, t.curve[-1][0]) < t.curve[-1][0]
        else t
        for t in trials
    }


def up_to(trial: Trial, step: int) -> Trial:
    """The trial as it stood when it was stopped at a step."""
    curve = tuple(point for point in trial.curve if point[0] <= step)
    return Trial(number=trial.number, state="Stopped", curve=curve)


def known_to(spec: SweepSpec, number: int) -> int:
    """Trials below this number are settled before trial `number` of a bayes search begins."""
    return max(0, number - spec.parallelism + 1)


class _Line:
    """A trial's curve, with larger always better."""

    def __init__(self, trial: Trial, sign: float) -> None:
        self.steps = [step for step, _ in trial.curve]
        values = [sign * value for _, value in trial.curve]
        self._best = list(accumulate(values, max))
        self._sums = list(accumulate(values))

    def best(self, step: int) -> float:
        return self._best[bisect_right(self.steps, step) - 1]

    def average(self, step: int) -> float:
        count = bisect_right(self.steps, step)
        return self._sums[count - 1] / count

    def came_to(self, step: int) -> bool:
        return bool(self.steps) and self.steps[-1] >= step

    def at_rung(self, rung: int) -> float | None:
        """The best by the first point at or after the rung's step."""
        place = bisect_left(self.steps, rung)
        return self._best[place] if place < len(self.steps) else None


_Column = list[tuple[float, int]]
"""Value and negative number of trials at a rung, the worst first; of equals the first is better."""


class _Field:
    """All trials of a sweep, to judge one of them by."""

    def __init__(self, spec: SweepSpec, trials: Iterable[Trial] = ()) -> None:
        if spec.early_stopping is None:
            raise ValueError("without earlyStopping there is nothing to judge by")
        self._spec, self._rule = spec, spec.early_stopping
        self._sign = 1.0 if spec.objective.goal == "maximize" else -1.0
        self._trials: dict[int, Trial] = {}
        self._lines: dict[int, _Line] = {}
        self._columns: dict[int, _Column] = {}
        for trial in trials:
            self.put(trial)

    def put(self, trial: Trial) -> None:
        """Add a trial, or take what is now known of it."""
        if trial.curve:
            self._trials[trial.number] = trial
            self._lines[trial.number] = _Line(trial, self._sign)
            self._columns.clear()

    def verdict(self, trial: Trial, count: int) -> Verdict | None:
        """On a trial as of the first `count` points of its curve; None: it goes on.

        One that has no step left to train is left alone: its result is all but there.
        """
        if not count or (trial.steps is not None and trial.curve[count - 1][0] >= trial.steps):
            return None
        if self._rule.method == "median":
            return self._by_median(trial, trial.curve[count - 1][0])
        return self._by_rung(trial, count)

    def judgement(self, trial: Trial) -> Verdict | None:
        """On a trial as it stands."""
        return self.verdict(trial, len(trial.curve))

    def promotions(self, kept: Collection[int] = ()) -> list[Verdict]:
        """Trials to go on: those that paused and are `kept`, and stopped ones that belong to the
        best of their rung by now; the highest rung first."""
        if self._rule.method == "median":
            return []
        found: list[tuple[int, float, Verdict]] = []
        for number, trial in self._trials.items():
            rung = self._rung_of(trial)
            if rung is None or (trial.state != "Stopped" and number not in kept):
                continue
            goes_on, how = self._rank(number, rung, self._at(rung))
            if goes_on or number in kept:
                value = self._lines[number].best(trial.curve[-1][0])
                found.append((-rung, -value, self._promotion(trial, f"{how} at step {rung}")))
        return [verdict for _, _, verdict in sorted(found, key=lambda one: one[:2])]

    def leader(self, among: Iterable[Trial]) -> Verdict:
        """The best of those that came to the highest rung goes on."""

        def place(trial: Trial) -> tuple[int, float, int]:
            reached = self._lines[trial.number].best(trial.curve[-1][0])
            return self._rung_of(trial) or 0, reached, -trial.number

        first = max(among, key=place)
        return self._promotion(first, f"The best at step {first.curve[-1][0]}, and none is to come")

    def _promotion(self, trial: Trial, why: str) -> Verdict:
        reason = f"{why}: resumed from its checkpoint."
        above = _next_rung(self._rule, trial.curve[-1][0])
        return Verdict(number=trial.number, action="promote", reason=reason, pause_at=above)

    def _rung_of(self, trial: Trial) -> int | None:
        """The highest that it came to."""
        rungs = list(_rungs(self._rule, trial.curve[-1][0]))
        return rungs[-1] if rungs else None

    def _at(self, rung: int) -> _Column:
        """Of all trials that came to a rung."""
        if rung not in self._columns:
            values = ((line.at_rung(rung), -number) for number, line in self._lines.items())
            self._columns[rung] = sorted((value, n) for value, n in values if value is not None)
        return self._columns[rung]

    def _knows(self, number: int, other: int) -> bool:
        """Whether a trial is judged by another one."""
        is_bayes = self._spec.method == "bayes"
        return other < known_to(self._spec, number) if is_bayes else other != number

    def _by_median(self, trial: Trial, step: int) -> Verdict | None:
        others = [
            line
            for number, line in self._lines.items()
            if line.came_to(step) and self._knows(trial.number, number)
        ]
        if step < self._rule.min_steps or len(others) < self._rule.min_trials:
            return None
        median = statistics.median(line.average(step) for line in others)
        if self._lines[trial.number].best(step) >= median:
            return None
        reason = (
            f"Worse at step {step} than the median of {len(others)} trials that came as far: "
            "stopped with its checkpoint."
        )
        return Verdict(number=trial.number, action="stop", reason=reason)

    def _by_rung(self, trial: Trial, count: int) -> Verdict | None:
        """Only at the first point at or after a rung: once past it a trial is left alone."""
        step = trial.curve[count - 1][0]
        before = trial.curve[count - 2][0] if count > 1 else 0
        crossed = [rung for rung in _rungs(self._rule, step) if rung > before]
        for rung in crossed[-1:]:
            column = self._at(rung)
            if self._spec.method == "bayes":
                column = [one for one in column if self._knows(trial.number, -one[1])]
            is_kept, how = self._rank(trial.number, rung, column)
            if not is_kept:
                reason = f"{how} at step {rung}: stopped with its checkpoint."
                return Verdict(number=trial.number, action="stop", reason=reason)
        return None

    def _rank(self, number: int, rung: int, column: _Column) -> tuple[bool, str]:
        """Whether a trial that came to a rung is among the best of it and a column, in words."""
        mine = self._lines[number].at_rung(rung)
        if mine is None:
            raise ValueError(f"trial {number} did not come to step {rung}")
        own = (mine, -number)
        place = bisect_right(column, own)
        of = len(column) + (place == 0 or column[place - 1] != own)
        if of < self._rule.reduction_factor and self._spec.method == "bayes":
            return True, f"One of {of}"
        keep, rank = of // self._rule.reduction_factor, 1 + len(column) - place
        if not keep:
            share = f"one in {self._rule.reduction_factor}"
            return False, f"Rank {rank} of {of}, too few for {share} to go on yet,"
        return rank <= keep, f"Rank {rank} of {of}, of which {keep} go on,"


def _next_rung(rule: EarlyStopping, step: int) -> int:
    """The first above a step."""
    below = list(_rungs(rule, step))
    return below[-1] * rule.reduction_factor if below else rule.min_steps


def _rungs(rule: EarlyStopping, step: int) -> Iterable[int]:
    """Steps of the rungs up to a step."""
    if step < rule.min_steps:
        return
    highest = math.floor(math.log(step / rule.min_steps, rule.reduction_factor) + 1e-9)
    for rung in range(highest + 1):
        yield rule.min_steps * rule.reduction_factor**rung
