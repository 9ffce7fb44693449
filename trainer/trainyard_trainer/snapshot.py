"""A copy of a state in host memory, in buffers that the next copy uses again."""

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from trainyard_trainer.storage import Writer
from trainyard_trainer.storage_errors import StateNotPlain

_PLAIN = (bool, int, float, str, bytes)
_TOUCH_BYTES = 4 * 2**20
_Shape = tuple[object, ...]


class Snapshot:
    """Host buffers of one file. A copy stays valid until the next `take`."""

    def __init__(self) -> None:
        self._buffers: dict[str, tuple[_Shape, Tensor]] = {}
        self._used: dict[str, tuple[_Shape, Tensor]] = {}
        self._seen: dict[_Shape, Tensor] = {}
        self._sources: list[Tensor] = []
        self._copies: list[Tensor] = []

    @property
    def size_bytes(self) -> int:
        """Of all buffers."""
        return sum(buffer.nbytes for _, buffer in self._buffers.values())

    def take(self, state: Any) -> Any:
        """Copy all tensors to the host; returns only once they are there.

        Raises StateNotPlain for a value that torch.load(weights_only=True) would refuse.
        """
        copy = self._lay_out(state)
        if self._sources:
            _copy_all(self._copies, self._sources)
        self._sources = []
        return copy

    def prepare(self, state: Any) -> list[Tensor]:
        """Make the buffers that `take` will need; returns those whose memory is yet to be touched.

        The kernel hands out memory at the first touch, which takes longer than the copy itself.
        """
        before = {buffer.data_ptr() for _, buffer in self._buffers.values()}
        self._lay_out(state)
        self._sources = []
        return [b for b in self._copies if b.data_ptr() not in before and not b.is_pinned()]

    def _lay_out(self, state: Any) -> Any:
        self._used, self._seen, self._sources, self._copies = {}, {}, [], []
        copy = self._copy(state, "")
        self._buffers, self._seen = self._used, {}
        return copy

    def _copy(self, value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            return self._copy_tensor(value.detach(), path)
        if isinstance(value, dict):
            return self._copy_dict(value, path)
        if type(value) in (list, tuple):
            return type(value)(self._copy(v, f"{path}[{i}]") for i, v in enumerate(value))
        if value is None or type(value) in _PLAIN:
            return value
        # Enums, NumPy scalars and the like, reduced to what they are at heart.
        for plain in (int, float, str):
            if isinstance(value, plain):
                return plain(value)
        if type(value).__module__ == "numpy" and hasattr(value, "item") and value.ndim == 0:
            return value.item()
        raise StateNotPlain(path or "state", type(value).__name__)

    def _copy_dict(self, value: dict[Any, Any], path: str) -> dict[Any, Any]:
        copy: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
        for key, item in value.items():
            if type(key) not in (str, int):
                raise StateNotPlain(f"{path}: key {key!r}", type(key).__name__)
            copy[key] = self._copy(item, f"{path}.{key}" if path else str(key))
        # load_state_dict reads the modules' versions from here.
        if isinstance(copy, OrderedDict) and hasattr(value, "_metadata"):
            copy.__dict__["_metadata"] = value._metadata
        return copy

    def _copy_tensor(self, source: Tensor, path: str) -> Tensor:
        if source.layout is not torch.strided or source.is_quantized:
            return source.cpu().clone()
        shape = (source.shape, source.stride(), source.dtype, source.is_cuda)
        identity = (source.data_ptr(), *shape)
        if source.numel() and identity in self._seen:
            return self._seen[identity]  # Tied weights stay tied, and are stored once.
        known, buffer = self._buffers.get(path, ((), None))
        if buffer is None or known != shape:
            # Strides are kept, so that channels_last optimizer states are so after a resume, too.
            buffer = torch.empty_like(source, device="cpu", pin_memory=source.is_cuda)
        self._used[path], self._seen[identity] = (shape, buffer), buffer
        self._sources.append(source)
        self._copies.append(buffer)
        return buffer


def _copy_all(copies: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """One thread: the other cores have ranks of their own to serve, and wait for no team."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch._foreach_copy_(list(copies), list(sources), non_blocking=True)
        if any(source.is_cuda for source in sources):
            torch.cuda.current_stream().synchronize()
    finally:
        torch.set_num_threads(threads)


class Toucher:
    """Touches fresh buffers behind training, so that the first copy finds them in place."""

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        self._ranges = [(buffer.data_ptr(), buffer.nbytes) for buffer in buffers]
        self._keep = list(buffers)
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="host-buffers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return once no buffer is written any more; what is untouched stays so."""
        self._enough.set()
        self._thread.join()

    def wait(self) -> None:
        """Return once all buffers are touched."""
        self._thread.join()

    def _run(self) -> None:
        for start, size in self._ranges:
            for offset in range(0, size, _TOUCH_BYTES):
                if self._enough.is_set():
                    return
                ctypes.memset(start + offset, 0, min(_TOUCH_BYTES, size - offset))


def write_snapshot(content: Any, writer: Writer) -> None:
    """Stream `torch.save` into storage; raises what the writer raised.

    torch's archive writer turns an error of its sink into an unrelated RuntimeError.
    """
    sink = _Sink(writer)
    try:
        torch.save(content, cast(BinaryIO, sink))
    finally:
        if sink.error is not None:
            raise sink.error


class _Sink:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.error: Exception | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._writer.write(data)
        except Exception as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._writer.flush()
