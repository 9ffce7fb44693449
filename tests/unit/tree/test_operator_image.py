"""What the operator's image holds: what the operator imports, and of the client what it loads."""

import ast
import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
OPERATOR = ROOT / "operator" / "trainyard_operator"
SCRIPT = ROOT / "images" / "unused_models.py"


def imported(tree: ast.Module) -> Iterator[str]:
    """Top-level names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_packages_asked_for_are_those_that_the_operator_imports() -> None:
    trees = (ast.parse(path.read_text()) for path in OPERATOR.rglob("*.py"))
    names = {name for tree in trees for name in imported(tree)}
    names -= {*sys.stdlib_module_names, "trainyard_operator"}
    distributions = packages_distributions()
    found = {distributions[name][0].lower().replace("_", "-") for name in names}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert found == set(project["dependency-groups"]["operator-image"])


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unused_models", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_that_nothing_loads_are_unused(script: ModuleType, tmp_path: Path) -> None:
    for name in script.FOLDERS:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for file in ("__init__.py", "v1_pod.py", "v1_object_meta.py", "notes.txt"):
            (folder / file).touch()
    (tmp_path / "client" / "rest.py").touch()
    loaded = [str(tmp_path / "client" / "models" / "v1_object_meta.py"), "<frozen>"]
    unused = {str(path.relative_to(tmp_path)) for path in script.unused_files(tmp_path, loaded)}
    every = {
        f"{name}/{file}.py" for name in script.FOLDERS for file in ("v1_pod", "v1_object_meta")
    }
    assert unused == every - {"client/models/v1_object_meta.py"}


def test_client_of_another_form_is_not_touched(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "client" / "api").mkdir(parents=True)
    with pytest.raises(ValueError) as caught:
        script.unused_files(tmp_path, [])
    problem = f"has no folder client/models: correct FOLDERS in {SCRIPT}."
    assert str(caught.value) == f"{tmp_path} {problem}"


def test_operator_and_an_optimizer_of_sweeps_load_few_files_of_the_client(
    script: ModuleType,
) -> None:
    program = (
        "import importlib, json, sys\n"
        f"for name in {script.LOADED!r}: importlib.import_module(name)\n"
        "files = [getattr(module, '__file__', None) for module in sys.modules.values()]\n"
        "print(json.dumps([file for file in files if file]))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    loaded = json.loads(done.stdout)
    package = Path(next(p for p in loaded if p.endswith("kubernetes/__init__.py"))).parent
    files = [path for name in script.FOLDERS for path in (package / name).glob("*.py")]
    assert len(script.unused_files(package, loaded)) > 0.98 * len(files)
