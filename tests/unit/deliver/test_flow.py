"""Use cases of delivering where something is missing: each is an answer, none an exception."""

from collections.abc import Sequence

import pytest

from tallybook.adapters.memory.post import MemoryPost
from tallybook.deliver.delivery import Answer, Parcel, begun
from tallybook.deliver.endpoint import ENDPOINTS_MAX, Endpoint, Secret
from tallybook.deliver.flow import add, attempt, change, endpoint_of, fan_out, take
from tallybook.deliver.health import disabled
from tallybook.deliver.ports import Asked, Ready
from tallybook.deliver.steps import Written
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Conflict, Corrupt, Missing

FACT = Fact(id="f", kind="invoice.paid", subject="inv", customer="c", at_us=5, body="{}")


def endpoint(name: str = "e1") -> Endpoint:
    secrets = (Secret(sealed="new", created_us=2), Secret(sealed="old", created_us=1, expires_us=9))
    return Endpoint(id=name, channel="telegraph", address="a", created_us=1, secrets=secrets)


class Telegraph:
    """A channel that takes everything."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, Sequence[str]]] = []

    def check(self, address: str) -> str:
        return address

    def send(
        self, address: str, fact: Fact, body: bytes, secrets: Sequence[str], now_us: int
    ) -> Answer:
        del fact, now_us
        self.sent.append((address, body, secrets))
        return Answer(outcome="delivered")


class Opened:
    """A seal that is none, or is broken."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken

    def close(self, text: str, place: str) -> str:
        return f"{place}:{text}"

    def open(self, sealed: str, place: str) -> str:
        if self.broken:
            raise Corrupt("the secret was sealed elsewhere")
        return f"{place}:{sealed}"


def test_an_attempt_signs_with_every_secret_that_is_good() -> None:
    channel = Telegraph()
    parcel = Parcel(tenant="t", endpoint=endpoint(), delivery=begun(endpoint(), FACT, 5), fact=FACT)
    assert attempt({"telegraph": channel}, Opened(), parcel, 5).outcome == "delivered"
    assert attempt({"telegraph": channel}, Opened(), parcel, 9).outcome == "delivered"
    place = "endpoint/t/e1"
    assert [secrets for _, _, secrets in channel.sent] == [
        [f"{place}:new", f"{place}:old"], [f"{place}:new"],
    ]  # fmt: skip
    assert channel.sent[0][1] == channel.sent[1][1]
    broken = attempt({"telegraph": channel}, Opened(broken=True), parcel, 5)
    assert (broken.outcome, broken.error) == ("failed", "the secret was sealed elsewhere")
    nobody = attempt({}, Opened(), parcel, 5)
    assert (nobody.outcome, nobody.error) == ("failed", "nothing can send by 'telegraph'")


@pytest.mark.parametrize("state", ["removed", "disabled"])
def test_nothing_is_taken_of_an_endpoint_that_went_meanwhile(state: str) -> None:
    """What was begun for it without its knowing, by another server, ends."""
    post = MemoryPost()
    add(post, "t", endpoint())
    post.tell("t", [FACT])
    fan_out(post, 5, 9)
    assert post.ready(5) == [Ready("t", "e1", answers=None)]
    assert post.ready(5)[0].place == ("t", "e1")
    with post.writing() as transaction:
        gone = Written(removed=("e1",))
        off = Written(endpoints=(disabled(endpoint(), "x"),))
        transaction.put("t", gone if state == "removed" else off, 5)
    assert take(post, ("t", "e1"), 5, 9, 60, "me") == []
    assert [one.state for one in post.deliveries("t", Asked())] == ["cancelled"]


def test_endpoints_are_bounded_and_found_by_name() -> None:
    post = MemoryPost()
    for number in range(ENDPOINTS_MAX):
        add(post, "t", endpoint(f"e{number}"))
    with pytest.raises(Conflict) as caught:
        add(post, "t", endpoint("further"))
    assert caught.value.code == "too-many-endpoints"
    add(post, "u", endpoint("further"))
    assert endpoint_of(post.endpoints("t"), "e7").id == "e7"
    with pytest.raises(Missing):
        endpoint_of(post.endpoints("t"), "nobody")
    with pytest.raises(Missing):
        change(post, "u", "e7", lambda one: one, 5)
