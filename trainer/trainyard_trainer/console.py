"""Log lines for people: time, level, message; colours only on a terminal."""

import logging
import os
import re
import sys
from collections.abc import Mapping

SUCCESS = 25
"""Between INFO and WARNING: something good happened, such as a new best."""

log = logging.getLogger("trainyard")

_CYAN, _GREEN, _YELLOW, _BLUE, _MAGENTA, _RED = 36, 32, 33, 34, 35, 31
_LEVELS = {SUCCESS: _GREEN, logging.WARNING: _YELLOW, logging.ERROR: _RED}
_LABELS = {"loss": "Loss", "accuracy": "Acc"}


def set_up_logging(rank: int = 0) -> None:
    """Lines go to stdout; ranks but the first say warnings only."""
    logging.addLevelName(SUCCESS, "SUCCESS")
    handler = logging.StreamHandler(sys.stdout)
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    handler.setFormatter(_Coloured(rank) if colours else _Plain(rank))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.INFO if rank == 0 else logging.WARNING)


def say_on_every_rank(message: str, *arguments: object) -> None:
    """Log whatever the level: each rank's log says where it ran and how it ended."""
    log.handle(log.makeRecord(log.name, logging.INFO, "", 0, message, arguments, None))


def success(message: str, *arguments: object) -> None:
    """Log at the SUCCESS level."""
    log.log(SUCCESS, message, *arguments)


def metric_line(split: str, metrics: Mapping[str, float]) -> str:
    """`train Loss: 0.7019 Acc: 0.5623`."""
    words = [f"{_LABELS.get(name, name)}: {value:.4f}" for name, value in metrics.items()]
    return " ".join([split, *words])


def label(name: str) -> str:
    """How a metric is called in a line, without its split."""
    short = name.removeprefix("val_")
    return _LABELS.get(short, short)


class _Plain(logging.Formatter):
    def __init__(self, rank: int) -> None:
        where = f"rank {rank}: " if rank else ""
        super().__init__(
            f"%(asctime)s | %(levelname)-8s | {where}%(message)s", datefmt="%Y-%m-%d %H:%M:%S"
        )


class _Coloured(_Plain):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        time, level, message = text.split(" | ", 2)
        if record.levelno == SUCCESS:
            message = _paint(message, _GREEN)
        else:
            message = re.sub(r"(Epoch )(\S+)", lambda m: m[1] + _paint(m[2], _YELLOW), message)
            message = re.sub(r"(: )(-?[\d.]+)\b", lambda m: m[1] + _paint(m[2], _YELLOW), message)
            message = re.sub(r"^train\b", _paint("train", _BLUE), message)
            message = re.sub(r"^val\b", _paint("val", _MAGENTA), message)
        level = _paint(level, _LEVELS.get(record.levelno, 0))
        return " | ".join([_paint(time, _CYAN), level, message])


def _paint(text: str, colour: int) -> str:
    return f"\033[{colour}m{text}\033[0m" if colour else text
