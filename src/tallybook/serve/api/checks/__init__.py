"""Checks of entitlements: balances that are kept, followed, and answered from in a request path."""

from tallybook.serve.api.checks.keeping import (
    FOLLOW_SECONDS,
    Asked,
    Checked,
    Checks,
    Parts,
    checks_of,
    found,
    parts_of,
)

__all__ = [
    "FOLLOW_SECONDS",
    "Asked",
    "Checked",
    "Checks",
    "Parts",
    "checks_of",
    "found",
    "parts_of",
]
