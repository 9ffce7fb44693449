"""What is valid in a sweep and hardly meant: it runs, and is told in a line."""

from collections.abc import Iterator

from trainyard.metricnames import is_larger_better
from trainyard.yamltext import KeyPath, Located
from trainyard_operator.sweep.api import SweepSpec
from trainyard_operator.sweep.search import trials_in_all


def doubts(spec: SweepSpec, document: Located) -> Iterator[str]:
    """Lines for people, each with its place in the file."""
    metric, goal = spec.objective.metric, spec.objective.goal
    is_better = is_larger_better(metric)
    if is_better is not None and is_better != (goal == "maximize"):
        more, other = ("more", "maximize") if is_better else ("less", "minimize")
        yield _told(
            ("spec", "objective", "goal"),
            f"{goal}s '{metric}', of which {more} is better by its name; write {other} "
            "unless that is meant",
            document,
        )
    if spec.method == "random" and spec.max_trials and not spec.failure_policy.replace:
        total = trials_in_all(spec)
        if total < spec.max_trials:
            settings = "1 setting" if total == 1 else f"{total} settings"
            yield _told(
                ("spec", "maxTrials"),
                f"only {total} of {spec.max_trials} trials are possible: parameters have "
                f"{settings}",
                document,
            )


def _told(path: KeyPath, what: str, document: Located) -> str:
    return f"{document.where(path)}: {document.named(path)}: {what}"
