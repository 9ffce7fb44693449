"""Talking HTTP to pods, which may be anybody's program: what they send may be wrong or large."""

import aiohttp

LARGEST_ANSWER = 65536
"""Bytes. More is no answer: it would not fit into a status."""
UNREACHED = (aiohttp.ClientError, TimeoutError, ValueError, OSError, RecursionError)
"""What asking a pod may raise: it may be gone, or answer nonsense."""


def url_of(address: str, port: int, path: str) -> str:
    """The URL of a path that a pod serves."""
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}{path}"


async def read_body(response: aiohttp.ClientResponse) -> bytes:
    """Raises ValueError where there is more than LARGEST_ANSWER."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise ValueError(f"an answer of more than {LARGEST_ANSWER} bytes")
    return bytes(body)
