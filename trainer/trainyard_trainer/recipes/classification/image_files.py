"""What the two ends of an image file tell of it, without decoding anything. No torch here."""

from pathlib import Path

_JPEG = (b"\xff\xd8", b"\xff\xd9")
_PNG = (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")
_ENDS = {".jpg": ("JPEG", *_JPEG), ".jpeg": ("JPEG", *_JPEG), ".png": ("PNG", *_PNG)}
IMAGE_SUFFIXES = tuple(_ENDS)
_TAIL_BYTES = 64
"""Where an end is looked for: cameras and editors put bytes of their own after it."""


def problem_of(file: Path) -> str | None:
    """What is wrong with an image, as a part of a sentence; None where nothing is seen.

    Damage in the middle of a file is met when it is decoded.
    """
    kind, begin, end = _ENDS[file.suffix.lower()]
    try:
        with file.open("rb") as opened:
            head = opened.read(len(begin))
            size = opened.seek(0, 2)
            opened.seek(max(0, size - _TAIL_BYTES))
            tail = opened.read()
    except FileNotFoundError:
        return f"there is no image '{file}'; add it, or take it out of the list."
    if not tail:
        return f"image '{file}' is empty; fetch it again."
    if head != begin:
        return f"image '{file}' is no {kind}; fetch it again."
    if end not in tail:
        return f"image '{file}' is cut off; fetch it again."
    return None
