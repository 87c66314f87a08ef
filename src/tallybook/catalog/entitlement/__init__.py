"""What customers may use: entitlements, grants, wallets, and the calendar they follow.

Source: docs/algorithms/entitlements.md, grants.md and wallets.md beside it
"""

from tallybook.catalog.entitlement.entitlement import (
    Access,
    Boolean,
    Entitlement,
    EntitlementSpec,
    Metered,
    Static,
    check_entitlement,
)
from tallybook.catalog.entitlement.grant import (
    INCLUDED,
    Grant,
    GrantSpec,
    Rollover,
    check_grant,
    void,
)
from tallybook.catalog.entitlement.recurrence import (
    Interval,
    Recurrence,
    parse_interval,
    parse_step,
    plus,
)
from tallybook.catalog.entitlement.topup import RECHARGE, TopUpSpec, check_top_up_spec
from tallybook.catalog.entitlement.wallet import (
    Overdraft,
    PaidKind,
    Recharge,
    TopUp,
    Wallet,
    WalletSpec,
    check_recharge,
    check_wallet,
    covers_minor,
    units_for,
)
from tallybook.catalog.entitlement.written import entitlement_spec, interval_text, wallet_spec

__all__ = [
    "INCLUDED",
    "RECHARGE",
    "Access",
    "Boolean",
    "Entitlement",
    "EntitlementSpec",
    "Grant",
    "GrantSpec",
    "Interval",
    "Metered",
    "Overdraft",
    "PaidKind",
    "Recharge",
    "Recurrence",
    "Rollover",
    "Static",
    "TopUp",
    "TopUpSpec",
    "Wallet",
    "WalletSpec",
    "check_entitlement",
    "check_grant",
    "check_recharge",
    "check_top_up_spec",
    "check_wallet",
    "covers_minor",
    "entitlement_spec",
    "interval_text",
    "parse_interval",
    "parse_step",
    "plus",
    "units_for",
    "void",
    "wallet_spec",
]
