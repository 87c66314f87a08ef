"""A recurring charge of one customer, asked and rated without a billing run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.catalog.catalog import Catalog, with_entries
from tallybook.catalog.customer import Customer, SubjectSpan
from tallybook.catalog.meter import Meter, MeterSpec, check_meter
from tallybook.catalog.plan import Charge, Plan
from tallybook.catalog.price import parse_price
from tallybook.invoice.manifest import Group, Item, Position
from tallybook.invoice.questions import Asked, ask
from tallybook.invoice.rating import NOTHING, Fact, rated_item
from tallybook.kernel.period import parse_moment, zone
from tallybook.meter.usage import StoredEvent
from tallybook.rate.ports import UsageReader
from tallybook.rate.step import Rated


@dataclass
class Carried:
    """A charge with `recurring`, its period, and events as they come."""

    aggregation: str = "SUM"
    proration: str = "day"
    price: Mapping[str, object] = field(
        default_factory=lambda: {"type": "unit", "unit_amount": "1"}
    )
    start: str = "2026-05-01"
    end: str = "2026-06-01"
    full_start: str = ""
    full_end: str = ""
    zone_name: str = "UTC"
    split_by: tuple[str, ...] = ()
    releases: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    events: list[StoredEvent] = field(default_factory=list)

    def at(self, text: str) -> int:
        """Return the instant of a text in the customer's zone."""
        return parse_moment(text, zone(self.zone_name), "at")

    def event(self, when: str, data: str = "{}", subject: str = "s") -> None:
        """Add one event."""
        number = len(self.events) + 1
        self.events.append(
            StoredEvent(
                id=f"e{number:04d}", source="test", type="t", subject=subject,
                time_us=self.at(when), received_us=0, commit_seq=number, data=data, ext=None,
                problem=None, row_hash=number * 7919,
            )
        )  # fmt: skip

    def add(self, when: str, value: object, **dimensions: object) -> None:
        """Add an event with a value and dimension values."""
        pairs = {"v": value, **dimensions}
        texts = (f'"{name}":{_json(one)}' for name, one in pairs.items())
        self.event(when, f"{{{','.join(texts)}}}")

    def meter(self) -> Meter:
        """Return the meter."""
        return check_meter(
            MeterSpec(
                key="m", event_type="t", aggregation=self.aggregation,
                value=None if self.aggregation == "COUNT" else "$.v",
                group_by={"op": "$.op", "region": "$.region"},
            )
        )  # fmt: skip

    def charge(self) -> Charge:
        """Return the charge."""
        return Charge(
            key="c", name="c", meter="m", price=parse_price(dict(self.price)), recurring=True,
            proration=self.proration, split_by=self.split_by,  # type: ignore[arg-type]
            releases=dict(self.releases),
        )  # fmt: skip

    def customer(self) -> Customer:
        """Return the customer, whose subjects are 's' and 'r'."""
        spans = (SubjectSpan("s"), SubjectSpan("r"))
        return Customer(
            key="acme", name="Acme", currency="USD", zone=self.zone_name, subjects=spans
        )

    def catalog(self) -> Catalog:
        """Return a catalog with the charge alone."""
        plan = Plan(key="p", name="p", currency="USD", charges=(self.charge(),))
        return with_entries(Catalog(), [self.meter(), plan, self.customer()])

    def item(self, until: str = "") -> Item:
        """Return the item of the period, up to an instant."""
        return Item(
            position=Position("sub", "c", self.at(self.start)), plan="p", plan_version=1,
            end_us=self.at(self.end), full_start_us=self.at(self.full_start or self.start),
            full_end_us=self.at(self.full_end or self.end), until_us=self.at(until or self.end),
            meter="m", meter_version=1, adjustment=False,
        )  # fmt: skip

    def reader(self) -> MemoryUsageReader:
        """Return a reader of the events."""
        memory = MemoryUsageReader()
        memory.add("default", self.events)
        return memory

    def facts(
        self, cut: int = 1 << 60, until: str = "", reader: UsageReader | None = None
    ) -> Mapping[Group, Fact]:
        """Return what the meter says at a cut."""
        item = self.item(until)
        asked = [Asked(self.customer(), (item,))]
        found = ask(reader or self.reader(), "default", asked, self.catalog(), cut)
        return found["acme"][item.position]

    def rated(self, cut: int = 1 << 60, until: str = "", group: Group = ()) -> Rated:
        """Return what it costs at a cut."""
        fact = self.facts(cut, until).get(group, NOTHING)
        return rated_item(self.item(until), self.charge(), fact, self.zone_name)


def _json(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
