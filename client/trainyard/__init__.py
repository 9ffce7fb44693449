"""The Trainyard client: command line, Python SDK and the local runner."""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Client": "sdk",
    "JobFailed": "errors",
    "JobStopped": "errors",
    "NotFound": "errors",
    "ClientError": "errors",
    "Rejected": "errors",
    "WaitTimeout": "errors",
    "CheckpointMissing": "errors",
}
__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604  names that are imported at first use


def __getattr__(name: str) -> Any:
    """Import at first use: the command line starts in a tenth of a second."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'trainyard' has no attribute '{name}'")
    return getattr(importlib.import_module(f"trainyard.{_PUBLIC[name]}"), name)
