"""One reader of logs, whether they still lie with the pods or only in storage.

The cursor is (attempt, rank, number of lines): a rank's lines are the same, in the same order, in
its pod and in storage, so that reading goes on from one in the other with nothing lost or repeated.
"""

import contextlib
import gzip
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trainyard.errors import ClientError, NotFound, Unreachable, WaitTimeout, as_client_error
from trainyard.jobs import Job
from trainyard.locate import StoredRun, of_job
from trainyard.state import OUTPUT_FILE
from trainyard_operator.contract import LINE_LABEL, Label, attempt_begun, node_label
from trainyard_operator.desired import node_index_of
from trainyard_operator.layout import LOGS_PREFIX, log_prefix, rank_of_log

if TYPE_CHECKING:
    from trainyard.cluster import Cluster
    from trainyard_trainer.storage import Storage

POLL_SECONDS = 1.0
LOCAL_POLL_SECONDS = 0.3
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z ")


@dataclass(frozen=True)
class LogLine:
    """One line of one rank."""

    attempt: int
    rank: int | None
    """None: the pod's own words, of no rank."""
    text: str
    time: str = ""
    """RFC 3339, where it is known."""


class Tail(Protocol):
    """A growing log."""

    attempt: int
    """The attempt of its newest lines."""

    def new_lines(self) -> list[LogLine]:
        """What came since the last call."""


@dataclass
class FileTail:
    """The output of a process on this machine."""

    path: Path
    attempt: int
    first_rank: int
    _offset: int = 0

    def new_lines(self) -> list[LogLine]:
        """Whole lines only: the last one may still be growing."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [_line(self, text) for text in _lines_of(whole)]


@dataclass
class PodTail:
    """The output of a pod, read in steps: an API server's stream may end at any time."""

    cluster: "Cluster"
    pod: str
    attempt: int
    first_rank: int
    _second: str = ""
    """The second of the last line; a pod's log can be asked for from a whole second on."""
    _seen: int = 0
    """Lines of that second that were returned already."""

    def new_lines(self) -> list[LogLine]:
        """Nothing where the pod has no container yet, or is gone."""
        since = f"{self._second}Z" if self._second else None
        try:
            raw = list(self.cluster.pod_log(self.pod, since=since))
        except ClientError:
            return []
        fresh = raw[self._seen :]
        if raw:
            self._second = raw[-1][:19]
            self._seen = sum(line[:19] == self._second for line in raw)
        lines = []
        for line in fresh:
            time, _, text = line.partition(" ")
            lines.append(_line(self, text, time))
        return lines


@dataclass
class StoredTail:
    """The segments of one rank in storage."""

    storage: "Storage"
    attempt: int
    rank: int
    _last: str = ""

    def new_lines(self) -> list[LogLine]:
        """The lines of the segments that were added."""
        lines = []
        for entry in self.storage.list(log_prefix(self.attempt, self.rank) + "/"):
            if entry.key <= self._last:
                continue
            self._last = entry.key
            for line in _lines_of(gzip.decompress(self.storage.read(entry.key))):
                match = _TIME.match(line)
                time = match[0].rstrip() if match else ""
                rest = line[match.end() :] if match else line
                lines.append(LogLine(self.attempt, self.rank, rest, time))
        return lines


@dataclass
class LogReader:
    """All logs of a job, wherever they lie."""

    job: Job | None
    run: StoredRun | None
    _tails: dict[tuple[str, int, int], Tail] = field(default_factory=dict)
    _counts: dict[tuple[int, int | None], int] = field(default_factory=lambda: defaultdict(int))
    """Lines returned, by attempt and rank."""
    _passed: dict[tuple[int, int | None], dict[str, int]] = field(default_factory=dict)
    """Lines that each kind of source gave, by attempt and rank."""
    storage_error: ClientError | None = None
    """Why storage could not be read, where it could not: pods are read all the same."""

    def poll(self, attempt: int | None = None) -> list[LogLine]:
        """What came since the last call, by attempt; of one attempt only where it is given."""
        live = self._live()
        try:
            stored = self._stored_ranks()
        except Exception as error:
            self.storage_error, stored = as_client_error(error), {}
            if self.storage_error is None:
                raise
        lines: list[LogLine] = []
        for number in sorted({key[1] for key in live} | set(stored)):
            found = {key: tail for key, tail in live.items() if key[1] == number}
            # A pod may have gone on, in place, to the attempt that is wanted, or to this one.
            has_gone_on = bool(found) and attempt is not None and number < attempt
            may_hold_it = attempt in (None, number) or has_gone_on
            is_read = any(tail.attempt >= number > key[1] for key, tail in live.items())
            if may_hold_it and (found or not is_read):
                lines += self._read(found or self._stored(number, stored[number]))
        return [line for line in lines if attempt in (None, line.attempt)]

    @property
    def has_sources(self) -> bool:
        """Whether a pod or storage was there to be read."""
        return bool(self._tails)

    def _read(self, tails: dict[tuple[str, int, int], Tail]) -> list[LogLine]:
        lines = []
        for (kind, _, _), tail in tails.items():
            for line in tail.new_lines():
                key = (line.attempt, line.rank)
                passed = self._passed.setdefault(key, defaultdict(int))
                passed[kind] += 1
                if passed[kind] > self._counts[key]:
                    self._counts[key] += 1
                    lines.append(line)
        if len(tails) > 1 and all(line.time for line in lines):
            lines.sort(key=lambda line: line.time)
        return lines

    def _live(self) -> dict[tuple[str, int, int], Tail]:
        """Tails of what lies with the processes or pods, by (kind, attempt, node)."""
        if self.job is None:
            return {}
        if self.job.local:
            for path in sorted(self.job.local.directory.glob(f"a*/*/{OUTPUT_FILE}")):
                attempt, node = int(path.parts[-3][1:]), node_index_of(path.parts[-2])
                key = ("file", attempt, node)
                self._tails.setdefault(key, FileTail(path, attempt, node * self._ranks_per_node))
            return {key: tail for key, tail in self._tails.items() if key[0] == "file"}
        if self.job.cluster is None:
            return {}
        live = {}
        for pod in self.job.cluster.list_pods(f"{Label.JOB_UID}={self.job.uid}"):
            labels, name = pod["metadata"]["labels"], pod["metadata"]["name"]
            attempt, node = int(labels[Label.ATTEMPT]), int(labels[Label.NODE_INDEX])
            tail = PodTail(self.job.cluster, name, attempt, node * self._ranks_per_node)
            live[key] = self._tails.setdefault(key := ("pod", attempt, node), tail)
        return live

    def _stored_ranks(self) -> dict[int, set[int]]:
        """Ranks with stored lines, by attempt."""
        found: dict[int, set[int]] = defaultdict(set)
        for entry in self.run.storage.list(f"{LOGS_PREFIX}/") if self.run else ():
            if place := rank_of_log(entry.key):
                attempt, rank = place
                found[attempt].add(rank)
        return found

    def _stored(self, attempt: int, ranks: set[int]) -> dict[tuple[str, int, int], Tail]:
        assert self.run is not None  # noqa: S101  stored ranks come from a run
        return {
            key: self._tails.setdefault(key, StoredTail(self.run.storage, attempt, rank))
            for rank in sorted(ranks)
            for key in [("stored", attempt, rank)]
        }

    @property
    def _ranks_per_node(self) -> int:
        from trainyard_operator.api import JobSpec

        try:
            return JobSpec.model_validate(self.job.spec if self.job else {}).ranks_per_node
        except ValueError:
            return 1


def open_logs(job: Job | None, run: StoredRun | None = None) -> LogReader:
    """A reader of both the pods and the storage of a job, as far as they can be reached."""
    if run is None and job is not None and job.spec.get("recipe"):
        try:
            run = of_job(job)
        except NotFound:
            run = None  # It has no storage: its pods are all there is.
    return LogReader(job, run)


def follow_logs(
    job: Job, attempt: int | None = None, timeout: float | None = None
) -> Iterator[tuple[Job, list[LogLine]]]:
    """The job and its new lines, again and again until it is at its end. Raises WaitTimeout."""
    from trainyard.follow import is_at_rest

    reader = open_logs(job)
    deadline = time.monotonic() + timeout if timeout else None
    while True:
        at_rest = is_at_rest(job)  # Before the lines are read, so that none is missed.
        yield job, reader.poll(attempt)
        if at_rest:
            return
        if deadline and time.monotonic() >= deadline:
            raise WaitTimeout(f"{job.name} still goes on", f"trainyard logs {job.name} -f")
        time.sleep(LOCAL_POLL_SECONDS if job.local else POLL_SECONDS)
        with contextlib.suppress(Unreachable):
            job = job.refreshed()


def select(lines: list[LogLine], rank: int | None, pattern: str | None) -> Iterator[LogLine]:
    """The lines of one rank (all where None) that match; a node's own words go with the rank
    of its number, which is its own where each node has one."""
    try:
        search = re.compile(pattern).search if pattern else None
    except re.error:
        search = re.compile(re.escape(pattern or "")).search
    for line in lines:
        is_own = line.rank is None and (rank is None or line.text.startswith(node_label(rank)))
        is_wanted = rank is None or line.rank == rank or is_own
        if is_wanted and (search is None or search(line.text)):
            yield line


def _lines_of(data: bytes) -> list[str]:
    """Ended by line feeds alone, as a pod's are: a bar that is redrawn is one line."""
    texts = data.decode(errors="replace").removesuffix("\n").split("\n") if data else []
    return [text.removesuffix("\r") for text in texts]


def _line(tail: FileTail | PodTail, text: str, time: str = "") -> LogLine:
    """A line of a pod, which may begin another attempt in place."""
    tail.attempt = attempt_begun(text) or tail.attempt
    return _labelled(text, tail.attempt, tail.first_rank, time)


def _labelled(text: str, attempt: int, first_rank: int, time: str) -> LogLine:
    """Without a label it is its only rank's, or of the pod itself."""
    match = LINE_LABEL.match(text)
    if match and match[1] == "node":
        return LogLine(attempt, None, text, time)
    if match:
        return LogLine(attempt, int(match[2]), text[match.end() :], time)
    return LogLine(attempt, first_rank, text, time)
