"""Small files of the kernel, which may be gone or closed to us at any time."""

from pathlib import Path


def text_of(path: Path) -> str:
    """Return a file's text, '' where it is gone or may not be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
