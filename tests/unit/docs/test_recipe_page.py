"""The recipe of docs/recipes.md trains as it stands there."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.engine.tiny import manifests_of, result_of, tiny_rank, train

PAGE = Path(__file__).resolve().parents[3] / "docs" / "recipes.md"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Written to a folder that Python looks into."""
    blocks = re.findall(r"```python\n# line/(\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["config.py", "recipe.py"]
    folder = tmp_path / "packages" / "line"
    folder.mkdir(parents=True)
    for name, text in [("__init__.py", ""), *blocks]:
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(folder.parent))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "line"]:
        del sys.modules[name]


def test_recipe_of_the_page_finds_its_line_and_saves_checkpoints(
    package: Path, tmp_path: Path
) -> None:
    import line.recipe

    assert line.recipe.Line.config_class.__doc__
    training = {"epochs": 20, "batch_size": 32, "learning_rate": 0.1}
    rank = tiny_rank(tmp_path, recipe="line", config={"training": training, "samples": 64})
    train(rank)
    assert result_of(rank)["metrics"]["test_loss"] < 0.01
    assert manifests_of(rank)
