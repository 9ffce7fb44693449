"""Short files, short functions: what a reader can hold in mind."""

import ast
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 40


def python_files() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.check_output(command, cwd=CHECKOUT, text=True).split()
    return [CHECKOUT / name for name in listed if (CHECKOUT / name).exists()]


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(CHECKOUT)))
def test_file_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MOST_FILE_LINES
    functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef))
    lengths = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in functions}
    assert {name: n for name, n in lengths.items() if n > MOST_FUNCTION_LINES} == {}


def test_operator_directory_does_not_shadow_the_standard_library() -> None:
    assert not (CHECKOUT / "operator" / "__init__.py").exists()


def test_no_module_is_called_after_nothing() -> None:
    vague = {"utils", "util", "common", "misc", "helpers"}
    assert [path for path in python_files() if path.stem in vague] == []
