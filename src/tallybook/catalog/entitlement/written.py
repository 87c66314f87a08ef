"""Entitlements, grants and wallets as they are written; checked again they are the same."""

from tallybook.catalog.entitlement.entitlement import Entitlement, EntitlementSpec, Metered, Static
from tallybook.catalog.entitlement.recurrence import Interval
from tallybook.catalog.entitlement.wallet import Wallet, WalletSpec
from tallybook.kernel.timestamps import HOUR_US, SECOND_US, format_us


def interval_text(interval: Interval) -> str:
    """Return an interval as an ISO 8601 duration, such as P1M or P1DT12H."""
    days = [(interval.months, "M"), (interval.days, "D")]
    minutes, seconds = divmod(interval.exact_us % HOUR_US // SECOND_US, 60)
    exact = [(interval.exact_us // HOUR_US, "H"), (minutes, "M"), (seconds, "S")]
    calendar = "".join(f"{number}{unit}" for number, unit in days if number)
    clock = "".join(f"{number}{unit}" for number, unit in exact if number)
    return f"P{calendar}{'T' if clock else ''}{clock}"


def entitlement_spec(entitlement: Entitlement) -> EntitlementSpec:
    """Return an entitlement as it is written."""
    access = entitlement.access
    end = None if entitlement.end_us is None else format_us(entitlement.end_us)
    start = format_us(entitlement.start_us)
    if isinstance(access, Metered):
        return EntitlementSpec(
            customer=entitlement.customer,
            feature=entitlement.feature,
            type="metered",
            start=start,
            end=end,
            meter=access.meter,
            period=interval_text(access.period.interval),
            anchor=format_us(access.period.anchor_us),
            measure_from=format_us(access.measure_from_us),
            soft=access.soft,
            keep_overage=access.keep_overage,
            filter={name: list(values) for name, values in access.filter.items()},
            factor=access.factor,
            included=access.included,
            included_priority=access.included_priority,
        )
    return EntitlementSpec(
        customer=entitlement.customer,
        feature=entitlement.feature,
        type="static" if isinstance(access, Static) else "boolean",
        start=start,
        end=end,
        config=access.config if isinstance(access, Static) else None,
    )


def wallet_spec(wallet: Wallet) -> WalletSpec:
    """Return a wallet as it is written."""
    return WalletSpec(
        key=wallet.key,
        customer=wallet.customer,
        currency=wallet.currency,
        unit=wallet.unit,
        rate=wallet.rate,
        priority=wallet.priority,
        only=list(wallet.only),
        overdraft=wallet.overdraft,
        recharge=wallet.recharge,
        thresholds=list(wallet.thresholds),
    )
