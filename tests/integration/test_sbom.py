"""The bills of materials of the images name every package of their locks, with its hashes."""

import json
import re
from pathlib import Path

import pytest
from cluster.places import CHECKOUT
from cluster.process import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make -C images sbom` writes."""
    folder = tmp_path_factory.mktemp("dist")
    run(["make", "-C", CHECKOUT / "images", "sbom", f"DIST={folder}"])
    return folder


@pytest.mark.parametrize("image", ["operator", "trainer"])
def test_bill_of_materials_is_the_lock(folder: Path, image: str) -> None:
    bill = json.loads((folder / f"{image}.cdx.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "trainyard")
    lock = (CHECKOUT / f"requirements-{image}.lock").read_text()
    pins = re.findall(r"^([\w.-]+)==([^\s\\;]+)", lock, re.M)
    named = [part["purl"].partition("?")[0] for part in bill["components"]]
    assert named == [f"pkg:pypi/{name}@{version}" for name, version in pins]
    hashes = {
        digest["content"]
        for part in bill["components"]
        for source in part["externalReferences"]
        for digest in source["hashes"]
    }
    assert hashes == set(re.findall(r"--hash=sha256:([0-9a-f]{64})", lock))
