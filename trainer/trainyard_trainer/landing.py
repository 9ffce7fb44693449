"""Verified bytes of a part, in memory that nothing can change any more.

They lie in an anonymous file that is sealed once they match their digest. Other processes of the
node open it at its `address`: what one rank has read and verified, all of them may load.
"""

import fcntl
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from trainyard_operator.layout import MODEL_FILE
from trainyard_trainer.manifest import Manifest, Part, PartCheck
from trainyard_trainer.storage_errors import CheckpointCorrupt

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Landing:
    """One part, or whatever bytes; open until it is closed."""

    def __init__(self, name: str) -> None:
        """Empty, and not sealed yet."""
        self._file = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    @property
    def address(self) -> str:
        """Its path for all processes of the same user and process namespace."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def write(self, data: bytes) -> None:
        """Append; the kernel makes pages as it copies, without a fault for each."""
        view = memoryview(data)
        while view.nbytes:
            view = view[os.write(self._file, view) :]

    def seal(self) -> None:
        """No process can change it from here on, not even this one."""
        fcntl.fcntl(self._file, fcntl.F_ADD_SEALS, _SEALS)

    def read(self) -> bytes:
        """All of it."""
        return Path(self.address).read_bytes()

    def close(self) -> None:
        """What has been mapped stays."""
        os.close(self._file)


def land(manifest: Manifest, part: Part, chunks: Iterable[bytes]) -> Landing:
    """Take a part's bytes, hashing one chunk while the next one comes.

    Raises CheckpointCorrupt where they are not the part.
    """
    landing, check = Landing(part.name), PartCheck(manifest, part)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="landing") as hasher:
            hashed = None
            for chunk in chunks:
                if hashed is not None:
                    hashed.result()
                hashed = hasher.submit(check.update, chunk)
                landing.write(chunk)
            if hashed is not None:
                hashed.result()
        check.finish()
        landing.seal()
    except BaseException:
        landing.close()
        raise
    return landing


def parse(manifest: Manifest, part: Part, path: str) -> Any:
    """What a verified part holds, on the CPU. Raises CheckpointCorrupt.

    Weights are mapped, for whoever loads them copies them into a network's own. The rest is read:
    an optimizer keeps the tensors that it is given, and would keep the whole part with them.
    """
    try:
        is_mapped = part.name == MODEL_FILE
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
    except Exception as error:
        problem = f"cannot be loaded ({type(error).__name__})"
        raise CheckpointCorrupt(manifest.step, part.name, problem) from error
