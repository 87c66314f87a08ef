"""Pages of numbers over HTTP: one GET, bounded after decompression."""

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx2

from tallybook import __version__
from tallybook.kernel.errors import Invalid, Unavailable

PAGE_BYTES_MAX = 32 * 1024 * 1024


class PageFetch:
    """Fetches pages of one target and keeps the connection.

    Args:
        url: the page, or what its paths are below.
        headers: sent with every request, such as `Authorization`.
        ca_file: certificates to trust, PEM; None is the system's.
        timeout_seconds: for connecting and for every wait.

    Raises:
        Invalid: `url` is not an http or https address.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        ca_file: str | None = None,
        timeout_seconds: float = 10,
    ) -> None:
        """Check the address; nothing is sent yet."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Invalid(f"'{url}' is not an address such as http://127.0.0.1:9100/metrics",
                          field="url")  # fmt: skip
        self.url = url
        self._http = httpx2.Client(
            headers={"User-Agent": f"tallybook/{__version__}", **headers},
            timeout=timeout_seconds,
            verify=_trusting(ca_file) if parts.scheme == "https" else False,
            trust_env=False,  # what is read is near; a proxy would be another machine's view
        )

    def page(self, accept: str, path: str = "") -> tuple[str, str]:
        """Return content type and text of a page.

        Args:
            accept: the `Accept` header.
            path: appended to the address.

        Raises:
            Unavailable: it is not there, not text, or too large.
        """
        url = f"{self.url.rstrip('/')}/{path}" if path else self.url
        try:
            with self._http.stream("GET", url, headers={"Accept": accept}) as answer:
                if not answer.is_success:
                    raise Unavailable(f"{url} answered {answer.status_code}")
                body = bytearray()
                for block in answer.iter_bytes():
                    body += block
                    if len(body) > PAGE_BYTES_MAX:
                        raise Unavailable(f"{url} sends more than {PAGE_BYTES_MAX >> 20} MiB")
                return answer.headers.get("content-type", ""), body.decode()
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise Unavailable(f"{url}: {str(error) or type(error).__name__}") from error
        except UnicodeDecodeError as error:
            raise Unavailable(f"{url} does not send text") from error

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        """Return itself; closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise Invalid(f"the CA file {ca_file} cannot be used: {error}", field="ca_file") from error
