"""Where a cumulative series stands, and what a new sample adds to it; never guessed upward.

The rules of `collect.counter` for samples that come over a wire: repeated, late, from two
replicas, and with evidence that may arrive after what it explains.

| seen | believed |
|---|---|
| for the first time, with a start that this log can have missed nothing of | the whole value |
| for the first time otherwise | 0; the value becomes the baseline |
| not after the newest sample | 0: its growth is counted already |
| a start at or after the newest sample | the whole value: it began anew |
| a start between | 0 beyond the difference: two senders share a series; reported |
| higher or the same | the difference |
| lower, but not below half | 0; the higher value stays |
| below half | 0; the lower value becomes the baseline, and it is reported |

A fall, or a first sample, without a start of its own is held for ten minutes: evidence from
another series (`…_created`, `process_start_time_seconds`) then adds what it explains, once.

Source: edge_transport 1.5 (hazards); ADR 0012.
"""

from decimal import Decimal

import msgspec

from tallybook.kernel.decimals import EXACT
from tallybook.kernel.timestamps import DAY_US, SECOND_US

FIRST_WITHIN_US = DAY_US
"""A counter that is new here is believed whole if it began so long before its first sample."""
HELD_US = 600 * SECOND_US
ZERO = Decimal(0)


class Held(msgspec.Struct, frozen=True, array_like=True):
    """Growth that waits for evidence.

    Attributes:
        amount: what is added if the counter began anew.
        after_us: it did so after this instant,
        at_us: and at this instant, the sample's, at the latest.
        first: it was the series' first sample.
    """

    amount: Decimal
    after_us: int
    at_us: int
    first: bool


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a cumulative series.

    Attributes:
        value: the highest believed in this incarnation.
        seen_us: time of the newest sample.
        start_us: since when it counts, as its sender says; 0 is not said.
        risen_us: time of the newest sample that reached `value`.
        sum: of a histogram.
        held: a growth that waits for evidence.
    """

    value: Decimal
    seen_us: int
    start_us: int
    risen_us: int
    sum: Decimal | None = None
    held: Held | None = None


class Evidence(msgspec.Struct, frozen=True):
    """When counters began, as other series tell.

    Attributes:
        series_us: of this very series (`…_created`), 0 for not known.
        target_us: of the process that exposes it, 0 for not known.
    """

    series_us: int = 0
    target_us: int = 0

    def within(self, after_us: int, upto_us: int) -> int:
        """Return a start after one instant and not after another, 0 for none."""
        for start in (self.series_us, self.target_us):
            if after_us < start <= upto_us:
                return start
        return 0


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A new sample of a cumulative series; attributes as in `Point`."""

    value: Decimal
    time_us: int
    start_us: int = 0
    sum: Decimal | None = None


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """What a series grew by, from `since_us` to `time_us`."""

    amount: Decimal
    time_us: int
    since_us: int
    sum: Decimal | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What a sample adds, where the series stands then, and why nothing is added ('' if it is)."""

    growths: tuple[Growth, ...]
    standing: Standing
    reason: str = ""


def judge(known: Standing | None, sample: Sample, evidence: Evidence, born_us: int) -> Verdict:
    """Return what one sample adds.

    Args:
        known: where the series stands; None where it was never seen.
        sample: not negative.
        evidence: what other series tell of it.
        born_us: when the log began that keeps the standings; what was counted before is unknown.
    """
    if known is None:
        return _first(sample, evidence, born_us)
    if sample.time_us <= known.seen_us:
        return Verdict((), known, "repeated")
    settled, paid = _settle(known, sample.time_us, evidence, born_us)
    verdict = _step(settled, sample, evidence)
    return Verdict(paid + verdict.growths, verdict.standing, "" if paid else verdict.reason)


def _first(sample: Sample, evidence: Evidence, born_us: int) -> Verdict:
    start = sample.start_us or evidence.series_us
    if _began_here(start, sample.time_us, born_us):
        reason = "" if sample.value or sample.sum else "unchanged"
        return Verdict((_whole(sample, start),) if not reason else (), _now(sample), reason)
    held = None
    if not sample.start_us and sample.sum is None and sample.value:
        held = Held(sample.value, born_us, sample.time_us, first=True)
    return Verdict((), _now(sample, held), "baseline")


def _began_here(start_us: int, time_us: int, born_us: int) -> bool:
    return max(born_us, time_us - FIRST_WITHIN_US) <= start_us <= time_us and start_us > 0


def _settle(
    known: Standing, now_us: int, evidence: Evidence, born_us: int
) -> tuple[Standing, tuple[Growth, ...]]:
    """Return the standing with its held growth paid, still held, or given up."""
    held = known.held
    if held is None:
        return known, ()
    if held.first:
        explained = _began_here(evidence.series_us, held.at_us, born_us)
        start = evidence.series_us if explained else 0
    else:
        start = evidence.within(held.after_us, held.at_us)
    without = msgspec.structs.replace(known, held=None)
    if start:
        growth = Growth(amount=held.amount, time_us=held.at_us, since_us=start)
        return without, (growth,)
    return (without if now_us - held.at_us > HELD_US else known), ()


def _step(known: Standing, sample: Sample, evidence: Evidence) -> Verdict:
    began = sample.start_us > known.start_us and sample.start_us >= known.seen_us
    if began:
        return Verdict((_whole(sample, sample.start_us),), _now(sample))
    overlap = bool(known.start_us and sample.start_us and sample.start_us != known.start_us)
    if sample.value >= known.value:
        return _risen(known, sample, overlap=overlap)
    start = 0 if sample.start_us else evidence.within(known.risen_us, sample.time_us)
    if start:
        return Verdict((_whole(sample, start),), _now(sample))
    if sample.value * 2 >= known.value:
        kept = msgspec.structs.replace(known, seen_us=sample.time_us)
        return Verdict((), kept, "overlap" if overlap else "jitter")
    held = None
    if not sample.start_us and sample.sum is None and sample.value:
        held = Held(sample.value, known.risen_us, sample.time_us, first=False)
    return Verdict((), _now(sample, held), "overlap" if overlap else "fell")


def _risen(known: Standing, sample: Sample, *, overlap: bool) -> Verdict:
    amount = EXACT.subtract(sample.value, known.value)
    total = None if sample.sum is None else EXACT.subtract(sample.sum, known.sum or ZERO)
    standing = Standing(
        sample.value,
        sample.time_us,
        known.start_us or sample.start_us,
        sample.time_us,
        sample.sum,
        known.held,
    )
    if not amount and not total:
        return Verdict((), standing, "unchanged")
    growth = Growth(amount=amount, sum=total, time_us=sample.time_us, since_us=known.seen_us)
    return Verdict((growth,), standing, "overlap" if overlap else "")


def _whole(sample: Sample, start_us: int) -> Growth:
    return Growth(amount=sample.value, sum=sample.sum, time_us=sample.time_us, since_us=start_us)


def _now(sample: Sample, held: Held | None = None) -> Standing:
    return Standing(sample.value, sample.time_us, sample.start_us, sample.time_us, sample.sum, held)
