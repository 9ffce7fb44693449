"""What can go wrong between the operator and the API server, or a pod.

OperatorError
|-- LoginError          there are no credentials
|-- LauncherError       a pod's launcher did not take an order
|-- LeaseLost           this replica led, and must not act any more
`-- KubeError           the API server did not do what was asked
    |-- NotFound        404
    |-- AlreadyExists   409 on create
    |-- Conflict        409: the object is not the one that was read
    |-- Expired         410: a watch or a list has to begin anew
    |-- Refused         400, 403, 422: it will not do better next time
    |-- Occupied        the name of a child is taken by an object of somebody else
    |-- NotLeading      nothing was sent, since this replica does not lead
    `-- Unreachable     no answer, or 429 and 5xx: try again
        `-- Unauthorized    401: the credentials have expired
"""


class OperatorError(Exception):
    """Anything below."""


class LoginError(OperatorError):
    """There are no credentials."""


class LauncherError(OperatorError):
    """A pod's launcher did not take an order."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class LeaseLost(OperatorError):
    """This replica led, and must not act any more."""


class KubeError(OperatorError):
    """The API server did not do what was asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; 0 without an answer."""
        self.message = message
        """The server's own sentence."""


class NotFound(KubeError):
    """There is no such object."""


class AlreadyExists(KubeError):
    """An object of that name is there."""


class Conflict(KubeError):
    """The object is not the one that was read."""


class Expired(KubeError):
    """The server no longer knows that resource version."""


class Refused(KubeError):
    """The request is invalid or forbidden: it will not do better next time."""


class Occupied(KubeError):
    """The name of a child is taken by an object of somebody else."""


class NotLeading(KubeError):
    """Nothing was sent, since this replica does not lead."""


class Unreachable(KubeError):
    """No answer, or one that says to try again."""


class Unauthorized(Unreachable):
    """The credentials have expired."""


_KINDS: dict[int, type[KubeError]] = {
    400: Refused,
    401: Unauthorized,
    403: Refused,
    404: NotFound,
    409: Conflict,
    410: Expired,
    422: Refused,
}


def error_of(code: int, reason: str, message: str) -> KubeError:
    """The error that an answer of the API server stands for."""
    if code == 409 and reason == "AlreadyExists":
        return AlreadyExists(code, message)
    return _KINDS.get(code, Unreachable)(code, message or f"HTTP {code}")
