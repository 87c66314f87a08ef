"""Answers compressed as the client can read them."""

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from typing import Any

import anyio.to_thread
import zstandard

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

BYTES_MIN = 1_024
ASIDE_BYTES = 64 * 1024
"""A larger answer is packed on another thread."""
_KINDS = (b"application/json", b"application/problem+json", b"text/csv", b"application/x-ndjson")
_PREFIXES = ("/api/", "/openmeter/", "/openapi.json", "/v1/", "/v2/", "/metrics")
_VARY = (b"vary", b"accept-encoding")


@lru_cache(maxsize=256)
def encoding_of(accepted: bytes) -> bytes:
    """Return zstd or gzip, the better of those a client takes; b'' for none.

    Args:
        accepted: an `Accept-Encoding` header.

    Source: RFC 9110, section 12.5.3.
    """
    weights: dict[bytes, float] = {}
    for part in accepted.lower().split(b","):
        name, _, rest = part.strip().partition(b";")
        try:
            text = rest.strip()
            weights[name.strip()] = float(text[2:]) if text.startswith(b"q=") else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    found = [(weights.get(one, weights.get(b"*", 0.0)), one) for one in (b"zstd", b"gzip")]
    weight, name = max(found, key=lambda one: one[0])
    return name if weight > 0 else b""


def packed(body: bytes, encoding: bytes) -> bytes:
    """Return a body in gzip or zstd."""
    if encoding == b"zstd":
        return zstandard.ZstdCompressor(level=3).compress(body)
    packer = zlib.compressobj(level=5, wbits=31)
    return packer.compress(body) + packer.flush()


def may_pack(path: str) -> bool:
    """Whether answers under a path are packed: never pages, which carry tokens of forms."""
    return path.startswith(_PREFIXES)


def packing(send: Send, accepted: bytes) -> Send:
    """Return how an answer is sent: packed where that is worth it and the client can read it.

    An answer that comes in pieces goes as it comes.
    """
    encoding = encoding_of(accepted)
    start: Message | None = None

    async def sending(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            if _packable(message):
                start = message
            else:
                await send(message)
            return
        if start is not None:
            begun, start = start, None
            body = bytes(message.get("body", b""))
            begun["headers"] = [*begun["headers"], _VARY]
            if encoding and len(body) > BYTES_MIN and not message.get("more_body"):
                message = {**message, "body": await _packed(body, encoding)}
                begun["headers"] = _relabelled(begun["headers"], encoding, len(message["body"]))
            await send(begun)
        await send(message)

    return sending


def _packable(start: Message) -> bool:
    given = start.get("headers")
    if not given:
        return False
    headers = {name.lower(): value for name, value in given}
    kind = bytes(headers.get(b"content-type", b"")).partition(b";")[0].strip()
    return kind in _KINDS and b"content-encoding" not in headers


async def _packed(body: bytes, encoding: bytes) -> bytes:
    if len(body) < ASIDE_BYTES:
        return packed(body, encoding)
    return await anyio.to_thread.run_sync(packed, body, encoding)


def _relabelled(
    headers: list[tuple[bytes, bytes]], encoding: bytes, size: int
) -> list[tuple[bytes, bytes]]:
    """Return the headers of the packed answer; it has an ETag of its own (RFC 9110, 8.8.3.3)."""
    kept = []
    for name, value in headers:
        if name.lower() == b"content-length":
            continue
        is_tag = name.lower() == b"etag" and value.endswith(b'"')
        kept.append((name, value[:-1] + b"-" + encoding + b'"') if is_tag else (name, value))
    return [*kept, (b"content-encoding", encoding), (b"content-length", str(size).encode())]
