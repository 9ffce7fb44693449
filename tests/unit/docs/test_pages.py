"""Reference pages are what is generated, and no page names a file that is not there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
REFERENCE = ("api", "commands", "licences")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By a process of its own, in a terminal of any width."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, str(DOCS / "generate.py"), str(folder)]
    paths = os.pathsep.join(str(ROOT / part) for part in ("operator", "trainer", "client"))
    environment = os.environ | {"COLUMNS": "60", "PYTHONPATH": paths}
    subprocess.run(command, check=True, env=environment, cwd=folder, capture_output=True)
    return folder


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_page_is_what_is_generated(generated: Path, name: str) -> None:
    committed, new = ((folder / f"{name}.md").read_text() for folder in (DOCS, generated))
    assert committed == new, "run `python docs/generate.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_link_leads_to_a_file_and_its_heading(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    broken = [target for target in targets if "://" not in target and not is_there(page, target)]
    assert broken == []


def is_there(page: Path, target: str) -> bool:
    name, _, heading = target.partition("#")
    file = page.parent / name if name else page
    return file.exists() and (not heading or heading in anchors(file))


def anchors(file: Path) -> set[str]:
    """As code hosts make them of headings."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
