"""Storage that lies within a sweep's own, which `trainyard run` refuses as the operator does.

The operator knows every sweep of its cluster; here those are known that ran on this machine.
"""

from trainyard.errors import Rejected
from trainyard.state import local_sweeps
from trainyard.sweeps import Sweep
from trainyard_operator.sweep.faults import within


def require_own_storage(field: str, uri: str, what: str) -> None:
    """Raises Rejected. field: where `uri` is written. what: is to be given another prefix."""
    for local in local_sweeps():
        other = Sweep(local.object, local=local)
        if other.uri and f"{uri.rstrip('/')}/".startswith(f"{other.uri}/"):
            raise Rejected(within(field, f"{other.namespace}/{other.name}", what).rstrip("."))
