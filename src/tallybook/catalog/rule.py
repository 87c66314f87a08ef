"""A customer rule: every new subject of an event type becomes a customer with a subscription.

Idempotent by rule and subject: the customer's key derives from the subject alone.

Source: DECISIONS 19 (the 1,753 addresses of a log).
"""

import re

import msgspec

from tallybook.catalog.customer import Customer, CustomerSpec, SubjectSpan, check_customer
from tallybook.catalog.meter import name_ok
from tallybook.catalog.subscription import Subscription
from tallybook.kernel.errors import Invalid
from tallybook.kernel.ids import derived_id
from tallybook.kernel.limits import NAME_CHARS_MAX
from tallybook.kernel.period import month_period, parse_moment, zone

_UNFIT = re.compile(r"[^A-Za-z0-9_.:-]")
_HASH_CHARS = 8


class CustomerRule(msgspec.Struct, frozen=True, kw_only=True):
    """How subjects of a type become customers.

    Attributes:
        key: stable name, unique within the tenant.
        event_type: whose subjects.
        customer_key: template with {subject}.
        name: template with {subject}, as documents show it.
        plan: what they subscribe to.
        start: 'month' for the start of the month of the first event, or a date or RFC 3339 time.
        anchor_day: of the subscriptions, 1..31.
        subject_prefix: only subjects that start so; '' for all.
    """

    key: str
    event_type: str
    plan: str
    currency: str
    customer_key: str = "{subject}"
    name: str = "{subject}"
    zone: str = "UTC"
    locale: str = "en_US"
    start: str = "month"
    anchor_day: int = 1
    subject_prefix: str = ""


def check_rule(rule: CustomerRule) -> CustomerRule:
    """Return the rule when it can be followed.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    name_ok("key", rule.key)
    for field, template in (("customer_key", rule.customer_key), ("name", rule.name)):
        if "{subject}" not in template:
            raise Invalid(f"{field} must contain {{subject}}", field=field)
    if not rule.event_type:
        raise Invalid("event_type must name a CloudEvents type", field="event_type")
    customer, _ = follow(rule, "probe", 0)
    return msgspec.structs.replace(rule, zone=customer.zone)


def follow(rule: CustomerRule, subject: str, first_us: int) -> tuple[Customer, Subscription]:
    """Return the customer and the subscription that a subject becomes.

    Args:
        rule: checked.
        subject: as in the event.
        first_us: time of its first event, microseconds UTC.

    Raises:
        Invalid: the subject cannot be a customer.
    """
    key = customer_key(rule, subject)
    spec = CustomerSpec(
        key=key,
        currency=rule.currency,
        name=rule.name.replace("{subject}", " ".join(subject.split()))[:NAME_CHARS_MAX],
        zone=rule.zone,
        locale=rule.locale,
    )
    customer = msgspec.structs.replace(
        check_customer(spec), subjects=(SubjectSpan(subject),), rule=rule.key
    )
    subscription = Subscription(
        key=key,
        customer=key,
        plan=rule.plan,
        start_us=_start(rule, first_us),
        anchor_day=rule.anchor_day,
        rule=rule.key,
    )
    return customer, subscription


def customer_key(rule: CustomerRule, subject: str) -> str:
    """Return the key a subject gets: itself where it is fit, else cleaned with a hash behind it."""
    wanted = rule.customer_key.replace("{subject}", subject)
    clean = _UNFIT.sub("-", wanted)
    if clean == wanted and len(wanted) <= NAME_CHARS_MAX:
        return wanted
    tail = derived_id("x", subject)[-_HASH_CHARS:]
    return f"{clean[: NAME_CHARS_MAX - _HASH_CHARS - 1]}-{tail}"


def _start(rule: CustomerRule, first_us: int) -> int:
    tz = zone(rule.zone)
    if rule.start == "month":
        return month_period(first_us, 1, tz).start_us
    return parse_moment(rule.start, tz, "start")
