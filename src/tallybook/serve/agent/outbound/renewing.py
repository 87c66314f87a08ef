"""The edge's certificate, renewed in time by the agent itself, without a restart.

When less than a third of its time is left, the agent asks the server for a new one under the
present one, puts both files in their place, each in one step, and connects anew. Where the
cryptography library is installed it asks for a new key too, made in a process of its own so that
the agent stays small; without it the key stays the same. Files that an operator replaces by hand
are taken up as well.
"""

import importlib.util
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tallybook.kernel.errors import Invalid, TallybookError, Unavailable
from tallybook.serve.agent.voice import Voice

if TYPE_CHECKING:
    from tallybook.adapters.http.client import Client

RENEW_PATH = "/api/v1/edges/certificates/renew"
LOOK_SECONDS = 60.0
_LEFT = 3
_KEY_END = b"-----END PRIVATE KEY-----\n"


class Files(msgspec.Struct, frozen=True):
    """Where the certificate and its key lie, PEM."""

    cert: Path
    key: Path


class _Renewed(msgspec.Struct, frozen=True):
    certificate: str


class Renewing:
    """Looks after one certificate.

    Args:
        files: of the certificate.
        edge: its name.
        client: under which it is shown.

    Raises:
        Unavailable: a file is not there.
    """

    def __init__(self, files: Files, edge: str, client: "Client") -> None:
        """Remember how the files are now."""
        self._files = files
        self._edge = edge
        self._client = client
        self._seen = self._times()
        self._next = 0.0

    def look(self, voice: Voice) -> None:
        """Do what is due, and tell; cheap, to be called often."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        try:
            if self.taken_up():
                voice.say("certificate: read again")
            if due(self._files.cert, time.time()):
                self.renew()
                voice.say("certificate: renewed")
        except TallybookError as error:
            voice.complain("certificate", f"{error.message} ({error.code}); trying again")
            return
        voice.settle("certificate")

    def renew(self) -> None:
        """Get a new certificate and use it from now on.

        Raises:
            TallybookError: the server gave none, or the files cannot be written.
        """
        key, csr = new_request(self._edge)
        body = {"csr": csr.decode() if csr else None}
        answer = self._client.post(RENEW_PATH, body, into=_Renewed)
        put(self._files, answer.certificate.encode(), key)
        self._client.reconnect()
        self._seen = self._times()

    def taken_up(self) -> bool:
        """Use files that somebody replaced; return whether there were such."""
        times = self._times()
        if times == self._seen:
            return False
        self._client.reconnect()
        self._seen = times
        return True

    def _times(self) -> tuple[int, ...]:
        try:
            return tuple(p.stat().st_mtime_ns for p in (self._files.cert, self._files.key))
        except OSError as error:
            raise Unavailable(f"{error.filename}: {error.strerror}") from error


def due(cert: Path, now: float) -> bool:
    """Whether less than a third of the certificate's time is left; raises Unavailable."""
    begin, end = validity(cert)
    return (end - now) * _LEFT < end - begin


def validity(cert: Path) -> tuple[float, float]:
    """Return from when until when a certificate is good, seconds since 1970; raises Unavailable."""
    decode: Callable[[str], dict[str, str]] = ssl._ssl._test_decode_cert  # type: ignore[attr-defined] # noqa: SLF001 - the only reader of certificates in the standard library
    try:
        found = decode(str(cert))
    except (OSError, ValueError) as error:
        raise Unavailable(f"the certificate {cert} cannot be read: {error}") from error
    begin, end = (ssl.cert_time_to_seconds(found[name]) for name in ("notBefore", "notAfter"))
    return float(begin), float(end)


def new_request(edge: str) -> tuple[bytes | None, bytes | None]:
    """Return a new key and a request for it, or nothing where the library is not installed.

    Raises:
        Unavailable: the process that makes them failed.
    """
    if importlib.util.find_spec("cryptography") is None:
        return None, None
    command = [sys.executable, "-m", "tallybook.adapters.x509.request", edge]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"no new key could be made: {error}") from error
    key, end, csr = done.stdout.partition(_KEY_END)
    return key + end, csr


def put(files: Files, cert: bytes, key: bytes | None) -> None:
    """Put a certificate, and its key if that is new, in their place.

    Both are tried together first. A crash between the two steps leaves a key without its
    certificate: the next start says so, and the operator renews by hand; so the pair is kept beside
    the files as one until both are in place, and `recover` finishes it.

    Raises:
        Invalid: the server's certificate is not for this key.
        Unavailable: a file cannot be written.
    """
    pair = files.cert.with_name(files.cert.name + ".renewed")
    try:
        old = files.key.read_bytes() if key is None else key
        _write(pair, cert + old, 0o600)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(pair)
        recover(files)
    except ssl.SSLError as error:
        pair.unlink(missing_ok=True)
        raise Invalid(f"the new certificate cannot be used: {error}", field="cert") from error
    except OSError as error:
        raise Unavailable(f"{error.filename}: {error.strerror or error}") from error


def recover(files: Files) -> None:
    """Finish a renewal that was interrupted; does nothing where there was none."""
    pair = files.cert.with_name(files.cert.name + ".renewed")
    try:
        both = pair.read_bytes()
    except FileNotFoundError:
        return
    marker = b"-----BEGIN PRIVATE KEY-----"
    cert, begin, key = both.partition(marker)
    if begin and key.rstrip().endswith(_KEY_END.rstrip()):
        _write(files.key, begin + key, 0o600)
        _write(files.cert, cert, 0o644)
    pair.unlink()


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(mode)
    Path(name).replace(path)
