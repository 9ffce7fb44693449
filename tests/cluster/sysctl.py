"""The settings of the kernel that a kubelet changes for the whole machine, to be put back."""

from __future__ import annotations

import json
from pathlib import Path

_ROOT = Path("/proc/sys")
_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def save(record: Path) -> None:
    """Writes down what the settings are now."""
    values = {name: (_ROOT / name).read_text().strip() for name in _SETTINGS}
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(values, indent=2) + "\n")


def restore(record: Path) -> None:
    """Sets what was written down; without a record nothing was changed."""
    if record.exists():
        for name, value in json.loads(record.read_text()).items():
            (_ROOT / name).write_text(value)
