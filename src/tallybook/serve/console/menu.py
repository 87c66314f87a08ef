"""The menu: every page's place, in groups that follow a person's work."""

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """A page in the menu; `here` is how a page says that it is this one.

    Attributes:
        needs: the scope without which it is not shown.
    """

    here: str
    path: str
    label: str
    needs: str = "read"


class Group(msgspec.Struct, frozen=True):
    """Pages that belong together."""

    label: str
    entries: tuple[Entry, ...]


MENU = (
    Group("", (Entry("overview", "/", "Overview"),)),
    Group(
        "Usage",
        (
            Entry("meters", "/meters", "Meters"),
            Entry("quarantine", "/quarantine", "Quarantine"),
            Entry("streams", "/streams", "Streams"),
            Entry("edges", "/edges", "Edges"),
        ),
    ),
    Group(
        "Customers",
        (
            Entry("customers", "/customers", "Customers"),
            Entry("subscriptions", "/subscriptions", "Subscriptions"),
            Entry("wallets", "/wallets", "Wallets"),
        ),
    ),
    Group(
        "Catalog",
        (
            Entry("plans", "/plans", "Plans"),
            Entry("taxes", "/taxes", "Taxes"),
            Entry("coupons", "/coupons", "Coupons"),
        ),
    ),
    Group(
        "Billing",
        (
            Entry("invoices", "/invoices", "Invoices"),
            Entry("drafts", "/drafts", "Drafts"),
            Entry("runs", "/runs", "Billing runs"),
        ),
    ),
    Group(
        "Books",
        (
            Entry("payments", "/payments", "Payments"),
            Entry("credit-notes", "/credit-notes", "Credit notes"),
            Entry("ledger", "/ledger", "Ledger"),
            Entry("audit", "/audit", "Audit"),
        ),
    ),
    Group(
        "Access",
        (
            Entry("keys", "/keys", "Keys", "admin"),
            Entry("people", "/people", "People", "admin"),
            Entry("usage-plans", "/usage-plans", "Usage plans", "admin"),
            Entry("changes", "/changes", "Changes", "admin"),
            Entry("tenants", "/tenants", "Tenants", "operator"),
        ),
    ),
    Group(
        "System",
        (Entry("webhooks", "/webhooks", "Webhooks"), Entry("system", "/system", "Server")),
    ),
)
