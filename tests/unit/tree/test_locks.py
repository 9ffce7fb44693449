"""Dependencies are locked with hashes, and the images get what the tests ran with."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LOCKS = (
    "requirements.lock",
    "requirements-operator.lock",
    "requirements-trainer.lock",
    "requirements-build.lock",
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ASKED = (
    (LOCKS[1], PROJECT["dependency-groups"]["operator-image"]),
    (
        LOCKS[2],
        PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["recipes"],
    ),
    (LOCKS[3], PROJECT["dependency-groups"]["build"]),
)


def entries(name: str) -> dict[str, list[str]]:
    """Each package's version and the hashes after it."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if pin := re.match(r"([\w.-]+)==(\S+)", line):
            found[pin[1]] = hashes = [pin[2]]
        elif digest := re.match(r"    --hash=sha256:([0-9a-f]{64})\b", line):
            hashes.append(digest[1])
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_a_version_and_a_hash(name: str) -> None:
    found = entries(name)
    assert [package for package, (_, *hashes) in found.items() if not hashes] == []
    assert found


@pytest.mark.parametrize("name", LOCKS[1:3])
def test_image_has_the_versions_that_the_tests_had(name: str) -> None:
    tested = {package: version for package, (version, *_) in entries(LOCKS[0]).items()}
    assert {package: version for package, (version, *_) in entries(name).items()}.items() <= (
        tested.items()
    )


def test_operator_image_has_no_torch_and_the_trainer_image_has_the_recipes() -> None:
    assert "torch" not in entries(LOCKS[1])
    assert {"torch", "monai", "timm", "opacus"} <= set(entries(LOCKS[2]))


def test_no_lock_names_where_packages_come_from() -> None:
    assert [name for name in LOCKS if "://" in (ROOT / name).read_text()] == []


@pytest.mark.parametrize(("lock", "asked"), ASKED, ids=lambda each: str(each)[:30])
def test_lock_holds_what_the_project_asks_for(lock: str, asked: list[str]) -> None:
    names = {re.split(r"[\[<>=!~]", each)[0].lower() for each in asked} - {"trainyard"}
    assert names <= {package.lower() for package in entries(lock)}
