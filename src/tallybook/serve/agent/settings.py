"""What the agent is told: a TOML file, overruled by options."""

import ipaddress
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from tallybook.collect.fileid import origin_of
from tallybook.collect.formats.choice import LOG_NAMES, log_format
from tallybook.collect.sending.lanes import SHARE_DEFAULT
from tallybook.collect.sending.parcel import edge_name
from tallybook.kernel.errors import Invalid
from tallybook.serve.agent.sources.tables import IntervalFiles, Mqtt, Prometheus, Statsd, StatusPage

STATE_DEFAULT = Path("tallybook-edge")
MEBIBYTE = 1024 * 1024


class AccessLog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A log file to follow.

    Attributes:
        path: the live file; rotated siblings are found by themselves.
        format: combined, common, json, nginx, apache, envoy, w3c, or cloudevents (a journal).
        pattern: the server's own format string, for nginx, apache and envoy.
        subject: of such a format, or of w3c, the field that names who used it; None is the client
            address.
        remove_when_read: delete rotated files once they are read and spooled.
        source: the events' source; None is the fingerprint of the file's first line. Name one
            where two servers may write files that start with the same line.
    """

    path: Path
    format: str = "combined"
    pattern: str | None = None
    subject: str | None = None
    remove_when_read: bool = False
    source: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without opening the file."""
        log_format(self.format, self.pattern, self.subject)
        if self.source is not None:
            origin_of("", self.source)


class Broker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Kafka cluster to send to.

    Attributes:
        bootstrap: 'HOST:PORT', several with commas.
        topic: one event is one message, CloudEvents in structured JSON, keyed by subject.
        settings: more settings of librdkafka, such as `security.protocol`, by their own names.
        development: take a cluster that keeps fewer than two copies in sync.
    """

    bootstrap: str
    topic: str
    settings: dict[str, str] = {}
    development: bool = False


class Containers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which control groups of this host are counted beside the containers of known runtimes.

    Attributes:
        groups: patterns of paths below /sys/fs/cgroup, such as `system.slice/nginx.service`.
        subject: whose usage it is: the host's, or each container's own (its id).
    """

    groups: tuple[str, ...] = ()
    subject: Literal["host", "container"] = "host"


TABLES = (
    "containers",
    "processes",
    "access_log",
    "prometheus",
    "status_page",
    "mqtt",
    "interval_file",
    "statsd",
)
"""Settings that name what is read beside the host."""


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
        containers: what containers use, as the kernel tells; None leaves them out.
        processes: name -> patterns of processes that are counted under it.
        host_name: its name in events; None takes the machine's.
        access_log: files to follow.
        prometheus: metrics endpoints to scrape; status_page: servers' status pages.
        mqtt: brokers to subscribe to.
        interval_file: files of meters that arrive in a folder.
        statsd: doors for StatsD lines.
        spool_bytes_max: at this size reading stops until the server has taken some.
        metrics_listen: 'HOST:PORT' on loopback for `/metrics`; None is closed.
        drain_seconds: at the end, how long to go on sending what is spooled.
        edge: this edge's name at the server; None is made of the host's name.
        cert_file: the edge's certificate, PEM, for a server that asks for one; renewed in place.
        cert_key_file: its private key, PEM.
        backfill_share: of the time that may go into sending what an outage left behind.
        backfill_events_per_second: bound of the same in events; 0 is without.
        kafka: a broker to send to instead of the server.
    """

    url: str | None = None
    key: str | None = None
    key_file: Path | None = None
    ca_file: Path | None = None
    state: Path = STATE_DEFAULT
    interval_seconds: float = 10
    host: bool = True
    host_name: str | None = None
    containers: Containers | None = None
    processes: dict[str, tuple[str, ...]] = {}
    access_log: tuple[AccessLog, ...] = ()
    prometheus: tuple[Prometheus, ...] = ()
    status_page: tuple[StatusPage, ...] = ()
    mqtt: tuple[Mqtt, ...] = ()
    interval_file: tuple[IntervalFiles, ...] = ()
    statsd: tuple[Statsd, ...] = ()
    spool_bytes_max: int = 1024 * MEBIBYTE
    metrics_listen: str | None = None
    drain_seconds: float = 30
    edge: str | None = None
    cert_file: Path | None = None
    cert_key_file: Path | None = None
    backfill_share: float = SHARE_DEFAULT
    backfill_events_per_second: int = 0
    kafka: Broker | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0.1 <= self.interval_seconds <= 3600:
            raise Invalid("interval must be 0.1 to 3600 seconds", field="interval_seconds")
        if self.spool_bytes_max < MEBIBYTE:
            raise Invalid("the spool needs at least 1 MiB", field="spool_bytes_max")
        if self.edge is not None:
            edge_name(self.edge)
        if (self.cert_file is None) != (self.cert_key_file is None):
            raise Invalid("cert_file and cert_key_file go together", field="cert_file")
        if not 0 < self.backfill_share <= 1 or self.backfill_events_per_second < 0:
            raise Invalid("backfill_share is above 0 and at most 1", field="backfill_share")
        if self.metrics_listen is not None:
            listen_address(self.metrics_listen)
        if self.drain_seconds < 0:
            raise Invalid("drain_seconds must not be negative", field="drain_seconds")
        if self.host_name is not None and (not self.host_name or not self.host_name.isprintable()):
            raise Invalid("host_name must be printable", field="host_name")
        self._check_sources()

    def _check_sources(self) -> None:
        if not self.host and not any(getattr(self, name) for name in TABLES):
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


def listen_address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`.

    Raises:
        Invalid: it is none, or not of this machine alone: figures have no key.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
        number = int(port)
    except ValueError as error:
        message = f"'{text}' is not an address such as 127.0.0.1:9464"
        raise Invalid(message, field="metrics_listen") from error
    if not local or not 0 <= number < 1 << 16:
        raise Invalid(f"'{text}' is not on loopback", field="metrics_listen")
    return host, number


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
