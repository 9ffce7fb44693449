"""A proxy in front of a real S3 server that breaks what a test tells it to break.

    with S3(tmp_path / "s3") as access, S3Proxy(access) as proxy:
        client = boto3.client("s3", endpoint_url=proxy.access.endpoint, ...)
        proxy.add(answer(503, "SlowDown"), operation="UploadPart", times=2)
        with proxy.during(hang(), key="*/manifest.json"):
            ...
        proxy.count("UploadPart")

Bodies pass through in pieces, and the client's Host header stays, so that signatures verify. What
can be done to a request is in `s3_actions`.
"""

import dataclasses
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from cluster.s3 import S3Access
from faults.s3_request import Action, Request, Rule, parse_request

PIECE_BYTES = 2**16
_HOP_BY_HOP = {"connection", "keep-alive", "expect", "proxy-connection"}


class Cut(Exception):
    """The connection to the client ends here, without a word."""


class S3Proxy:
    """Serves on a port of its own in threads of its own, until closed."""

    def __init__(self, upstream: S3Access, address: str = "127.0.0.1") -> None:
        self.upstream = upstream
        self.stopped = threading.Event()
        """Set when the proxy closes; actions that wait, wait for it."""
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._counts: Counter[str] = Counter()
        self._server = _Server((address, 0), _Handler, bind_and_activate=True)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        endpoint = f"http://{address}:{self._server.server_address[1]}"
        self.access = dataclasses.replace(upstream, endpoint=endpoint)
        """The server's credentials at the proxy's address."""

    def __enter__(self) -> "S3Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, action: Action, **match: Any) -> Rule:
        """From now on, do this to requests that `match` (see `Rule`); the newest rule goes first.

        Of several rules that match, one acts.
        """
        rule = Rule(action, **match)
        with self._lock:
            self._rules.insert(0, rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """No error where it is gone already."""
        with self._lock, suppress(ValueError):
            self._rules.remove(rule)

    @contextmanager
    def during(self, action: Action, **match: Any) -> Iterator[Rule]:
        """As `add`, for the time of the block."""
        rule = self.add(action, **match)
        try:
            yield rule
        finally:
            self.remove(rule)

    def count(self, operation: str) -> int:
        """Requests of an operation such as `UploadPart` so far, broken ones included."""
        with self._lock:
            return self._counts[operation]

    @property
    def counts(self) -> Mapping[str, int]:
        """Requests so far by operation."""
        with self._lock:
            return dict(self._counts)

    def find_rule(self, request: Request) -> Rule | None:
        """Count the request; the rule that is to act, with its use noted."""
        with self._lock:
            self._counts[request.operation] += 1
            return next((rule for rule in self._rules if rule.takes(request)), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: S3Proxy

    def handle_error(self, *_: Any) -> None:
        """Clients that went away are no news here."""


class Exchange:
    """One request at the proxy, and what an action may do with it; each is done once."""

    def __init__(self, handler: "_Handler", request: Request) -> None:
        self._handler = handler
        self.request = request
        self.proxy = handler.server.proxy

    def forward(self) -> None:
        """To the server, and its answer back to the client."""
        with self.answered() as response:
            self.pass_on(response)

    @contextmanager
    def answered(self, cut_after: int | None = None) -> Iterator[HTTPResponse]:
        """Send the request on; the server's answer, of which the client knows nothing yet.

        cut_after: so many bytes of the body go through, then both connections break.
        """
        address = urlsplit(self.proxy.upstream.endpoint).netloc
        connection = HTTPConnection(address)
        try:
            self._send(connection, cut_after)
            with connection.getresponse() as response:
                yield response
        except (OSError, HTTPException) as error:
            raise Cut from error
        finally:
            connection.close()

    def _send(self, connection: HTTPConnection, cut_after: int | None) -> None:
        request = self.request
        connection.putrequest(request.method, request.target, True, True)
        for name, value in request.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                connection.putheader(name, value)
        connection.endheaders()
        passed = 0
        for piece in self.body():
            if cut_after is not None and passed + len(piece) > cut_after:
                connection.send(piece[: cut_after - passed])
                raise Cut
            connection.send(piece)
            passed += len(piece)

    def body(self) -> Iterator[bytes]:
        """The raw bytes of the client's body, framing of chunks included."""
        self._handler.welcome_body()
        if "chunked" in self.request.headers.get("transfer-encoding", ""):
            yield from self._chunks()
            return
        left = int(self.request.headers.get("content-length") or 0)
        while left and (piece := self._handler.rfile.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece
        if left:
            raise Cut

    def _chunks(self) -> Iterator[bytes]:
        read = self._handler.rfile
        while size := int((line := read.readline()).split(b";")[0], 16):
            yield line + read.read(size + 2)
        yield line
        while (line := read.readline()).strip():
            yield line
        yield line

    def pass_on(self, response: HTTPResponse, cut_after: int | None = None) -> None:
        """Give the server's answer to the client, or the first bytes of its body."""
        handler = self._handler
        handler.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in {*_HOP_BY_HOP, "transfer-encoding"}:
                handler.send_header(name, value)
        if response.getheader("content-length") is None and response.status != 204:
            handler.send_header("Connection", "close")
        handler.end_headers()
        passed = 0
        while piece := response.read1(PIECE_BYTES):
            if cut_after is not None and passed + len(piece) > cut_after:
                handler.wfile.write(piece[: cut_after - passed])
                raise Cut
            handler.wfile.write(piece)
            passed += len(piece)

    def answer(self, status: int, code: str) -> None:
        """An error of S3 in place of the server's answer; the body is read and dropped."""
        for _ in self.body():
            pass
        text = f"<Error><Code>{code}</Code><Message>by the test's proxy</Message></Error>"
        body = b"" if self.request.method == "HEAD" else text.encode()
        self._handler.send_response_only(status, code)
        self._handler.send_header("Content-Type", "application/xml")
        self._handler.send_header("Content-Length", str(len(body)))
        self._handler.end_headers()
        self._handler.wfile.write(body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_expect_100(self) -> bool:
        """Bodies are asked for once they are wanted."""
        return True

    def welcome_body(self) -> None:
        """Send `100 Continue` where the client waits for it."""
        if self.headers.get("expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()

    def serve(self) -> None:
        request = parse_request(self.command, self.path, dict(self.headers.items()))
        exchange = Exchange(self, request)
        rule = self.server.proxy.find_rule(request)
        try:
            if rule is not None:
                rule.action(exchange)
            else:
                exchange.forward()
        except (Cut, OSError):
            self._cut()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            # Closing then resets the connection in place of ending it in good order.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.shutdown(socket.SHUT_RDWR)
