"""The event: a CloudEvents 1.0 occurrence, as it is on the wire and inside.

Source: CONTRACTS §2, CloudEvents 1.0.2.
"""

import msgspec

UNPARSED_TYPE = "io.tallybook.unparsed"
"""Type of an event that carries a line a collector could not read; it goes to quarantine.

`data` is `{"line": str, "format": str, "code": str, "message": str, "origin": str}`.
"""

EDGE_PREFIX = "io.tallybook.edge."
"""Types of the agent's own reports (gaps, counters); stored like any event."""


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One occurrence to be metered.

    Attributes:
        id: unique within `source`; `(tenant, source, id)` is the identity, for good.
        source: the sender, a URI reference.
        type: what happened, such as 'http.server.request'.
        specversion: always '1.0'.
        subject: who used it; '' is not allowed, None is nobody.
        time: RFC 3339; None is the receipt time, stamped once.
        data: the JSON object as received, not parsed further.
        ext: extension attributes in the order received, such as traceparent.
    """

    id: str
    source: str
    type: str
    specversion: str = "1.0"
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    ext: dict[str, str | int | bool] = {}
