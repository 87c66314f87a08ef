"""What the doctor finds in a folder, and what it advises."""

import sqlite3
from pathlib import Path

import pytest

from tallybook.adapters.sql.database import open_database, sqlite_url
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.compose import SystemClock
from tallybook.kernel.errors import Corrupt
from tallybook.serve.cli.doctor import examined
from tallybook.serve.doctor.finding import Finding, guarded
from tallybook.serve.doctor.folder import clock
from tallybook.serve.supervisor import folder
from tallybook.settings import Settings
from tallybook.transport import places
from tallybook.transport.ports import Batch


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    data = tmp_path / "data"
    folder.prepare(data)
    folder.first_key(data, None)
    made = Settings(data_dir=data)
    open_database(sqlite_url(made.control_db)).dispose()
    return made


def errors(settings: Settings) -> dict[str, Finding]:
    return {one.about: one for one in examined(settings) if one.level == "error"}


def test_a_sound_folder_has_no_errors(settings: Settings) -> None:
    log = SqliteEventLog(settings.log_dir / "p0.db")
    log.append([Batch(1, b"x")])
    log.close()
    assert errors(settings) == {}
    assert "rows kept, all sound" in " ".join(one.text for one in examined(settings))


def test_what_was_compiled_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {}
    for compiled in (True, False):
        monkeypatch.setattr(places, "COMPILED", compiled)
        (one,) = [one for one in examined(settings) if one.about == "installation"]
        told[compiled] = one.level
    assert told == {True: "good", False: "note"}


def test_an_absent_folder_is_the_only_finding(tmp_path: Path) -> None:
    found = list(examined(Settings(data_dir=tmp_path / "absent")))
    assert [(one.level, one.about) for one in found] == [("error", "folder")]


def test_secrets_that_others_may_read(settings: Settings) -> None:
    (settings.data_dir / "secret").chmod(0o644)
    assert errors(settings)["keys"].advice == f"chmod 600 {settings.data_dir / 'secret'}"


def test_a_missing_secret(settings: Settings) -> None:
    (settings.data_dir / "secret").unlink()
    assert "backup" in errors(settings)["keys"].advice


def test_a_flipped_bit_in_the_log(settings: Settings) -> None:
    path = settings.log_dir / "p0.db"
    log = SqliteEventLog(path)
    log.append([Batch(1, b"abc"), Batch(1, b"def")])
    log.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE batch SET payload = x'00' WHERE offset = 2")
    assert "rows 2 fail their checksum" in errors(settings)["log"].text


def test_what_was_put_aside_is_shown(settings: Settings) -> None:
    (settings.log_dir / "p0.db.damaged-1").touch()
    assert "p0.db.damaged-1" in errors(settings)["log"].text


def test_a_broken_control_database(settings: Settings) -> None:
    settings.control_db.write_bytes(b"not a database at all" * 100)
    assert "control database" in errors(settings)


def test_a_lock_without_an_answer(settings: Settings) -> None:
    held = folder.lock(settings.data_dir)
    info = folder.ServerInfo(url="http://127.0.0.1:9", pid=1, version="0", started_us=0)
    folder.write_info(settings.data_dir, info)
    assert "does not answer" in errors(settings)["server"].text
    import os

    os.close(held)


def test_a_clock_that_fell_behind() -> None:
    now = SystemClock().now_us()
    assert clock(now + 3_600_000_000).level == "error"
    assert clock(now - 1).level == "good"
    assert clock(None).level == "good"


def test_a_look_that_fails_is_a_finding() -> None:
    def corrupt() -> list[Finding]:
        raise Corrupt("two truths")

    def unreadable() -> list[Finding]:
        raise PermissionError(13, "Permission denied", "/x")

    assert [one.text for one in guarded("a", corrupt)] == ["two truths"]
    assert [one.text for one in guarded("a", unreadable)] == ["/x Permission denied"]
