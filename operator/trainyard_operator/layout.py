"""Where the curves and records of a run lie in storage, below its `contract.run_prefix`."""

from trainyard_operator.contract import TENSORBOARD_PREFIX

ATTEMPTS_PREFIX = "attempts"
METRICS_PREFIX = "metrics"
PICTURES_PREFIX = "pictures"
REPORTS_PREFIX = "reports"
PAGE_FILE = "report.html"
"""What a person opens first once the run has ended: configuration, metrics, curves, pictures."""
DIRECTORY_PREFIX = "directory"


def event_file(attempt: int, sequence: int) -> str:
    """A segment of the curves. All lie in one directory, which TensorBoard shows as one run, and
    it reads them by name: a later attempt after an earlier one."""
    name = f"events.out.tfevents.{attempt:06d}.{sequence:06d}.trainyard"
    return f"{TENSORBOARD_PREFIX}/{name}"


def attempt_file(attempt: int) -> str:
    """What rank 0 tells of an attempt, as far as it came."""
    return f"{ATTEMPTS_PREFIX}/a{attempt}.json"


def attempt_end_file(attempt: int, node_index: int) -> str:
    """How an attempt ended on a node, as its launcher saw it."""
    return f"{ATTEMPTS_PREFIX}/a{attempt}-node-{node_index}.json"


def stall_file(attempt: int, rank: int) -> str:
    """Where every thread of a rank stood when the watchdog ended it."""
    return f"stalls/a{attempt}-rank-{rank}.txt"


def metrics_piece(attempt: int, first: int, last: int) -> str:
    """Rows of an attempt's flushes `first` to `last`."""
    return f"{METRICS_PREFIX}/a{attempt}/{first:06d}-{last:06d}.csv"


def picture_file(name: str) -> str:
    """A picture of an evaluation; name: such as `val/roc`."""
    return f"{PICTURES_PREFIX}/{name}.png"


def directory_copy(attempt: int, sequence: int) -> str:
    """One copy of a program's checkpoint directory: its manifest, and what was new in it."""
    return f"{DIRECTORY_PREFIX}/a{attempt}/{sequence:06d}"
