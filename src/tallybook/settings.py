"""Typed settings and their loader: defaults, then `tallybook.toml`, then the environment.

Nothing is read when this module is imported. An environment variable names section and key:
`TALLYBOOK__SERVER__PORT=9000`; `TALLYBOOK__DATA_DIR` sets the top-level key.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tallybook.kernel.errors import Invalid, Unavailable
from tallybook.kernel.limits import (
    EVENT_BYTES_MAX,
    FUTURE_SECONDS_MAX,
    REQUEST_BYTES_MAX,
    REQUEST_EVENTS_MAX,
)

PREFIX = "TALLYBOOK__"
FILE = "tallybook.toml"
API_WORKERS_DEFAULT = 2


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the server listens.

    Attributes:
        host: address to bind; the loopback unless it is said otherwise.
        port: 0 takes a free one.
        api_workers: API processes, each the writer of one log partition; 0 is as many as
            processors, at most 2.
        access_log: write requests to `access.log` of the data folder, in combined format.
        ready_seconds_max: how long the process tree may take to become ready.
        body_bytes_max: largest body of any request that is not a batch of events.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_workers: int = 0
    access_log: bool = True
    ready_seconds_max: int = 60
    body_bytes_max: int = 4 * 1024 * 1024


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The second listener: https, for edges with certificates of this server's authority.

    Attributes:
        port: None is no such listener; 0 takes a free one.
        host: address to bind; None is `server.host`.
        cert: its certificate, PEM; None is the one that `tallybook ca init` made.
        key: the private key of `cert`.
        client_ca: the authority of clients' certificates, PEM; None is the server's own.
        required: whether a client without a certificate is refused in the handshake.
        edge_days: how long a renewed certificate of an edge is good.
    """

    port: int | None = None
    host: str | None = None
    cert: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    required: bool = True
    edge_days: int = 30


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on what comes in; see CONTRACTS §2.

    Attributes:
        event_bytes_max: one event.
        request_events_max: events a request.
        request_bytes_max: a request after decompression.
        future_seconds_max: how far in the future an event's time may lie.
        typed_columns_max: lake columns made for meters' paths; past it the envelope is read.
    """

    event_bytes_max: int = EVENT_BYTES_MAX
    request_events_max: int = REQUEST_EVENTS_MAX
    request_bytes_max: int = REQUEST_BYTES_MAX
    future_seconds_max: int = FUTURE_SECONDS_MAX
    typed_columns_max: int = 256


class LakeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the lake is kept.

    Attributes:
        maintain_seconds: pause between two rounds of compaction, roll-ups and clean-up.
        tidy_seconds: pause between two checkpoints with deletion of replaced files.
        memory_mb: memory limit of one process's DuckDB.
        threads: threads of one process's DuckDB.
    """

    maintain_seconds: int = 3
    tidy_seconds: int = 300
    memory_mb: int = 512
    threads: int = 2


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is dropped, and when.

    Attributes:
        log_hours: how long a log row is kept once it is in the lake.
        vacuum_hours: how long a lake file is kept after compaction replaced it; longer than
            the longest reader.
        idempotency_hours: how long the answer to an `Idempotency-Key` is remembered.
    """

    log_hours: int = 0
    vacuum_hours: int = 1
    idempotency_hours: int = 48


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a new outbound stream keeps records, until it is set for the stream itself.

    Attributes:
        keep_hours: since a record was routed.
        keep_mb: of all its records together; what comes first counts.
    """

    keep_hours: int = 168
    keep_mb: int = 1024


class BillingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How billing runs work, and what no sane one makes: it parks the customer and goes on.

    Attributes:
        workers: processes that compose the invoices of a run with more than 1,000 customers; 0 is
            as many as processors, 1 none beside the run itself.
        lines_max: of one invoice.
        total_minor_max: of one invoice in minor units, above or below zero.
        invoices_a_day_max: of one customer within 24 hours.
    """

    workers: int = 0
    lines_max: int = 20_000
    total_minor_max: int = 10_000_000_000_000
    invoices_a_day_max: int = 50


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where catalog, contracts, invoices, ledger and keys are kept.

    Attributes:
        url: a PostgreSQL or MySQL database, such as
            `postgresql+psycopg://tallybook@db/tallybook`; '' is `control.db` in the data folder.
        password_file: a file with the password of the address's user; None where it needs none.
    """

    url: str = ""
    password_file: Path | None = None


class GateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is counted at the door, and how many requests run at once where more would be slower.

    Attributes:
        meter_use: count the use of every key, and report it as events.
        use_seconds: pause between two reports of the use of keys, at least 1.
        documents_at_once: requests for rendered documents, of all tenants; 0 is any number.
        backtests_at_once: backtests of a catalog, of all tenants; 0 is any number.
        queries_at_once: queries of meters, of all tenants; 0 is any number.
    """

    meter_use: bool = False
    use_seconds: int = 60
    documents_at_once: int = 8
    backtests_at_once: int = 2
    queries_at_once: int = 32


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """CloudEvents read from Kafka topics, where `servers` names any.

    Attributes:
        servers: brokers, host:port with commas between them; '' reads nothing.
        topics: to follow, with commas between them; a name that begins with ^ is a pattern.
        group: the consumer group; positions are kept under its name.
        tenant: whose events they are.
        options: of librdkafka, such as security.protocol.
    """

    servers: str = ""
    topics: str = ""
    group: str = "tallybook"
    tenant: str = "default"
    options: dict[str, str] = {}


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How facts are told outside.

    Attributes:
        allow_private: whether endpoints may lie in private networks, and be http without TLS.
        ca_file: certificates that endpoints are verified by, PEM; None is the system's.
        senders: attempts at once.
        endpoint_senders: attempts at once of one endpoint.
        disable_after_days: an endpoint that answered nothing for so long is disabled; 0 is never.
        keep_days: how long facts, deliveries and attempts are kept once they have ended.
    """

    allow_private: bool = False
    ca_file: Path | None = None
    senders: int = 32
    endpoint_senders: int = 4
    disable_after_days: int = 5
    keep_days: int = 30


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set; each process gets one value of it, passed down.

    Attributes:
        data_dir: the data folder; made when absent.
    """

    data_dir: Path = Path("tallybook-data")
    server: ServerSettings = ServerSettings()
    tls: TlsSettings = TlsSettings()
    limits: LimitSettings = LimitSettings()
    lake: LakeSettings = LakeSettings()
    retention: RetentionSettings = RetentionSettings()
    streams: StreamSettings = StreamSettings()
    billing: BillingSettings = BillingSettings()
    kafka: KafkaSettings = KafkaSettings()
    gate: GateSettings = GateSettings()
    control: ControlSettings = ControlSettings()
    webhooks: WebhookSettings = WebhookSettings()

    @property
    def control_db(self) -> Path:
        """The control database's file."""
        return self.data_dir / "control.db"

    @property
    def streams_db(self) -> Path:
        """The file of the outbound streams."""
        return self.data_dir / "streams.db"

    @property
    def counts_path(self) -> Path:
        """The file in which the processes count together."""
        return self.data_dir / "counts" / "limits.bin"

    @property
    def ca_dir(self) -> Path:
        """The folder of the authority that certifies edges."""
        return self.data_dir / "ca"

    @property
    def log_dir(self) -> Path:
        """The folder of the log partitions."""
        return self.data_dir / "log"

    @property
    def lake_dir(self) -> Path:
        """The folder of the lake."""
        return self.data_dir / "lake"

    @property
    def documents_dir(self) -> Path:
        """The folder of rendered invoices."""
        return self.data_dir / "documents"


def load(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Read the settings.

    Args:
        path: the TOML file; None is `tallybook.toml` in the working folder, where there is one.
        environ: variables; None is this process's.
        overrides: values of command options by dotted name ('server.port'); None is not set.

    Raises:
        Invalid: an unknown or ill-typed setting; names it and its place.
        Unavailable: `path` cannot be read.
    """
    merged = _file(path)
    for names, text in _variables(os.environ if environ is None else environ):
        _put(merged, names, text)
    for name, value in (overrides or {}).items():
        if value is not None:
            _put(merged, name.split("."), value)
    try:
        found = msgspec.convert(merged, Settings, strict=False, dec_hook=_as_path)
    except msgspec.ValidationError as error:
        raise Invalid(f"settings: {error}", code="bad-setting") from error
    return _checked(found)


def _file(path: Path | None) -> dict[str, Any]:
    named = path or Path(FILE)
    try:
        return tomllib.loads(named.read_text())
    except FileNotFoundError as error:
        if path is None:
            return {}
        raise Unavailable(f"{named} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise Unavailable(f"{named} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{named} is not TOML: {error}", code="bad-setting") from error


def _variables(environ: Mapping[str, str]) -> list[tuple[list[str], str]]:
    return [
        (name.removeprefix(PREFIX).lower().split("__"), text)
        for name, text in sorted(environ.items())
        if name.startswith(PREFIX)
    ]


def _put(merged: dict[str, Any], path: list[str], value: object) -> None:
    at = merged
    for section in path[:-1]:
        at = at.setdefault(section, {})
        if not isinstance(at, dict):
            raise Invalid(f"settings: '{section}' is no section", code="bad-setting")
    at[path[-1]] = str(value) if isinstance(value, Path) else value


def _as_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError(f"'{value}' is no path")


def encode(settings: Settings) -> bytes:
    """Return settings as one line of JSON, to hand to a child process; `decode` reads it."""
    return msgspec.json.encode(settings, enc_hook=str)


def decode(line: bytes) -> Settings:
    """Return the settings that a parent process handed down."""
    return msgspec.json.decode(line, type=Settings, dec_hook=_as_path)


def _checked(settings: Settings) -> Settings:
    if not 0 <= settings.server.port <= 65535:
        raise Invalid("server.port must be 0..65535", code="bad-setting", field="server.port")
    if not 0 <= (settings.tls.port or 0) <= 65535:
        raise Invalid("tls.port must be 0..65535", code="bad-setting", field="tls.port")
    if (settings.tls.cert is None) != (settings.tls.key is None):
        raise Invalid("tls.cert and tls.key go together", code="bad-setting", field="tls.cert")
    if settings.tls.edge_days < 1:
        raise Invalid("tls.edge_days must be 1 or more", code="bad-setting", field="tls.edge_days")
    if settings.kafka.servers and not settings.kafka.topics:
        message = "kafka.topics must name a topic where kafka.servers is set"
        raise Invalid(message, code="bad-setting", field="kafka.topics")
    _check_webhooks(settings.webhooks)
    _check_streams(settings.streams)
    sections = (settings.limits, settings.lake, settings.retention, settings.billing, settings.gate)
    for section in sections:
        for name in section.__struct_fields__:
            if getattr(section, name) < 0:
                raise Invalid(f"{name} must not be negative", code="bad-setting", field=name)
    return settings


def _check_streams(streams: StreamSettings) -> None:
    for name, most in (("keep_hours", 24 * 3650), ("keep_mb", 1 << 20)):
        if not 1 <= getattr(streams, name) <= most:
            message = f"streams.{name} must be 1 to {most}"
            raise Invalid(message, code="bad-setting", field=f"streams.{name}")


def _check_webhooks(webhooks: WebhookSettings) -> None:
    least = {"senders": 1, "endpoint_senders": 1, "disable_after_days": 0, "keep_days": 1}
    for name, smallest in least.items():
        if getattr(webhooks, name) < smallest:
            message = f"webhooks.{name} must be {smallest} or more"
            raise Invalid(message, code="bad-setting", field=f"webhooks.{name}")


def api_workers(settings: Settings) -> int:
    """Return how many API processes to run."""
    wanted = settings.server.api_workers
    return wanted or min(API_WORKERS_DEFAULT, os.cpu_count() or 1)


def billing_workers(settings: Settings) -> int:
    """Return how many processes compose invoices; 0 where the run composes them by itself."""
    wanted = settings.billing.workers or os.cpu_count() or 1
    return wanted if wanted > 1 else 0
