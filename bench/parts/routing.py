"""What routing costs: matching alone, and the road from the lake to the streams."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures.numbers import spread
from bench.figures.report import Figure, Found
from tallybook.adapters.memory.streams import MemoryRecords, MemoryRules
from tallybook.adapters.sqlite.streams import (
    SqliteReplays,
    SqliteShares,
    SqliteStreamReader,
    SqliteStreamWriter,
    StreamsFile,
)
from tallybook.adapters.sqlite.streams.groups import SqliteGroups
from tallybook.route.flow import Routing, route_once
from tallybook.route.ports import Answer, GroupAt, NewGroup, Start
from tallybook.route.record import Record
from tallybook.route.rule import Rule
from tallybook.route.sharing import GroupTerms
from tallybook.route.table import RoutingTable

EVENTS = 100_000
DATA = '{"method":"GET","path":"/api/v1/items/%d","status":%d,"bytes":%d,"protocol":"HTTP/1.1"}'


class Clock:
    """This machine's clock."""

    def now_us(self) -> int:
        """Return the present instant."""
        return time.time_ns() // 1000


def records(count: int) -> list[Record]:
    """Return events as access logs make them."""
    return [
        Record(
            tenant="default", id=str(n), source=f"edge-{n % 20}", type=f"usage.{n % 1000}",
            subject=f"c{n % 500}", time_us=1_760_000_000_000_000 + n, received_us=n,
            ext='{"region":"eu-west-1"}', data=DATA % (n, 200 + n % 4 * 100, n % 5000),
            commit_seq=1, key=n.to_bytes(16, "big"),
        )
        for n in range(count)
    ]  # fmt: skip


def rules(patterns: Sequence[str]) -> list[Rule]:
    """Return a rule for each pattern."""
    return [
        Rule(tenant="default", key=f"r{n}", version=1, pattern=text, targets=("out",))
        for n, text in enumerate(patterns)
    ]


def matching(patterns: Sequence[str], some: Sequence[Record]) -> float:
    """Return events a second of processor time that a table of rules looks at."""
    table = RoutingTable(rules(patterns))
    begun = time.process_time()
    for record in some:
        table.matching(record)
    return len(some) / (time.process_time() - begun)


def road(folder: Path, patterns: Sequence[str], some: list[Record]) -> tuple[float, StreamsFile]:
    """Return events a second of processor time from the lake to durable streams, and the file."""
    lake, store = MemoryRecords(), MemoryRules()
    lake.commits.append(some)
    for rule in rules(patterns):
        store.add(rule)
    file = StreamsFile(folder / f"{len(patterns)}-{time.time_ns()}.db")
    routing = Routing(
        rules=store,
        records=lake,
        streams=SqliteStreamWriter(file),
        replays=SqliteReplays(file),
        clock=Clock(),
    )
    begun = time.process_time()
    route_once(routing)
    return len(some) / (time.process_time() - begun), file


def consuming(file: StreamsFile) -> float:
    """Return records a second that one member leases and acknowledges, 1,000 at once."""
    new = NewGroup(
        tenant="default", stream="out", name="g", terms=GroupTerms(), at=Start(to="earliest"),
        now_us=0,
    )  # fmt: skip
    SqliteGroups(file).create(new)
    shares, at, done = SqliteShares(file), GroupAt("default", "out", "g"), 0
    begun = time.process_time()
    while (handed := shares.lease(at, f"l{done}", 1_000, 1)) is not None:
        done += len(shares.acknowledge(at, Answer(lease=handed.lease), 1).done)
    assert done == SqliteStreamReader(file).stream("default", "out").records
    return done / (time.process_time() - begun)


def figures() -> list[tuple[str, float]]:
    """Return every figure, events a second."""
    some = records(EVENTS)
    failures = '{"data":{"status":[{"numeric":[">=",500]}]}}'
    by_type = [f'{{"type":["usage.{n}"],"data":{{"status":[500]}}}}' for n in range(1000)]
    by_subject = [f'{{"subject":["c{n}"]}}' for n in range(1000)]
    kinds = {
        "prefixes": '{"prefix":"/api/v1/items/%d"}',
        "suffixes": '{"suffix":"/items/%d"}',
        "wildcards": '{"wildcard":"/api/*/items/%d*"}',
        "texts in any case": '{"equals-ignore-case":"/API/v1/items/%d"}',
    }
    by_kind = {
        kind: [
            '{"type":[{"prefix":"usage."}],"data":{"path":[%s]}}' % (text % n) for n in range(1000)
        ]
        for kind, text in kinds.items()
    }
    by_range = [
        f'{{"data":{{"bytes":[{{"numeric":[">=",{5 * n},"<",{5 * n + 5}]}}]}}}}'
        for n in range(1000)
    ]
    by_absence = [f'{{"data":{{"x{n}":[{{"exists":true}}]}}}}' for n in range(100)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        none, empty = road(folder, [], some)
        few, sparse = road(folder, [failures], some)
        whole, file = road(folder, ['{"type":[{"prefix":"usage."}]}'], some)
        found = [
            ("matching: 1 rule on the type", matching(by_type[:1], some)),
            ("matching: 1 rule on a number in data", matching([failures], some)),
            ("matching: 1,000 rules on types", matching(by_type, some)),
            ("matching: 1,000 rules on subjects", matching(by_subject, some)),
            *(
                (f"matching: 1,000 rules on {kind} of a path", matching(patterns, some))
                for kind, patterns in by_kind.items()
            ),
            ("matching: 1,000 rules on ranges of a number", matching(by_range, some)),
            ("matching: 100 rules that no index helps", matching(by_absence, some[:5_000])),
            ("lake to streams: 1 rule, a quarter matches, the rest unmatched", few),
            ("lake to streams: 1 rule, everything matches", whole),
            ("consuming: lease and acknowledge, 1,000 at once", consuming(file)),
        ]
        del none
        for each in (empty, sparse, file):
            each.close()
    return found


def run() -> Found:
    """Measure every figure once."""
    return Found(
        figures=[
            Figure(name=name, spread=spread([value]), unit="events/s") for name, value in figures()
        ],
        text=f"One process, one run; events a second of processor time; {EVENTS:,} events as access"
        " logs make them. Without a rule nothing is read. Everything on streams is fsynced.",
    )
