"""Draw what a terminal showed as an SVG, for the README.

kubectl get tj -w | tee watch.txt; python tests/demo/picture.py TITLE OUT.svg < watch.txt
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

PHASES = {"Starting": "yellow", "Running": "cyan", "Restarting": "red", "Succeeded": "green"}


def draw(title: str, lines: list[str]) -> str:
    """The SVG's text; phases have a colour."""
    width = max(len(line) for line in lines)
    console = Console(record=True, width=width, file=io.StringIO())
    for line in lines:
        text = Text(line, no_wrap=True)
        if line.startswith("$"):
            text.stylize("bold")
        for phase, colour in PHASES.items():
            text.highlight_words([phase], colour)
        console.print(text)
    # Fonts of a foreign host would not load offline; the reader's own monospace font serves.
    return re.sub(r"@font-face {.*?}\s*", "", console.export_svg(title=title), flags=re.DOTALL)


if __name__ == "__main__":
    lines = [line.rstrip() for line in sys.stdin]
    Path(sys.argv[2]).write_text(draw(sys.argv[1], lines), encoding="utf-8")
