"""The tables of the settings that name sources beyond host and logs.

Every table may have `name`, which tells two of a kind apart, and `interval_seconds`, where it is
to be read at another pace than the agent's own.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tallybook.collect.doors.rules import DoorRules, SeriesRule, checked
from tallybook.kernel.errors import Invalid

if TYPE_CHECKING:
    from tallybook.collect.intervals.columns import Columns
    from tallybook.collect.payload.rules import PayloadRule
else:  # what only some agents read is loaded when a table asks for it, and checked there
    Columns = PayloadRule = Any

_INTERVAL_SECONDS_MAX = 86_400


class Prometheus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A metrics endpoint that is scraped.

    Attributes:
        url: the endpoint.
        name: the label `job`, and part of what the target is remembered under.
        instance: the label `instance`; None is host and port of the address.
        interval_seconds: between two readings; None is the agent's own.
        series: which series become events, in order; those that none matches are left out.
        subject: labels for the subject; the first that is present names it.
        labels: put to every series.
        new_series_from_zero: a series that was not there at the reading before began at 0; for
            targets that make a counter when it is first needed, and tell no start.
        headers: sent along, such as `Authorization`.
        ca_file: certificates to trust, PEM.
    """

    url: str
    name: str = "prometheus"
    instance: str | None = None
    interval_seconds: float | None = None
    series: tuple[SeriesRule, ...]
    subject: tuple[str, ...] = ("instance",)
    labels: dict[str, str] = {}
    new_series_from_zero: bool = False
    headers: dict[str, str] = {}
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_interval(self.interval_seconds, "prometheus")
        if not self.series:
            raise Invalid("name the series that count: [[prometheus.series]]", field="prometheus")
        checked("prometheus", self.rules())

    def rules(self) -> DoorRules:
        """Return the same as rules."""
        return DoorRules(
            subject=list(self.subject), ignore=[], series=list(self.series), unmatched="drop"
        )


class StatusPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server's status page.

    Attributes:
        url: the page; for nginx-plus the API with its version, such as `http://127.0.0.1/api/9`;
            for apache with `?auto`.
        kind: nginx (`stub_status`), nginx-plus or apache.
        name: the label `job`, and part of what the page is remembered under.
        instance: the label `instance` and the subject; None is host and port of the address.
        pid_file: of nginx; when its master process started is the evidence of a restart.
        interval_seconds: between two readings; None is the agent's own.
        headers: sent along; ca_file: certificates to trust, PEM.
    """

    url: str
    kind: Literal["nginx", "nginx-plus", "apache"]
    name: str = "status"
    instance: str | None = None
    pid_file: Path | None = None
    interval_seconds: float | None = None
    headers: dict[str, str] = {}
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_interval(self.interval_seconds, "status_page")
        if self.pid_file is not None and self.kind != "nginx":
            raise Invalid("only kind nginx has a pid_file", field="status_page")


class IntervalFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files of meters that arrive in a folder.

    Attributes:
        path: a pattern, such as `inbox/*.csv`; `.gz` is decompressed.
        format: nem12 or csv.
        columns: where a CSV file keeps what is needed.
        name: part of the events' source, the same for edges that share meters.
        type: the events' type.
        qualities: of NEM12, that count.
        rest_seconds: a file is read so long after it was last written.
        interval_seconds: between two looks; None is the agent's own.
    """

    path: Path
    format: Literal["nem12", "csv"] = "nem12"
    columns: Columns | None = None
    name: str = "intervals"
    type: str = "meter.interval"
    qualities: tuple[Literal["A", "S", "F", "E", "N"], ...] = ("A", "S", "F")
    rest_seconds: float = 2
    interval_seconds: float | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        from tallybook.collect.intervals.columns import Columns

        if self.columns is not None:
            msgspec.structs.force_setattr(self, "columns", msgspec.convert(self.columns, Columns))
        _check_interval(self.interval_seconds, "interval_file")
        if (self.format == "csv") != (self.columns is not None):
            message = "format csv needs [interval_file.columns], and nem12 has none"
            raise Invalid(message, field="interval_file")
        if not self.type or self.rest_seconds < 0:
            raise Invalid("type is empty, or rest_seconds negative", field="interval_file")


class Statsd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A door for StatsD lines.

    Attributes:
        listen: `udp://HOST:PORT`, `tcp://HOST:PORT`, `unix:///PATH` (datagrams) or
            `unix+stream:///PATH`.
        name: tells two of a kind apart.
        prefix: put before a metric's name, for the events' type.
        subject_tag: the tag that names who used it; subject: where it is not there.
        interval_seconds: what comes in between is added up.
    """

    listen: tuple[str, ...] = ("udp://127.0.0.1:8125",)
    name: str = "statsd"
    prefix: str = "statsd."
    subject_tag: str | None = None
    subject: str | None = None
    interval_seconds: float = 1

    def __post_init__(self) -> None:
        """Check ranges."""
        _check_interval(self.interval_seconds, "statsd")
        if not self.listen:
            raise Invalid("listen names no address", field="statsd")


class Mqtt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subscription to an MQTT broker.

    Attributes:
        host: the broker; port: None is 1883, or 8883 with tls.
        rules: what the messages of each topic become; the first that matches decides.
        name: part of the events' source, the same for edges that share a broker.
        client_id: our name at the broker; None is `tallybook-` and the edge's name.
        qos: asked for; what comes with 0 may be lost on the way.
        session_seconds: how long the broker keeps messages while the agent is away.
        version: of the protocol.
        username: with password_file, or password.
        tls: encrypted; ca_file, cert_file and key_file as PEM.
    """

    host: str
    port: int | None = None
    rules: tuple[PayloadRule, ...]
    name: str = "mqtt"
    client_id: str | None = None
    qos: Literal[0, 1, 2] = 1
    session_seconds: int = 7 * 86_400
    version: Literal["5", "3.1.1"] = "5"
    username: str | None = None
    password: str | None = None
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        from tallybook.collect.payload.rules import RULES_MAX, PayloadRule

        rules = msgspec.convert(self.rules, tuple[PayloadRule, ...])
        msgspec.structs.force_setattr(self, "rules", rules)
        if not 1 <= len(self.rules) <= RULES_MAX:
            raise Invalid(f"give 1 to {RULES_MAX} [[mqtt.rules]]", field="mqtt")
        if not self.host or not 1 <= self.session_seconds < 2**32 - 1:
            raise Invalid("host is empty, or session_seconds not 1 to 2^32", field="mqtt")


def _check_interval(seconds: float | None, field: str) -> None:
    if seconds is not None and not 0.1 <= seconds <= _INTERVAL_SECONDS_MAX:
        raise Invalid("interval_seconds must be 0.1 to 86400", field=field)
