"""How well an endpoint answers, and when it is left alone for good."""

import msgspec

from tallybook.deliver.endpoint import REASON_CHARS_MAX, Endpoint
from tallybook.kernel.timestamps import DAY_US, format_us


def succeeded(endpoint: Endpoint, at_us: int) -> Endpoint:
    """Return an endpoint after something was delivered; one that is disabled stays so."""
    well = {} if endpoint.state == "disabled" else {"state": "active", "reason": ""}
    return msgspec.structs.replace(
        endpoint,
        **well,
        failing_since_us=None,
        failures=0,
        succeeded_us=at_us,
        delivered_total=endpoint.delivered_total + 1,
    )


def failed(endpoint: Endpoint, at_us: int, error: str, disable_after_days: int) -> Endpoint:
    """Return an endpoint after an attempt failed.

    Args:
        endpoint: as it was.
        at_us: when it failed.
        error: why.
        disable_after_days: once everything failed for so long it is disabled; 0 is never.
    """
    since_us = at_us if endpoint.failing_since_us is None else endpoint.failing_since_us
    tried = msgspec.structs.replace(
        endpoint,
        failing_since_us=since_us,
        failures=endpoint.failures + 1,
        failed_us=at_us,
        failed_total=endpoint.failed_total + 1,
    )
    if endpoint.state == "disabled":
        return tried
    if disable_after_days and at_us - since_us >= disable_after_days * DAY_US:
        since = format_us(since_us)
        return disabled(tried, f"every attempt since {since} failed, the last one: {error}")
    return msgspec.structs.replace(tried, state="failing", reason=error[:REASON_CHARS_MAX])


def disabled(endpoint: Endpoint, reason: str) -> Endpoint:
    """Return an endpoint that is told nothing, with the reason."""
    return msgspec.structs.replace(endpoint, state="disabled", reason=reason[:REASON_CHARS_MAX])


def enabled(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that is told facts from now on, its failures forgotten."""
    return msgspec.structs.replace(
        endpoint, state="active", reason="", failing_since_us=None, failures=0
    )
