"""TensorBoard event files, written without TensorBoard, whose import takes a second.

A file is a sequence of records (length, its checksum, data, its checksum); the data of each is an
`Event` message of TensorFlow's event.proto, of which the few fields needed are encoded here.
"""

import functools
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np


@dataclass(frozen=True)
class Histogram:
    """How the values of a tensor are spread, in buckets of equal width."""

    low: float
    high: float
    total: float
    """Sum of the values."""
    squares: float
    """Sum of their squares."""
    counts: Sequence[float]
    """Of each bucket, from `low` to `high`."""


class EventSegment:
    """The content of one event file, as it grows."""

    def __init__(self, purge_step: int | None = None) -> None:
        """purge_step: what readers have of this step and later ones is to be forgotten."""
        self.data = bytearray()
        self._write(_text(3, "brain.Event:2"), 0, time.time())
        if purge_step is not None:
            start = _number(1, 1)  # SessionLog.status START
            self._write(_bytes(7, start), purge_step, time.time())

    def scalars(self, values: Mapping[str, float], step: int, at: float) -> None:
        """A point on each of the curves. at: seconds since 1970, here and below."""
        points = [_before(tag) + struct.pack("<f", value) for tag, value in values.items()]
        self._write(_bytes(5, b"".join(points)), step, at)

    def image(self, tag: str, image: Any, step: int, at: float) -> None:
        """uint8 or float in 0..1, (H, W) or (H, W, 3)."""
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8:
            pixels = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
        height, width = pixels.shape[:2]
        colours = 1 if pixels.ndim == 2 else pixels.shape[2]
        shape = _number(1, height) + _number(2, width) + _number(3, colours)
        self._value(tag, _bytes(4, shape + _bytes(4, encode_png(pixels))), step, at)

    def histogram(self, tag: str, histogram: Histogram, step: int, at: float) -> None:
        """On TensorBoard's pages of histograms and distributions."""
        counts = list(histogram.counts)
        width = (histogram.high - histogram.low) / max(1, len(counts))
        limits = [histogram.low + width * (index + 1) for index in range(len(counts))]
        numbers = (
            histogram.low,
            histogram.high,
            sum(counts),
            histogram.total,
            histogram.squares,
        )
        content = b"".join(_double(field, number) for field, number in enumerate(numbers, 1))
        content += _bytes(6, _doubles(limits)) + _bytes(7, _doubles(counts))
        self._value(tag, _bytes(5, content), step, at)

    def text(self, tag: str, text: str, step: int, at: float) -> None:
        """Markdown, on TensorBoard's text page."""
        dimension = _bytes(2, _bytes(2, _number(1, 1)))
        tensor = _number(1, 7) + dimension + _bytes(8, text.encode())  # DT_STRING, shape [1]
        metadata = _bytes(9, _bytes(1, _text(1, "text")))
        self._value(tag, _bytes(8, tensor) + metadata, step, at)

    def _value(self, tag: str, content: bytes, step: int, at: float) -> None:
        self._write(_bytes(5, _bytes(1, _text(1, tag) + content)), step, at)

    def _write(self, content: bytes, step: int, at: float) -> None:
        event = _double(1, at) + _number(2, step) + content
        length = struct.pack("<Q", len(event))
        self.data += length + _checksum(length) + event + _checksum(event)


def encode_png(pixels: "np.ndarray[Any, np.dtype[np.uint8]]") -> bytes:
    """(H, W) grey or (H, W, 3) colour."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@functools.lru_cache(4096)
def _before(tag: str) -> bytes:
    """What comes before the number in a Summary.Value: its tag, and the key of simple_value."""
    value = _text(1, tag) + _key(2, 5)
    return _key(1, 2) + _varint(len(value) + 4) + value


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _number(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", value)


def _doubles(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _checksum(data: bytes) -> bytes:
    """Masked CRC-32C, little-endian."""
    crc: int = google_crc32c.value(data)
    return struct.pack("<I", (crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF)
