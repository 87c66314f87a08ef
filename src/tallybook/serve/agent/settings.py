"""What the agent is told: a TOML file, overruled by options."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from tallybook.collect.fileid import origin_of
from tallybook.collect.formats.choice import LOG_NAMES
from tallybook.kernel.errors import Invalid

STATE_DEFAULT = Path("tallybook-edge")
MEBIBYTE = 1024 * 1024


class AccessLog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A log file to follow.

    Attributes:
        path: the live file; rotated siblings are found by themselves.
        format: combined, common or json.
        source: the events' source; None is the fingerprint of the file's first line. Name one
            where two servers may write files that start with the same line.
    """

    path: Path
    format: str = "combined"
    source: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without opening the file."""
        if self.format not in LOG_NAMES:
            known = ", ".join(LOG_NAMES)
            raise Invalid(f"format '{self.format}' is not one of {known}", field="access_log")
        if self.source is not None:
            origin_of("", self.source)


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the agent is told.

    Attributes:
        url: the server; None leaves it to --url.
        key: API key; key_file is better, because a file can be closed to others.
        key_file: file with the API key alone.
        ca_file: certificates to trust for https, PEM; None is the system's.
        state: folder of the spool and the positions; it is the agent's memory.
        interval_seconds: between two rounds of reading.
        host: whether to read this host.
        host_name: its name in events; None takes the machine's.
        access_log: files to follow.
        spool_bytes_max: at this size reading stops until the server has taken some.
        drain_seconds: at the end, how long to go on sending what is spooled.
    """

    url: str | None = None
    key: str | None = None
    key_file: Path | None = None
    ca_file: Path | None = None
    state: Path = STATE_DEFAULT
    interval_seconds: float = 10
    host: bool = True
    host_name: str | None = None
    access_log: tuple[AccessLog, ...] = ()
    spool_bytes_max: int = 1024 * MEBIBYTE
    drain_seconds: float = 30

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0.1 <= self.interval_seconds <= 3600:
            raise Invalid("interval must be 0.1 to 3600 seconds", field="interval_seconds")
        if self.spool_bytes_max < MEBIBYTE:
            raise Invalid("the spool needs at least 1 MiB", field="spool_bytes_max")
        if self.drain_seconds < 0:
            raise Invalid("drain_seconds must not be negative", field="drain_seconds")
        if self.host_name is not None and (not self.host_name or not self.host_name.isprintable()):
            raise Invalid("host_name must be printable", field="host_name")
        if not self.host and not self.access_log:
            message = "nothing to collect: give an --access-log, or leave out --no-host"
            raise Invalid(message, field="access_log")
        paths = [log.path.absolute() for log in self.access_log]
        if len(set(paths)) != len(paths):
            raise Invalid("one access log is named twice", field="access_log")


def load_settings(config: Path | None, options: dict[str, Any]) -> AgentSettings:
    """Return the settings of a file, overruled by the options that were given.

    Args:
        config: a TOML file with the attributes of `AgentSettings`; None for none.
        options: attribute -> value; None means "not given".

    Raises:
        Invalid: names the file, the field and what is wrong.
    """
    told = _read(config) if config is not None else {}
    told |= {name: value for name, value in options.items() if value is not None}
    try:
        return msgspec.convert(told, AgentSettings, dec_hook=_as_path)
    except msgspec.ValidationError as error:
        where = f"{config}: " if config is not None else ""
        raise Invalid(f"{where}{error}", field="config") from error


def _as_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    if isinstance(value, Path):
        return value
    raise ValueError(f"'{value}' is no path")


def access_log(text: str) -> AccessLog:
    """Return `FILE` or `FILE:format` as a log to follow; raises Invalid."""
    path, colon, form = text.rpartition(":")
    if colon and form in LOG_NAMES:
        return AccessLog(path=Path(path), format=form)
    return AccessLog(path=Path(text))


def _read(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text())
    except OSError as error:
        raise Invalid(f"{config}: {error.strerror or error}", field="config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{config} is not TOML: {error}", field="config") from error
