"""What each answer of the API server becomes."""

import asyncio
import socket

import pytest
from aiohttp import web
from unit.operator_edges.fake_api import FakeApi, refusal, serve

from trainyard_operator.errors import (
    AlreadyExists,
    Conflict,
    Expired,
    KubeError,
    NotFound,
    Refused,
    Unauthorized,
    Unreachable,
)
from trainyard_operator.kube import JOBS, PODS, Collection

ANSWERS = [
    (400, "BadRequest", Refused),
    (401, "Unauthorized", Unauthorized),
    (403, "Forbidden", Refused),
    (404, "NotFound", NotFound),
    (409, "AlreadyExists", AlreadyExists),
    (409, "Conflict", Conflict),
    (410, "Expired", Expired),
    (422, "Invalid", Refused),
    (429, "TooManyRequests", Unreachable),
    (500, "InternalError", Unreachable),
    (503, "ServiceUnavailable", Unreachable),
]
POD = {"metadata": {"name": "a", "namespace": "research"}}


def create(api: FakeApi) -> None:
    async def main() -> None:
        async with serve(api) as kube:
            await kube.create(PODS, POD)

    asyncio.run(main())


@pytest.mark.parametrize(("code", "reason", "kind"), ANSWERS, ids=str)
def test_answer_becomes_an_error_with_the_servers_sentence(
    code: int, reason: str, kind: type[KubeError], monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr("trainyard_operator.kube.SERVICE_ACCOUNT", tmp_path)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(KubeError) as caught:
        create(FakeApi(lambda *_: (code, refusal(reason, "the sentence"))))
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.message) == (code, "the sentence")


@pytest.mark.parametrize("content", ["", "{", "users: 3"])
def test_refused_login_stays_one_where_the_kubeconfig_cannot_be_read_again(
    content: str, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    (tmp_path / "config").write_text(content)
    monkeypatch.setattr(
        "kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config")
    )
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(Unauthorized) as caught:
        create(FakeApi(lambda *_: (401, refusal("Unauthorized", "the sentence"))))
    start = "the sentence; the kubeconfig cannot be read again: "
    assert caught.value.message.startswith(start)
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("code", "text", "message"),
    [
        (502, '"bad gateway"', '"bad gateway"'),
        (502, "<html>", "<html>"),
        (200, "<html>", "GET /api/v1/namespaces/a/pods/b: Expecting value"),
    ],
)
def test_proxy_that_answers_in_the_servers_place_is_a_reason_to_try_again(
    code: int, text: str, message: str
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=code, text=text)

    async def main() -> None:
        api = FakeApi()
        api.handle = answer  # type: ignore[method-assign,assignment]
        async with serve(api) as kube:
            await kube.get(PODS, "a", "b")

    with pytest.raises(Unreachable) as caught:
        asyncio.run(main())
    assert caught.value.message.startswith(message)


def test_no_answer_is_an_error_that_says_where(unused_port: int) -> None:
    async def main() -> None:
        async with serve(FakeApi()) as kube:
            kube.client.configuration.host = f"http://127.0.0.1:{unused_port}"
            await kube.create(PODS, POD)

    with pytest.raises(
        Unreachable, match=r"^POST /api/v1/namespaces/research/pods: Cannot connect"
    ):
        asyncio.run(main())


def test_objects_are_created_strictly() -> None:
    api = FakeApi(lambda *_: (201, POD))
    create(api)
    assert api.requests == [
        ("POST", "/api/v1/namespaces/research/pods?fieldValidation=Strict", POD)
    ]


@pytest.mark.parametrize(
    ("collection", "namespace", "rest", "path"),
    [
        (PODS, None, (), "/api/v1/pods"),
        (PODS, "a", ("b",), "/api/v1/namespaces/a/pods/b"),
        (JOBS, None, (), "/apis/trainyard.dev/v1alpha1/trainingjobs"),
        (
            JOBS,
            "a",
            ("b", "status"),
            "/apis/trainyard.dev/v1alpha1/namespaces/a/trainingjobs/b/status",
        ),
    ],
)
def test_path_of_a_collection(
    collection: Collection, namespace: str | None, rest: tuple[str, ...], path: str
) -> None:
    assert collection.path(namespace, *rest) == path


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
