"""TensorBoard event files, written without TensorBoard, whose import takes a second.

A file is a sequence of records (length, its checksum, data, its checksum); the data of each is an
`Event` message of TensorFlow's event.proto, of which the few fields needed are encoded here.
"""

import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


class EventFile:
    """One file, complete when closed."""

    def __init__(self, path: Path, purge_step: int | None = None) -> None:
        """purge_step: what readers have of this step and later ones is to be forgotten."""
        self.path = path
        self._file: BinaryIO = path.open("wb")
        self._write(_text(3, "brain.Event:2"), 0)
        if purge_step is not None:
            start = _number(1, 1)  # SessionLog.status START
            self._write(_bytes(7, start), purge_step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """A point on each of the curves."""
        for tag, value in values.items():
            # Summary.Value: tag, simple_value.
            point = _text(1, tag) + _key(2, 5) + struct.pack("<f", value)
            self._write(_bytes(5, _bytes(1, point)), step)

    def image(self, tag: str, image: Any, step: int) -> None:
        """uint8 or float in 0..1, (H, W) or (H, W, 3)."""
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8:
            pixels = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
        height, width = pixels.shape[:2]
        colours = 1 if pixels.ndim == 2 else pixels.shape[2]
        shape = _number(1, height) + _number(2, width) + _number(3, colours)
        value = _text(1, tag) + _bytes(4, shape + _bytes(4, encode_png(pixels)))
        self._write(_bytes(5, _bytes(1, value)), step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Markdown, on TensorBoard's text page."""
        dimension = _bytes(2, _bytes(2, _number(1, 1)))
        tensor = _number(1, 7) + dimension + _bytes(8, text.encode())  # DT_STRING, shape [1]
        metadata = _bytes(9, _bytes(1, _text(1, "text")))
        value = _text(1, tag) + _bytes(8, tensor) + metadata
        self._write(_bytes(5, _bytes(1, value)), step)

    def close(self) -> None:
        """Nothing can be added any more."""
        self._file.close()

    def _write(self, content: bytes, step: int) -> None:
        event = _key(1, 1) + struct.pack("<d", time.time()) + _number(2, step) + content
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))


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


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # noqa: PLW2901
        table.append(byte)
    return table


_TABLE = _crc_table()


def _checksum(data: bytes) -> bytes:
    """Masked CRC-32C, little-endian."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF)
