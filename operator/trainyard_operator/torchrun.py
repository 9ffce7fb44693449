"""Tells a rank's own last words from what torchrun adds to them. Pure."""

import re
from collections.abc import Sequence

_ADDED = re.compile(
    r"^((Traceback .*\n|\A.*\n)([ \t].*\n)+)?torch\.distributed\.elastic\.\S*ChildFailedError:.*"
    r"(\n=+$(\n.*)*?(\n=+$|\Z))?"
    r"|^.*\btorch/distributed/elastic/.*$",
    re.MULTILINE,
)
"""What torchrun says of a rank that failed: its log, its own traceback (of which the kubelet may
have cut the beginning), a table in a frame of =."""


def own_lines(lines: Sequence[str]) -> list[str]:
    """The lines without torchrun's, and without empty ones."""
    text = _ADDED.sub("", "\n".join(lines))
    return [line for line in text.splitlines() if line.strip()]


def last_words(lines: Sequence[str]) -> str:
    """The last line that says something, and that torchrun did not add."""
    return next((line for line in reversed(own_lines(lines)) if any(map(str.isalnum, line))), "")
