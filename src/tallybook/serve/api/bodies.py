"""Request bodies, read and unpacked within a bound: a bomb costs no more than the bound."""

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import zstandard

from tallybook.kernel.errors import Invalid, Unavailable


async def read_body(
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]], bytes_max: int
) -> bytes:
    """Return a request's body.

    Raises:
        Invalid: larger than `bytes_max` ('too-large').
        Unavailable: the client went away.
    """
    message = await receive()
    body = bytes(message.get("body", b""))
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Unavailable("the client went away")
        parts.append(bytes(message.get("body", b"")))
        size += len(parts[-1])
        if size > bytes_max:
            break
    if size > bytes_max:
        raise too_large(bytes_max)
    return body if len(parts) == 1 else b"".join(parts)


def decompress(body: bytes, encoding: bytes, bytes_max: int) -> bytes:
    """Return the unpacked body.

    Raises:
        Invalid: unknown encoding, damaged, or larger than `bytes_max` unpacked.
    """
    match encoding.strip().lower():
        case b"" | b"identity":
            return body
        case b"gzip":
            return _gunzip(body, bytes_max)
        case b"zstd":
            return _unzstd(body, bytes_max)
        case _:
            message = "Content-Encoding must be gzip or zstd"
            raise Invalid(message, code="unsupported-media-type", field="Content-Encoding")


def _gunzip(body: bytes, bytes_max: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise _damaged("gzip") from error
    if len(unpacked) > bytes_max:
        raise too_large(bytes_max)
    if not unpacker.eof or unpacker.unused_data:
        raise _damaged("gzip")
    return unpacked


def _unzstd(body: bytes, bytes_max: int) -> bytes:
    try:
        unpacker = zstandard.ZstdDecompressor()
        with unpacker.stream_reader(body, read_across_frames=True) as reader:
            unpacked = reader.read(bytes_max + 1)
            complete = len(unpacked) > bytes_max or not reader.read(1)
    except zstandard.ZstdError as error:
        raise _damaged("zstd") from error
    if len(unpacked) > bytes_max:
        raise too_large(bytes_max)
    if not complete or not unpacked:
        raise _damaged("zstd")
    return unpacked


def too_large(bytes_max: int) -> Invalid:
    """Return the refusal of a body that is too large."""
    message = f"the body is larger than {bytes_max} bytes; send smaller batches"
    return Invalid(message, code="too-large", field="body")


def _damaged(name: str) -> Invalid:
    return Invalid(f"the body is not complete {name}", code="malformed", field="body")
