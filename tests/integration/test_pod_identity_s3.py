"""Without a Secret a pod's own identity opens the storage, as clouds hand it out."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cluster.s3 import S3Access
from integration.bucket import BUCKET
from integration.identity import ROLE, Identity, giving_keys_of
from ports import free_ports

from trainyard_trainer.storage import Storage, open_storage
from trainyard_trainer.storage_errors import IdentityRefused, StorageUnreachable

Kind = Callable[[Identity, Path], dict[str, str]]


@pytest.fixture
def identity(
    server: S3Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Identity]:
    """Of a pod that was given no keys; its token is in the file `token`."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_REGION", server.region)
    with giving_keys_of(server) as identity:
        (tmp_path / "token").write_text(identity.token)
        yield identity


def web_identity(identity: Identity, token: Path) -> dict[str, str]:
    """What the EKS webhook adds to a pod, and where the service is."""
    return {
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ENDPOINT_URL_STS": identity.url,
    }


def pod_identity(identity: Identity, token: Path) -> dict[str, str]:
    """What EKS Pod Identity adds to a pod."""
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{identity.url}/pod-identity",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
    }


def instance_role(identity: Identity, token: Path) -> dict[str, str]:
    """Nothing but where the metadata is, which in a cloud has a fixed address."""
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": identity.url}


def open_as(
    variables: dict[str, str], identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return open_storage(f"s3://{BUCKET}/runs", endpoint=identity.access.endpoint, compat="strict")


@pytest.mark.parametrize("kind", [web_identity, pod_identity, instance_role])
def test_identity_of_the_pod_opens_the_storage(
    kind: Kind, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_as(kind(identity, tmp_path / "token"), identity, monkeypatch)
    storage.write("model.pt", b"weights")
    assert storage.read("model.pt") == b"weights"
    assert identity.given == 1


def test_keys_that_run_out_are_had_anew_with_the_token_of_that_time(
    identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = web_identity(identity, tmp_path / "token")
    storage = open_as(variables, identity, monkeypatch)
    identity.lifetime = timedelta(minutes=1)  # botocore has keys renewed in their last minutes.
    storage.write("model.pt", b"weights")
    identity.token = "second"  # The kubelet writes a new one each hour.
    (tmp_path / "token").write_text("second")
    before = identity.given
    storage.write("model.pt", b"better weights")
    assert identity.given > before
    assert storage.read("model.pt") == b"better weights"


NO_KEYS = (
    "spec.storage: the pod's own identity gets no keys ({}); correct the role of its service "
    "account, or name a Secret in spec.storage.credentialsSecretRef."
)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(web_identity, "error InvalidIdentityToken"), (pod_identity, "answer 401")],
)
def test_token_that_is_refused_is_told(
    kind: Kind, reason: str, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity.token = "of another pod"
    storage = open_as(kind(identity, tmp_path / "token"), identity, monkeypatch)
    with pytest.raises(IdentityRefused) as caught:
        storage.read("model.pt")
    assert str(caught.value) == NO_KEYS.format(reason)


def test_agent_that_does_not_answer_is_no_fault_of_the_job(
    identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = pod_identity(identity, tmp_path / "token")
    (port,) = free_ports(1)
    nobody = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{port}/pod-identity"}
    storage = open_as(variables | nobody, identity, monkeypatch)
    with pytest.raises(StorageUnreachable) as caught:
        storage.read("model.pt")
    assert str(caught.value) == (
        "spec.storage: who gives keys to the pod's identity cannot be reached to log in (no "
        "answer); check the endpoint and the network."
    )


def test_half_a_web_identity_is_told(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_as({"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}, identity, monkeypatch)
    with pytest.raises(IdentityRefused) as caught:
        storage.read("model.pt")
    assert str(caught.value) == NO_KEYS.format(
        "The provided profile or the current environment is configured to assume role with web "
        "identity but has no role ARN configured"
    )
