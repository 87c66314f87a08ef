"""Two processes that add to one audit log at once: rows without gaps, in one chain, none lost."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tallybook.adapters.sql.access.anchor import Anchors
from tallybook.compose import World
from tallybook.settings import ControlSettings, Settings
from tests.support.databases import KINDS

ROWS, PROCESSES = 60, 3
ADDING = """
import sys
from pathlib import Path
from tallybook.admit.trail import Change
from tallybook.compose import World
from tallybook.settings import ControlSettings, Settings

folder, url, who, rows = sys.argv[1:]
world = World(Settings(data_dir=Path(folder), control=ControlSettings(url=url)))
for number in range(int(rows)):
    change = Change(actor=who, action="create", kind="meter", subject=str(number))
    world.audit.add("t", [change, change], number)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_processes_add_to_one_log_at_once(
    kind: str, tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    (tmp_path / "secret").write_bytes(b"s" * 32)
    url = "" if kind == "sqlite" else new_database(kind)
    world = World(Settings(data_dir=tmp_path, control=ControlSettings(url=url)))
    try:
        _added(world, tmp_path, url)
    finally:
        world.engine.dispose()


def _added(world: World, folder: Path, url: str) -> None:
    assert world.audit.verified("t").whole, "the tables are there before anybody adds"
    command = [sys.executable, "-c", ADDING, str(folder), url]
    adding = [
        subprocess.Popen([*command, f"key:{who}", str(ROWS)], stderr=subprocess.PIPE)
        for who in range(PROCESSES)
    ]
    anchors = Anchors(world.engine, folder)
    while any(one.poll() is None for one in adding):
        assert anchors.follow() == [], "what is followed meanwhile fits"
    for one in adding:
        _, said = one.communicate()
        assert one.returncode == 0, said.decode()[-2000:]
    verdict = world.audit.verified("t")
    assert (verdict.whole, verdict.rows, verdict.reason) == (True, 2 * ROWS * PROCESSES, "")
    anchors.follow()
    known = anchors.of("t")
    assert known is not None
    assert known.seq == verdict.rows
