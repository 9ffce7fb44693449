"""The Report of a program that knows nothing of Trainyard: what it says, and what is stored."""

import hmac
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainyard_operator.contract import KUBEFLOW_PATH, PROGRAM_PATH, Report, now_text
from trainyard_trainer.directory_store import Reported
from trainyard_trainer.program import write_whole
from trainyard_trainer.program_progress import (
    numbers,
    parse_kubeflow,
    parse_progress,
    read_file,
)
from trainyard_trainer.progress_server import Inbox

Parse = Callable[[bytes], dict[str, Any]]


class ProgramReport:
    """Takes progress from a file and from POSTs; used by several threads."""

    def __init__(self, path: Path, progress_file: Path, attempt: int, token: str) -> None:
        """path: takes the Report. token: what Kubeflow's clients bring along."""
        self._path, self._file, self._attempt, self._token = path, progress_file, attempt, token
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._progress: dict[str, Any] = {}
        self._file_time = 0
        self._stepped_at: float | None = None
        self._complaint: str | None = None
        self._untold: str | None = None
        self._written = ""
        self.resumed_step: int | None = None
        self.warning: str | None = None

    @property
    def inboxes(self) -> dict[str, Inbox]:
        """For a ProgressServer."""
        return {
            PROGRAM_PATH: lambda body, _: self._take(parse_progress, body),
            KUBEFLOW_PATH: self._take_kubeflow,
        }

    def reported(self) -> Reported:
        """What a copy of the directory is labelled with: all that was told before it was made."""
        self._look_at_file()
        progress = self._progress
        return Reported(progress.get("step"), progress.get("epoch"), numbers(progress))

    def seconds_without_step(self, now: float) -> float:
        """Since the last new step, on the monotonic clock; 0 while none was ever reported."""
        return now - self._stepped_at if self._stepped_at is not None else 0.0

    def read_file(self) -> str | None:
        """Look at the progress file; returns what is wrong with it, once for each mistake."""
        self._look_at_file()
        untold, self._untold = self._untold, None
        return untold

    def _look_at_file(self) -> None:
        with self._looking:
            with suppress(OSError):
                changed = self._file.stat().st_mtime_ns
                if changed == self._file_time:
                    return
                self._file_time = changed
            try:
                if progress := read_file(self._file):
                    self._note(progress)
                else:
                    self._file_time = 0  # The rest of it may come within a tick of its clock.
            except ValueError as error:
                if str(error) != self._complaint:
                    self._complaint = self._untold = str(error)

    def write(self, latest: dict[str, Any] | None, kept: int | None, trouble: str | None) -> None:
        """Replace the report, if it says anything new. trouble: of storage."""
        report = Report(
            attempt=self._attempt,
            time=now_text(),
            progress=dict(self._progress) or None,
            latest=latest,
            kept=kept,
            resumed_step=self.resumed_step,
            warning=self.warning or trouble,
            storage_warning=trouble,
        )
        text = report.to_json()
        if text != self._written:
            with suppress(OSError):
                write_whole(self._path, text)
                self._written = text

    def _take_kubeflow(self, body: bytes, token: str) -> tuple[int, str]:
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return 401, "the token is not this pod's"
        return self._take(parse_kubeflow, body)

    def _take(self, parse: Parse, body: bytes) -> tuple[int, str]:
        try:
            self._note(parse(body))
        except ValueError as error:
            return 400, str(error)
        return 200, ""

    def _note(self, progress: dict[str, Any]) -> None:
        with self._lock:
            metrics = {**self._progress.get("metrics", {}), **progress.get("metrics", {})}
            if progress.get("step", self._progress.get("step")) != self._progress.get("step"):
                self._stepped_at = time.monotonic()
            self._progress = {**self._progress, **progress, "metrics": metrics}
