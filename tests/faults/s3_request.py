"""What an S3 request asks for, and which rule takes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from faults.s3_proxy import Exchange

Action = Callable[["Exchange"], None]

_BY_QUERY = {
    ("POST", "uploads"): "CreateMultipartUpload",
    ("PUT", "partNumber"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", "uploadId"): "ListParts",
    ("GET", "uploads"): "ListMultipartUploads",
    ("POST", "delete"): "DeleteObjects",
    ("GET", "list-type"): "ListObjectsV2",
}
_OF_OBJECTS = {
    "GET": "GetObject",
    "HEAD": "HeadObject",
    "PUT": "PutObject",
    "DELETE": "DeleteObject",
}


@dataclass
class Request:
    """As it came; an action may change the headers before it forwards."""

    method: str
    target: str
    """Path and query as they were signed."""
    headers: dict[str, str]
    operation: str
    """The API's own name, such as `UploadPart`; `Other` for what no test cares about."""
    key: str
    """Without the bucket; empty for a request on the bucket."""
    query: Mapping[str, str]


def parse_request(method: str, target: str, headers: dict[str, str]) -> Request:
    """Of a path-style address."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    key = unquote(parts.path).lstrip("/").partition("/")[2]
    named = (_BY_QUERY[method, name] for name in query if (method, name) in _BY_QUERY)
    operation = next(named, _OF_OBJECTS.get(method, "Other") if key else "Other")
    lowered = {name.lower(): value for name, value in headers.items()}
    return Request(method, target, lowered, operation, key, query)


@dataclass
class Rule:
    """Which requests an action is for; `*` and `?` stand for any characters."""

    action: Action
    operation: str = "*"
    """Such as `UploadPart` or `*MultipartUpload`."""
    method: str = "*"
    key: str = "*"
    """Such as `*/manifest.json`."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Such as {"partNumber": "2"}."""
    header: str | None = None
    """Name of a header that is there, such as `if-none-match` or `x-amz-checksum-*`."""
    skip: int = 0
    """So many requests that match are let through first."""
    times: int | None = None
    """None: until removed."""
    hits: int = 0
    """Requests taken so far."""

    def takes(self, request: Request) -> bool:
        """Whether the rule acts now; if so that is counted."""
        if not self._matches(request):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True

    def _matches(self, request: Request) -> bool:
        return (
            fnmatchcase(request.operation, self.operation)
            and fnmatchcase(request.method, self.method)
            and fnmatchcase(request.key, self.key)
            and all(fnmatchcase(request.query.get(k, ""), v) for k, v in self.query.items())
            and (self.header is None or any(fnmatchcase(h, self.header) for h in request.headers))
        )
