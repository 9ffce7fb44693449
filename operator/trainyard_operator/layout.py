"""Where everything of a run lies in storage: the names that operator, trainer and client share."""

import re


def run_prefix(namespace: str, job: str, uid: str) -> str:
    """Everything a job writes lies below this prefix of spec.storage.uri."""
    return f"{namespace}/{job}/{uid}"


RUN_FILE = "run.json"
"""Written once by the first attempt: job, namespace, uid, recipe, start time, the spec."""
RESULT_FILE = "result.json"
"""Written last; its presence, not an exit code, says that a run ended well."""
METRICS_FILE = "metrics.csv"
"""All pieces of the table in one; up to date once the run has ended."""
CHECKPOINTS_PREFIX = "checkpoints"
LATEST_FILE = f"{CHECKPOINTS_PREFIX}/latest.json"
"""A hint only: the truth is the list of manifests."""
MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.pt"
"""The part of a checkpoint that holds the weights alone."""
QUARANTINE_PREFIX = "quarantine"
"""Holds the manifests of checkpoints that were set aside; their parts stay where they are."""
LOGS_PREFIX = "logs"
TENSORBOARD_PREFIX = "tensorboard"
PROFILES_PREFIX = "profiles"


def checkpoint_prefix(step: int, attempt: int) -> str:
    """The directory of one checkpoint; never written twice, since the attempt is in its name."""
    return f"{CHECKPOINTS_PREFIX}/step-{step:012d}-a{attempt}"


def part_file(rank: int) -> str:
    """Name of what one rank wrote beside the weights."""
    return f"part-{rank}.pt"


def log_prefix(attempt: int, rank: int) -> str:
    """The directory of one rank's log segments, `<sequence>.log.gz` each."""
    return f"{LOGS_PREFIX}/a{attempt}/rank-{rank}"


def profile_file(attempt: int, step: int, rank: int) -> str:
    """What one rank recorded from a step on: `.txt` is a table, `.json.gz` a Chrome trace."""
    return f"{PROFILES_PREFIX}/a{attempt}/step-{step:012d}-rank-{rank}"


def rank_of_log(key: str) -> tuple[int, int] | None:
    """Attempt and rank of a log segment; None for one of a launcher's own."""
    found = re.match(rf"{LOGS_PREFIX}/a(\d+)/rank-(\d+)/", key)
    return (int(found[1]), int(found[2])) if found else None


def node_log_prefix(attempt: int, node_index: int) -> str:
    """The directory of a launcher's own log segments, beside those of its ranks."""
    return f"{LOGS_PREFIX}/a{attempt}/node-{node_index}"


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
