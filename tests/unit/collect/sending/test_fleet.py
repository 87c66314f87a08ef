"""What a server knows of an edge, from the notes of its parcels."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.sending.fleet import INCARNATIONS_MAX, EdgeRecord, Seen, noted
from tallybook.collect.sending.parcel import Note, Parcel, Waiting

SECOND = 1_000_000


def seen(
    number: int,
    at_s: float,
    *,
    first: int | None = None,
    batches: int = 1,
    oldest_s: float | None = None,
    stored: bool = True,
    incarnation: str | None = "a",
    part: int = 0,
    sent_s: float | None = None,
) -> Seen:
    waiting = Waiting(
        first=number if first is None else first,
        batches=batches,
        oldest_us=None if oldest_s is None else int(oldest_s * SECOND),
    )
    parcel = Parcel(
        edge="web-1",
        incarnation=incarnation,
        number=number,
        part=part,
        agent="1.0",
        waiting=waiting,
    )
    sent_us = int((at_s if sent_s is None else sent_s) * SECOND)
    return Seen(note=Note(parcel, sent_us), at_us=int(at_s * SECOND), stored=stored)


def record_of(*requests: Seen) -> EdgeRecord:
    record: EdgeRecord | None = None
    for one in requests:
        record = noted(record, one)
    assert record is not None
    return record


def test_batches_in_order_leave_nothing_missing() -> None:
    record = record_of(*(seen(n, n) for n in range(1, 6)))
    (one,) = record.incarnations
    assert (one.received, one.missing(), one.repeats) == (((1, 5),), (), 0)
    assert record.waiting == Waiting(first=6)
    assert record.lag_seconds() == 0


def test_what_waits_in_the_backlog_is_not_missing_until_the_edge_has_let_it_go() -> None:
    live_first = [seen(n, 100 + n, first=1, batches=10, oldest_s=1) for n in (8, 9)]
    record = record_of(*live_first)
    assert record.incarnations[0].missing() == ()
    assert record.lag_seconds() == 108
    gone = record_of(*live_first, seen(10, 120))
    assert gone.incarnations[0].missing() == ((1, 7),)
    assert gone.incarnations[0].missing_count() == 7


def test_a_batch_that_comes_twice_is_told_and_changes_nothing_else() -> None:
    record = record_of(seen(1, 1), seen(2, 2), seen(2, 3), seen(3, 4))
    (one,) = record.incarnations
    assert (one.repeated, one.repeats, one.missing()) == (((2, 2),), 1, ())


def test_pieces_of_one_batch_are_one_batch() -> None:
    record = record_of(seen(1, 1, part=2), seen(1, 2, part=3))
    assert record.incarnations[0].received == ((1, 1),)
    assert record.incarnations[0].repeats == 0


def test_a_request_that_was_not_stored_is_only_a_sign_of_life() -> None:
    record = record_of(seen(1, 1), seen(2, 9, stored=False))
    assert record.last_seen_us == 9 * SECOND
    assert record.stored_us == SECOND
    assert record.incarnations[0].received == ((1, 1),)


def test_what_was_sent_elsewhere_before_is_not_missing_here() -> None:
    assert record_of(seen(500, 1), seen(501, 2)).incarnations[0].missing() == ()


def test_the_clock_is_told_with_its_sign_and_a_wrong_clock_is_no_lag() -> None:
    record = record_of(seen(1, 1000, sent_s=1300, oldest_s=1299, batches=2))
    assert record.clock_offset_us == 300 * SECOND
    assert record.lag_seconds() == 1


def test_a_new_spool_is_a_new_incarnation_and_old_ones_are_forgotten() -> None:
    lives = [seen(1, n, incarnation=f"life{n}") for n in range(1, 9)]
    record = record_of(*lives)
    assert [one.id for one in record.incarnations] == ["life8", "life7", "life6", "life5"]
    assert len(record.incarnations) == INCARNATIONS_MAX


def test_a_greeting_without_a_number_is_a_sign_of_life() -> None:
    assert record_of(seen(0, 5, incarnation=None)).incarnations == ()


@given(st.permutations(range(1, 12)), st.sets(st.integers(1, 11)))
def test_the_order_in_which_two_workers_tell_does_not_matter(
    order: list[int], lost: set[int]
) -> None:
    requests = {n: seen(n, n) for n in range(1, 12) if n not in lost}
    in_order = [requests[n] for n in sorted(requests)]
    shuffled = [requests[n] for n in order if n in requests]
    if not in_order:
        return
    one, other = record_of(*in_order), record_of(*shuffled)
    assert one == other
    after = noted(one, seen(12, 12))
    assert sum(b - a + 1 for a, b in after.incarnations[0].missing()) == len(
        {n for n in lost if n >= min(requests)}
    )


@given(st.lists(st.tuples(st.integers(1, 3000), st.booleans()), max_size=400))
def test_what_is_kept_is_bounded_whatever_comes(came: list[tuple[int, bool]]) -> None:
    requests = [seen(2 * n, at, stored=stored) for at, (n, stored) in enumerate(came, 1)]
    if requests:
        record = record_of(*requests)
        assert len(msgspec.json.encode(record)) < 16_384
