"""The canonical JSON, the states, and what an invoice must never contain."""

import msgspec
import pytest

from tallybook.invoice.document import decode_invoice, encode_invoice, number_place
from tallybook.invoice.manifest import canonical
from tallybook.invoice.state import IMMUTABLE, TRANSITIONS, after
from tallybook.kernel.errors import Conflict, Corrupt, Invalid
from tests.support.billing_world import World
from tests.unit.invoice.sample import sample


def test_keys_are_sorted_and_nothing_is_a_float() -> None:
    (invoice,) = sample().invoices()
    kinds: set[type] = set()

    def check(value: object) -> None:
        kinds.add(type(value))
        if isinstance(value, dict):
            assert list(value) == sorted(value)
            value = list(value.values())
        for part in value if isinstance(value, list) else ():
            check(part)

    check(msgspec.json.decode(encode_invoice(invoice)))
    assert kinds == {dict, list, str, int, bool, type(None)}


def test_a_stored_invoice_reads_back_to_the_same_bytes() -> None:
    world: World = sample()
    for body in world.bodies().values():
        assert encode_invoice(decode_invoice(body)).decode() == body


def test_equal_values_have_equal_bytes() -> None:
    one, other = sample(), sample()
    assert one.bodies() == other.bodies()
    (first,), (second,) = one.invoices(), other.invoices()
    assert canonical(first.manifest) == canonical(second.manifest)
    assert first.id == second.id


def test_what_is_stored_wrongly_is_corrupt() -> None:
    with pytest.raises(Corrupt):
        decode_invoice('{"id":1}')


def test_a_finalized_invoice_cannot_be_finalized_again() -> None:
    assert after("draft", "finalize") == "finalized"
    with pytest.raises(Conflict):
        after("finalized", "finalize")
    assert {state for state, _ in TRANSITIONS} | set(TRANSITIONS.values()) == set(IMMUTABLE)


@pytest.mark.parametrize("text", ["", "INV", "INV-", "INV-1x", "-1", "INV-²"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        number_place(text)
