"""What was decided from one catalog is not written into another."""

import pytest

from tallybook.adapters.memory.catalog import MemoryCatalog
from tallybook.catalog.catalog import Archive
from tallybook.catalog.customer import Customer
from tallybook.catalog.flow import put
from tallybook.kernel.errors import Conflict

ACME = Customer(key="acme", name="Acme", currency="USD")


def test_a_change_of_what_was_changed_meanwhile_is_refused_and_writes_nothing() -> None:
    store = MemoryCatalog()
    put(store, "t", [ACME])
    seen = store.load("t")
    put(store, "t", [Customer(key="acme", name="Acme Ltd", currency="USD")])
    for entry in (Customer(key="acme", name="Else", currency="USD"), Archive("customer", "acme")):
        with pytest.raises(Conflict, match="customer acme was changed meanwhile"):
            put(store, "t", [entry], seen=seen)
    assert store.load("t").customers["acme"].name == "Acme Ltd"


def test_a_change_of_something_else_meanwhile_holds_up_nothing() -> None:
    store = MemoryCatalog()
    put(store, "t", [ACME])
    seen = store.load("t")
    put(store, "t", [Customer(key="other", name="Other", currency="USD")])
    (change,) = put(store, "t", [Customer(key="acme", name="Acme Ltd", currency="USD")], seen=seen)
    assert change.action == "update"
