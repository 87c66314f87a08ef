"""What a query spills lies in the lake's folder, for each process apart, and is swept."""

import os
import subprocess
import sys

from tallybook.adapters.duckdb.lake_files import LakeFiles
from tallybook.adapters.duckdb.source import LakeSource
from tallybook.adapters.duckdb.spill import spill_folder, sweep
from tests.sim.road import Road

MUCH = "SELECT count(*) FROM (SELECT md5(range::VARCHAR) AS t FROM range(2000000) ORDER BY t)"


def test_what_does_not_fit_is_spilled_beside_the_lake(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    road = Road(tmp_path)
    spill = spill_folder(tmp_path / "lake")
    source = LakeSource(LakeFiles(road.table), spill, memory_limit="40MB", threads=1)
    cursor = source.cursor()
    cursor.execute("SET preserve_insertion_order = false")
    assert cursor.execute(MUCH).fetchone() == (2_000_000,)
    assert spill.exists()
    assert list(elsewhere.iterdir()) == []
    road.close()


def test_what_killed_processes_left_is_swept(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lake = tmp_path / "lake"
    kept, left = spill_folder(lake), lake / f"spill-{ended.pid}-00000000"
    for folder in (kept, left):
        folder.mkdir(parents=True)
        (folder / "duckdb_temp_storage-0.tmp").write_bytes(b"x")
    assert kept.name.startswith(f"spill-{os.getpid()}-")
    assert sweep(lake) == 1
    assert kept.exists()
    assert not left.exists()
    assert sweep(tmp_path / "absent") == 0
