"""What botocore raises, as errors for people."""

import os
import re
from typing import Any

from botocore import exceptions as boto

from trainyard_trainer.storage import Patience
from trainyard_trainer.storage_errors import (
    AccessRefused,
    BucketMissing,
    ClockWrong,
    IdentityRefused,
    ObjectMissing,
    RegionWrong,
    RequestRefused,
    StorageError,
    StorageFull,
    StorageUnreachable,
)

_REFUSED = {
    "AccessDenied": "access denied",
    "403": "access denied",
    "Forbidden": "access denied",
    "InvalidAccessKeyId": "unknown access key",
    "XAdminUserNotFound": "unknown access key",  # versitygw's own code
    "SignatureDoesNotMatch": "wrong secret key",
    "ExpiredToken": "expired token",
    "InvalidToken": "invalid token",
    "AllAccessDisabled": "access disabled",
    "AccountProblem": "account problem",
}
_WRONG_CLOCK = {"RequestTimeTooSkewed", "RequestExpired"}
_WRONG_REGION = {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocation"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}
_FULL_STATUS = 507
_MISSING = {"NoSuchKey", "404", "NotFound"}
_BUSY_STATUS = {408, 409, 425, 429}
"""Refusals that pass."""

CLIENT_ERRORS = (boto.ClientError, boto.BotoCoreError, OSError)
"""botocore wraps urllib3's errors; a broken body may still raise a bare OSError."""
TRANSIENT = (boto.HTTPClientError, boto.IncompleteReadError, OSError)
"""What a read may meet half-way and go on after."""
ANSWERS = boto.ClientError
"""An error that the server itself gave."""

NO_KEYS = (boto.CredentialRetrievalError, boto.InvalidConfigError)
"""What the pod's own identity meets where keys are given, other than an answer."""
_LOGIN = re.compile("AssumeRole")
"""Operations of a token service."""
_REFUSAL = re.compile(r"\b4\d\d\b")


def code_of(error: Any) -> str:
    """The code of an answer; empty where there was none."""
    answer = getattr(error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))


def translate(
    error: Exception, endpoint: str, uri: str, operation: str, patience: Patience, field: str
) -> StorageError:
    """uri: of the object, or of the prefix. operation: a verb. field: where the URI is written."""
    if isinstance(error, NO_KEYS) or _LOGIN.match(getattr(error, "operation_name", "")):
        return of_identity(error)
    if isinstance(error, boto.ClientError):
        return _of_answer(error, endpoint, uri, operation, field)
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError)):
        reason = "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return AccessRefused(endpoint, operation, reason, field)
    return StorageUnreachable(endpoint, operation, _reason(error, patience), field)


def of_identity(error: Exception) -> StorageError:
    """Of a token service's answer, or of NO_KEYS."""
    if isinstance(error, boto.ClientError):
        reason = f"error {code_of(error)}"
        is_refusal = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) < 500
    elif isinstance(error, boto.InvalidConfigError):
        reason, is_refusal = str(error.kwargs["error_msg"]).partition(". ")[0], True
    else:
        code = _REFUSAL.search(str(error))
        reason, is_refusal = f"answer {code[0]}" if code else "no answer", code is not None
    if is_refusal:
        return IdentityRefused(reason)
    return StorageUnreachable("who gives keys to the pod's identity", "log in", reason)


def _of_answer(error: Any, endpoint: str, uri: str, operation: str, field: str) -> StorageError:
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0
    bucket = uri.removeprefix("s3://").partition("/")[0]
    if code == "NoSuchBucket":
        return BucketMissing(endpoint, bucket, field)
    if code in _WRONG_REGION:
        return RegionWrong(endpoint, bucket, error.response["Error"].get("Region"))
    if code in _MISSING:
        return ObjectMissing(uri)
    if code in _FULL or status == _FULL_STATUS:
        return StorageFull(f"s3://{bucket}")
    return _of_refusal(code, status, endpoint, operation, field)


def _of_refusal(code: str, status: int, endpoint: str, operation: str, field: str) -> StorageError:
    if code in _WRONG_CLOCK:
        return ClockWrong(endpoint)
    if code in _REFUSED or status in (401, 403):
        return AccessRefused(endpoint, operation, _REFUSED.get(code, f"error {code}"), field)
    if status == 501 or (400 <= status < 500 and status not in _BUSY_STATUS):
        return RequestRefused(endpoint, operation, code, field)
    return StorageUnreachable(endpoint, operation, f"error {code}", field)


def _reason(error: Exception, patience: Patience) -> str:
    """The kind of failure without addresses, headers or signatures."""
    names = {
        boto.EndpointConnectionError: "connection refused or name not found",
        boto.ConnectTimeoutError: f"no connection in {patience.connect_seconds:g} s",
        boto.ReadTimeoutError: f"no answer in {patience.silence_seconds:g} s",
        boto.SSLError: "TLS failed",
        boto.ProxyConnectionError: "the proxy refused",
        boto.ConnectionClosedError: "connection closed",
        boto.IncompleteReadError: "connection closed",
        boto.FlexibleChecksumError: "what came differs from its checksum",
    }
    for kind, text in names.items():
        if isinstance(error, kind):
            return text
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "failed"
