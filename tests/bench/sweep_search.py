"""What a search is worth: bayes beside random, and early stopping beside none. Nothing is trained.

python tests/bench/sweep_search.py [--seeds 20] [--first-seed 0] [--trials 60] [--parallelism 4]

Prints the tables of docs/sweeps.md. Branin, Hartmann-6 and Rosenbrock are as in Surjanovic and
Bingham's Virtual Library of Simulation Experiments. The learning curves are power laws with noise,
as in Domhan et al. 2015: how good a trial gets, how fast, and how noisy are drawn from a seed.
"""

import argparse
import math
import random
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.sweep_run import Curve, simulate, spec_of

from trainyard_operator.sweep.trial import Proposal

STEPS = 81
"""Of a whole trial: 3**4, so that ASHA has five rungs."""
RULES: dict[str, dict[str, Any]] = {
    "none": {},
    "median": {"method": "median", "minSteps": 9, "minTrials": 5},
    "asha, minSteps 1": {"method": "asha", "minSteps": 1, "reductionFactor": 3},
    "asha, minSteps 3": {"method": "asha", "minSteps": 3, "reductionFactor": 3},
    "asha, minSteps 9": {"method": "asha", "minSteps": 9, "reductionFactor": 3},
}
_A6 = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
_P6 = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)
_ALPHA = (1.0, 1.2, 3.0, 3.2)


def branin(x: Mapping[str, float]) -> float:
    """Its minimum is 0.397887."""
    a, b = x["x0"], x["x1"]
    bowl = (b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10


def hartmann6(x: Mapping[str, float]) -> float:
    """Its minimum is -3.32237."""
    point = [x[f"x{index}"] for index in range(6)]
    return -sum(
        alpha * math.exp(-sum(a * (v - p) ** 2 for a, v, p in zip(row, point, centre, strict=True)))
        for alpha, row, centre in zip(_ALPHA, _A6, _P6, strict=True)
    )


def rosenbrock(x: Mapping[str, float]) -> float:
    """In four dimensions; its minimum is 0."""
    point = [x[f"x{index}"] for index in range(4)]
    return sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in pairwise(point))


def box(*bounds: tuple[float, float]) -> dict[str, Any]:
    """A range for each dimension."""
    ranges = enumerate(bounds)
    return {f"x{n}": {"distribution": "uniform", "min": lo, "max": hi} for n, (lo, hi) in ranges}


FUNCTIONS: dict[str, tuple[Callable[[Mapping[str, float]], float], dict[str, Any], float]] = {
    "Branin": (branin, box((-5, 10), (0, 15)), 0.397887),
    "Hartmann-6": (hartmann6, box(*[(0, 1)] * 6), -3.32237),
    "Rosenbrock-4": (rosenbrock, box(*[(-2.048, 2.048)] * 4), 0.0),
}


def regret(name: str, method: str, seed: int, trials: int, parallelism: int) -> float:
    """How far the best trial lies above the minimum."""
    function, parameters, least = FUNCTIONS[name]
    fields = {"maxTrials": trials, "parallelism": parallelism, "seed": seed}
    spec = spec_of(method, parameters, **fields)
    ended, _ = simulate(spec, lambda proposal: [function(proposal.overrides)])
    return min(trial.value for trial in ended if trial.value is not None) - least


def show_search(seeds: range, trials: int, parallelism: int) -> None:
    """A line a function."""
    print(f"| {trials} trials, {parallelism} at a time | random | bayes | bayes is better in |")
    print("| --- | --- | --- | --- |")
    for name in FUNCTIONS:
        found = {
            method: [regret(name, method, seed, trials, parallelism) for seed in seeds]
            for method in ("random", "bayes")
        }
        wins = sum(b < r for r, b in zip(found["random"], found["bayes"], strict=True))
        medians = " | ".join(f"{median(values):.3g}" for values in found.values())
        print(f"| {name} | {medians} | {wins} of {len(seeds)} seeds |", flush=True)


def learning_curve(proposal: Proposal, seed: int) -> Curve:
    """Losses of a trial: floor + (start - floor) * step ** -speed, and noise.

    A low learning rate is slow and a high one ends badly, so that early ranks mislead a little.
    """
    rate = math.log10(proposal.overrides["lr"])  # -5..-1
    stream = random.Random(f"curve/{seed}/{proposal.number}")
    floor = 0.1 + 0.15 * abs(rate + 2.5) + 0.1 * stream.random()
    speed = 0.25 + 0.12 * (rate + 5) + 0.1 * stream.random()
    return [
        floor + (2.3 - floor) * step**-speed + stream.gauss(0, 0.01) for step in range(1, STEPS + 1)
    ]


def show_stopping(seeds: range, trials: int, parallelism: int) -> None:
    """A line a rule."""
    space = {"lr": {"distribution": "log_uniform", "min": 1e-5, "max": 1e-1}}
    print(f"| {trials} trials of {STEPS} steps | steps | ticks | same best | loss above it |")
    print("| --- | --- | --- | --- | --- |")
    whole: dict[int, tuple[int, float]] = {}
    for name, rule in RULES.items():
        shares, times, same, above = [], [], 0, []
        for seed in seeds:
            fields = {"maxTrials": trials, "parallelism": parallelism, "seed": seed}
            spec = spec_of("random", space, **fields, **({"earlyStopping": rule} if rule else {}))
            ended, ticks = simulate(
                spec, lambda proposal, seed=seed: learning_curve(proposal, seed)
            )
            best = min(ended, key=lambda trial: trial.value or math.inf)
            whole.setdefault(seed, (best.number, best.value or math.inf))
            shares.append(sum(len(trial.curve) for trial in ended) / (trials * STEPS))
            times.append(ticks)
            same += best.number == whole[seed][0]
            above.append((best.value or math.inf) - whole[seed][1])
        cells = (
            f"{mean(shares):.0%} | {mean(times):.0f} | {same} of {len(seeds)} | {mean(above):.4f}"
        )
        print(f"| {name} | {cells} |", flush=True)


def main() -> None:
    """Prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--parallelism", type=int, default=4)
    told = parser.parse_args()
    seeds = range(told.first_seed, told.first_seed + told.seeds)
    show_search(seeds, told.trials, told.parallelism)
    show_stopping(seeds, told.trials, told.parallelism)


if __name__ == "__main__":
    main()
