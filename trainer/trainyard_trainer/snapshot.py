"""A copy of a state in host memory, in buffers that the next copy uses again."""

from collections import OrderedDict
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from trainyard_trainer.storage import Writer
from trainyard_trainer.storage_errors import StateNotPlain

_PLAIN = (bool, int, float, str, bytes)


class Snapshot:
    """Host buffers of one rank. A copy stays valid until the next `take`."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}
        self._used: dict[str, Tensor] = {}
        self._seen: dict[tuple[object, ...], Tensor] = {}

    def take(self, state: Any) -> Any:
        """Copy all tensors to the host; returns only once they are there.

        Raises StateNotPlain for a value that torch.load(weights_only=True) would refuse.
        """
        self._used, self._seen = {}, {}
        copy = self._copy(state, "")
        self._buffers, self._seen = self._used, {}
        if torch.cuda.is_initialized():
            torch.cuda.current_stream().synchronize()
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
        identity = (source.data_ptr(), source.shape, source.stride(), source.dtype, source.device)
        if source.numel() and identity in self._seen:
            return self._seen[identity]  # Tied weights stay tied, and are stored once.
        buffer = self._buffers.get(path)
        if buffer is None or buffer.shape != source.shape or buffer.dtype != source.dtype:
            buffer = torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda)
        buffer.copy_(source, non_blocking=source.is_cuda)
        self._used[path] = self._seen[identity] = buffer
        return buffer


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
