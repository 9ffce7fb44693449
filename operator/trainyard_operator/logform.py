"""Log lines as text or as JSON; each knows which job is being looked at."""

import json
import logging
import sys
import time
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class About:
    """The job of a line."""

    namespace: str
    job: str
    attempt: int | None = None
    """Of which nothing is known before its status was read."""


ABOUT: ContextVar[About | None] = ContextVar("about", default=None)
"""What this task, and those that it starts, look at."""


class TextFormatter(logging.Formatter):
    """Time in UTC, level, logger and message."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message; namespace, job and attempt where known."""

    def format(self, record: logging.LogRecord) -> str:
        """Called by logging in the context of the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if about := ABOUT.get():
            line |= {key: value for key, value in vars(about).items() if value is not None}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(level: str, form: LogFormat) -> None:
    """All lines of the process, on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
