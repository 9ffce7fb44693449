"""What `S3Proxy` can do to a request, and what servers that lack something do.

An action is a function of an `Exchange`; a test may bring its own.
"""

import time
from collections.abc import Callable

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cluster.s3 import S3Access
from faults.s3_proxy import Cut, Exchange, S3Proxy
from faults.s3_request import Action, Request


def answer(status: int, code: str) -> Action:
    """An error in the server's place: `answer(503, "SlowDown")`."""
    return lambda exchange: exchange.answer(status, code)


def hang() -> Action:
    """Read the request and never answer."""

    def act(exchange: Exchange) -> None:
        for _ in exchange.body():
            pass
        exchange.proxy.stopped.wait()
        raise Cut

    return act


def delay(seconds: float) -> Action:
    """Wait, then forward."""

    def act(exchange: Exchange) -> None:
        exchange.proxy.stopped.wait(seconds)
        exchange.forward()

    return act


def throttle(bytes_per_second: float) -> Action:
    """Take the request's body no faster than that."""

    def act(exchange: Exchange) -> None:
        source, began, passed = exchange.body, time.monotonic(), 0

        def slowly():  # type: ignore[no-untyped-def]
            nonlocal passed
            for piece in source():
                passed += len(piece)
                due = began + passed / bytes_per_second
                exchange.proxy.stopped.wait(max(0.0, due - time.monotonic()))
                yield piece

        exchange.body = slowly  # type: ignore[method-assign]
        exchange.forward()

    return act


def cut() -> Action:
    """Break the connection before the server hears of the request: storage is away."""

    def act(_: Exchange) -> None:
        raise Cut

    return act


def cut_request(after_bytes: int) -> Action:
    """Break both connections in the middle of the request's body."""

    def act(exchange: Exchange) -> None:
        with exchange.answered(cut_after=after_bytes):
            raise Cut  # A shorter body went through; the answer does not.

    return act


def cut_response(after_bytes: int) -> Action:
    """Break the connection in the middle of the answer's body."""

    def act(exchange: Exchange) -> None:
        with exchange.answered() as response:
            exchange.pass_on(response, cut_after=after_bytes)

    return act


def lose_response() -> Action:
    """The server does what it was asked, and the client never learns of it."""

    def act(exchange: Exchange) -> None:
        with exchange.answered() as response:
            response.read()
        raise Cut

    return act


def call(function: Callable[[Request], object]) -> Action:
    """Call the test before the server hears of the request, then forward."""

    def act(exchange: Exchange) -> None:
        function(exchange.request)
        exchange.forward()

    return act


def call_after(function: Callable[[Request], object]) -> Action:
    """Call the test when the server has done it and the client does not know yet."""

    def act(exchange: Exchange) -> None:
        with exchange.answered() as response:
            function(exchange.request)
            exchange.pass_on(response)

    return act


def strip(header: str, access: S3Access) -> Action:
    """Forward without a header, signed anew: a server that does not know it."""

    def act(exchange: Exchange) -> None:
        exchange.request.headers.pop(header.lower(), None)
        sign(exchange.request, access)
        exchange.forward()

    return act


def sign(request: Request, access: S3Access) -> None:
    """Replace the signature by one of the headers as they are now."""
    unsigned = {
        name: value
        for name, value in request.headers.items()
        if name not in ("authorization", "x-amz-date")
    }
    url = f"http://{unsigned['host']}{request.target}"
    signed = AWSRequest(method=request.method, url=url, headers=unsigned)
    signed.context["payload"] = unsigned["x-amz-content-sha256"]
    credentials = Credentials(access.access_key_id, access.secret_access_key)
    _SameBody(credentials, "s3", access.region).add_auth(signed)
    request.headers = {name.lower(): str(value) for name, value in signed.headers.items()}


class _SameBody(S3SigV4Auth):
    """Signs with the digest that the client declared for its body."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["payload"])


def ignore_conditions(proxy: S3Proxy) -> None:
    """From now on a server that has never heard of conditional writes, and overwrites."""
    proxy.add(strip("If-None-Match", proxy.upstream), header="if-none-match")


def refuse_conditions(proxy: S3Proxy) -> None:
    """From now on a server that says 501 to conditional writes."""
    proxy.add(answer(501, "NotImplemented"), header="if-none-match")


def refuse_checksums(proxy: S3Proxy) -> None:
    """From now on a server that does not know CRC32 checksums of bodies."""
    for pattern in ("x-amz-checksum-*", "x-amz-sdk-checksum-*", "x-amz-trailer"):
        proxy.add(answer(400, "InvalidArgument"), header=pattern, method="P*")


def refuse_batch_delete(proxy: S3Proxy) -> None:
    """From now on a server without DeleteObjects."""
    proxy.add(answer(501, "NotImplemented"), operation="DeleteObjects")
