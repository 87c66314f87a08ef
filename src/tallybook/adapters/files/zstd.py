"""A zstd-compressed file, read forward and from the start again."""

from pathlib import Path
from types import TracebackType
from typing import Self

import zstandard

_WINDOW_BYTES_MAX = 128 * 1024 * 1024
_SKIP_BYTES = 64 * 1024


class ZstdFile:
    """The plain bytes of a zstd file, with as much of a binary file as reading lines needs.

    Args:
        path: the file; one that needs a window of more than 128 MiB is refused.
    """

    def __init__(self, path: Path) -> None:
        """Open it."""
        self._raw = path.open("rb")
        self._rewind()

    def _rewind(self) -> None:
        self._raw.seek(0)
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
        self._plain = decompressor.stream_reader(self._raw, read_across_frames=True, closefd=False)
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, b'' at the end; raises zstandard.ZstdError."""
        block = self._plain.read(size)
        self._at += len(block)
        return block

    def seek(self, offset: int) -> int:
        """Go to a position from the start; back is from the start again."""
        if offset < self._at:
            self._rewind()
        while self._at < offset and self.read(min(_SKIP_BYTES, offset - self._at)):
            pass
        return self._at

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def __enter__(self) -> Self:
        """Return itself; closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()
