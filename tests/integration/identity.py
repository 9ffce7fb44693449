"""Who gives a pod its keys in a cloud, played on the loopback network: a security token service for
web identities (IRSA), the agent of EKS Pod Identity, and the metadata of an instance (IMDSv2).

The keys come without a session token, which versitygw would refuse.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from cluster.s3 import S3Access

ROLE = "arn:aws:iam::123456789012:role/trainer"
METADATA = "/latest/meta-data/iam/security-credentials/"


class Identity(ThreadingHTTPServer):
    """Gives the keys of an S3 server to who shows the right token."""

    access: S3Access
    token = "first"
    """Of the web identity, and of the pod."""
    lifetime = timedelta(hours=1)
    given = 0
    """How often it gave keys."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def keys(self) -> dict[str, str]:
        """As an agent or an instance tells them."""
        self.given += 1
        until = datetime.now(UTC) + self.lifetime
        return {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": self.access.access_key_id,
            "SecretAccessKey": self.access.secret_access_key,
            "Token": "",
            "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "LastUpdated": "2026-01-01T00:00:00Z",
        }


class _Handler(BaseHTTPRequestHandler):
    server: Identity

    def do_POST(self) -> None:
        """AssumeRoleWithWebIdentity."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = {name: values[0] for name, values in parse_qs(body).items()}
        if asked.get("Action") != "AssumeRoleWithWebIdentity" or asked.get("RoleArn") != ROLE:
            self._answer(400, _xml_error("ValidationError", "not this role"))
        elif asked.get("WebIdentityToken") != self.server.token:
            self._answer(400, _xml_error("InvalidIdentityToken", "not this token"))
        else:
            self._answer(200, _xml_keys(self.server.keys()))

    def do_PUT(self) -> None:
        """A session with the instance's metadata."""
        self._answer(200 if self.path == "/latest/api/token" else 404, "a-metadata-token")

    def do_GET(self) -> None:
        """The pod's agent, or the instance's metadata."""
        if self.path == "/pod-identity":
            is_known = self.headers["Authorization"] == self.server.token
        else:
            is_known = self.headers["X-aws-ec2-metadata-token"] == "a-metadata-token"
        if not is_known:
            self._answer(401, "")
        elif self.path == METADATA:
            self._answer(200, "trainer")
        else:
            self._answer(200, json.dumps(self.server.keys()))

    def _answer(self, code: int, body: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def giving_keys_of(access: S3Access) -> Iterator[Identity]:
    """From a thread."""
    with Identity(("127.0.0.1", 0), _Handler) as identity:
        identity.access = access
        threading.Thread(target=identity.serve_forever, args=(0.05,), daemon=True).start()
        yield identity
        identity.shutdown()


def _xml_error(code: str, message: str) -> str:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<ErrorResponse>{error}</ErrorResponse>"


def _xml_keys(keys: dict[str, str]) -> str:
    names = {"Token": "SessionToken"}
    parts = (
        f"<{names.get(name, name)}>{escape(keys[name])}</{names.get(name, name)}>"
        for name in ("AccessKeyId", "SecretAccessKey", "Token", "Expiration")
    )
    action = "AssumeRoleWithWebIdentity"
    inner = f"<{action}Result><Credentials>{''.join(parts)}</Credentials></{action}Result>"
    return f"<{action}Response>{inner}</{action}Response>"
