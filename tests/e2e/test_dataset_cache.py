"""`dataset.cache`: what one job has brought, the next one finds."""

from collections.abc import Iterator
from typing import Any

import pytest
from e2e.kube import Namespace
from e2e.volumes import shared_claim_of

CLAIM = "datasets"


@pytest.fixture(scope="module")
def claim(
    cluster: Any, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A claim that both nodes may write."""
    if not cluster.is_own:
        pytest.skip("needs a volume that two nodes can write")
    with shared_claim_of(namespace, CLAIM, tmp_path_factory.mktemp("datasets")) as name:
        yield name


def test_the_next_job_fetches_nothing(
    namespace: Namespace, make_short_job: Any, few_digits: str, claim: str
) -> None:
    dataset = {"uri": few_digits, "mountPath": "/data", "cache": {"claim": claim}}
    fetched = []
    for name in ("first", "second"):
        namespace.apply(make_short_job(name, nodes=1, dataset=dataset))
        namespace.wait_for_phase(name, "Succeeded")
        log = namespace.kubectl("logs", f"{name}-master-0")
        [told] = [line for line in log.splitlines() if "dataset: " in line]
        assert " at /trainyard-cache/datasets/" in told
        fetched.append(int(told.split(" fetched in ")[0].rpartition(" ")[2]))
    assert fetched == [240, 0]
