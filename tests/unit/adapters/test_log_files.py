"""Lines of files, and files that are rotated in every way while they are followed."""

import gzip
import io
import os
import shutil
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tallybook.adapters.files import tail as tail_module
from tallybook.adapters.files.lines import LineFile, first_line_print, still_there
from tallybook.adapters.files.refused import RefusedFile
from tallybook.adapters.files.tail import FileTail
from tallybook.collect.fileid import fingerprint, line_digest
from tallybook.collect.following import Followed
from tallybook.collect.lines import LINE_BYTES_MAX
from tallybook.kernel.errors import Invalid, Unavailable

LINES = st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"").rstrip(b"\r")))


@given(LINES, st.binary(max_size=10).map(lambda raw: raw.replace(b"\n", b"")))
def test_complete_lines_only_each_at_its_byte(lines: list[bytes], rest: bytes) -> None:
    raw = b"".join(line + b"\n" for line in lines) + rest
    reader = LineFile(io.BytesIO(raw))
    found = list(reader)
    assert [line.content for line in found] == lines
    for line in found:
        assert raw[line.offset : line.offset + line.length] == line.content
        assert raw[line.end - 1 : line.end] == b"\n"
        again = next(iter(LineFile(io.BytesIO(raw), line.offset)))
        assert again == line
    assert (reader.unfinished is not None) == bool(rest)


@pytest.mark.parametrize("size", [LINE_BYTES_MAX - 1, LINE_BYTES_MAX, 65536 * 3 - 1, 300_000])
def test_a_very_long_line_is_one_line_with_a_digest_of_all(size: int) -> None:
    long = b"x" * size
    found = list(LineFile(io.BytesIO(b"a\n" + long + b"\nb\n")))
    assert [line.length for line in found] == [1, size, 1]
    assert found[1].digest == line_digest(long)
    assert found[1].content == long[:LINE_BYTES_MAX]
    assert found[2].offset == size + 3
    reader = LineFile(io.BytesIO(b"a\n" + long))
    assert len(list(reader)) == 1
    assert reader.unfinished is not None
    assert reader.unfinished.length == size


def test_both_line_ends_give_the_same_line() -> None:
    unix, dos = (next(iter(LineFile(io.BytesIO(raw)))) for raw in (b"a\n", b"a\r\n"))
    assert (unix.content, unix.digest) == (dos.content, dos.digest)


def test_a_file_is_known_by_its_complete_first_line() -> None:
    assert first_line_print(io.BytesIO(b"half")) is None
    assert first_line_print(io.BytesIO(b"")) is None
    assert first_line_print(io.BytesIO(b"first\nsecond")) == fingerprint(b"first")
    assert still_there(io.BytesIO(b"a\nb\n"), 2, 1, line_digest(b"b"))
    assert not still_there(io.BytesIO(b"a\nc\n"), 2, 1, line_digest(b"b"))
    assert not still_there(io.BytesIO(b"a\n"), 2, 1, line_digest(b"b"))


class Reader:
    """Follows a log as the agent does, and remembers every line it was given."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tail = FileTail(path)
        self.followed = Followed()
        self.seen: list[str] = []
        self.identities: set[tuple[str, int, str]] = set()
        self.notes: list[str] = []

    def read(self, bytes_max: int = 1 << 20) -> list[str]:
        before = len(self.seen)
        while True:
            try:
                chunk = self.tail.read(self.followed, bytes_max)
            except Unavailable:
                break
            self.notes += chunk.notes
            if not chunk.lines:
                break
            self.followed = chunk.followed
            for line in chunk.lines:
                self.seen.append(line.content.decode())
                self.identities.add((chunk.fingerprint, line.offset, line.digest))
        return self.seen[before:]

    def restart(self) -> None:
        self.tail.close()
        self.tail = FileTail(self.path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def add(path: Path, *lines: str, end: str = "\n") -> None:
    with path.open("a") as file:
        file.write("".join(line + end for line in lines))


def test_a_growing_file_is_read_once(log: Path) -> None:
    reader = Reader(log)
    with pytest.raises(Unavailable, match="no such file yet"):
        reader.tail.read(reader.followed, 100)
    add(log, "a", "b")
    assert reader.read() == ["a", "b"]
    assert reader.read() == []
    add(log, "c")
    assert reader.read() == ["c"]


def test_a_half_line_waits_until_it_is_whole(log: Path) -> None:
    reader = Reader(log)
    add(log, "a")
    add(log, "hal", end="")
    assert reader.read() == ["a"]
    add(log, "f")
    assert reader.read() == ["half"]


def test_a_half_first_line_waits_too(log: Path) -> None:
    reader = Reader(log)
    add(log, "fir", end="")
    assert reader.read() == []
    add(log, "st")
    assert reader.read() == ["first"]


def test_a_chunk_is_bounded_but_makes_progress(log: Path) -> None:
    add(log, *(f"line {n}" for n in range(100)))
    tail = FileTail(log)
    chunk = tail.read(Followed(), 50)
    assert 1 <= len(chunk.lines) < 10
    assert len(tail.read(Followed(), 1).lines) == 1
    tail.close()
    reader = Reader(log)
    assert len(reader.read(bytes_max=50)) == 100


def test_renaming_loses_nothing_written_before_or_after(log: Path) -> None:
    reader = Reader(log)
    add(log, "a")
    reader.read()
    add(log, "b")
    log.rename(log.with_name("access.log.1"))
    add(log.with_name("access.log.1"), "c")  # the server has not reopened yet
    add(log, "d")
    assert reader.read() == ["b", "c", "d"]
    add(log.with_name("access.log.1"), "e")
    assert reader.read() == ["e"]


def test_a_renamed_and_deleted_file_is_read_to_its_end(log: Path) -> None:
    reader = Reader(log)
    add(log, "a")
    reader.read()
    with log.open("a") as writer:
        log.unlink()
        add(log, "new")
        writer.write("b\n")
    assert sorted(reader.read()) == ["b", "new"]


def test_copytruncate_loses_no_line_that_was_copied(log: Path) -> None:
    reader = Reader(log)
    add(log, "a", "b")
    reader.read()
    add(log, "c")
    shutil.copy2(log, log.with_name("access.log.1"))
    os.truncate(log, 0)
    add(log, "d")
    assert reader.read() == ["c", "d"]
    assert reader.seen == ["a", "b", "c", "d"]


def test_truncation_to_the_same_first_line_starts_again(log: Path) -> None:
    reader = Reader(log)
    add(log, "# heading", "a", "b")
    reader.read()
    os.truncate(log, 0)
    add(log, "# heading", "x", "y", "z")
    assert reader.read()[-3:] == ["x", "y", "z"]
    assert reader.notes == ["the file was written anew; reading it from the start"]


@pytest.mark.parametrize("compressed", [False, True])
def test_rotations_while_the_agent_was_down_are_caught_up(log: Path, compressed: bool) -> None:
    reader = Reader(log)
    add(log, "a")
    reader.read()
    add(log, "b")
    oldest, older = log.with_name("access.log.2"), log.with_name("access.log.1")
    log.rename(oldest)
    add(older, "c", "d")
    add(log, "e")
    for age, path in enumerate((log, older, oldest)):
        stat = path.stat()
        at = stat.st_mtime_ns + 60 * 10**9 - age * 10**9
        os.utime(path, ns=(at, at))
        if compressed and path is not log:
            squeezed = path.with_name(path.name + ".gz")
            squeezed.write_bytes(gzip.compress(path.read_bytes()))
            os.utime(squeezed, ns=(at, at))
            path.unlink()
    reader.restart()
    assert reader.read() == ["b", "c", "d", "e"]
    reader.restart()
    assert reader.read() == []


def test_what_lies_beside_a_log_is_not_read(log: Path) -> None:
    for name in ("access.log.1", "access.log-20150517", "access.log.2.gz"):
        add(log.with_name(name), "history from before the agent")
    reader = Reader(log)
    add(log, "a")
    assert reader.read() == ["a"]
    for name in ("access.log.bak", "access.log.err", "access2.log", "access-ssl.log", "access.txt"):
        add(log.with_name(name), "not ours")
    add(log, "b")
    assert reader.read() == ["b"]


def test_dated_names_with_the_extension_last_are_siblings(log: Path) -> None:
    reader = Reader(log)
    add(log, "a")
    reader.read()
    add(log, "b")
    log.rename(log.with_name("access-20150517.log"))
    reader.restart()
    add(log, "c")
    assert reader.read() == ["b", "c"]


def test_a_broken_archive_is_left_alone(log: Path) -> None:
    reader = Reader(log)
    add(log, "a")
    reader.read()
    broken = log.with_name("access.log.1.gz")
    broken.write_bytes(gzip.compress(b"a\nb\n" * 1000)[:-20])
    later = log.stat().st_mtime_ns + 10**10
    os.utime(broken, ns=(later, later))
    add(log, "b")
    assert "b" in reader.read()


def test_a_restart_at_any_moment_repeats_at_most_what_was_not_kept(log: Path) -> None:
    reader = Reader(log)
    for round_ in range(10):
        add(log, f"line {round_}", f"line {round_}")
        if round_ % 3 == 1:
            kept = reader.followed
            reader.read()
            reader.followed = kept  # killed before the position was kept
            reader.restart()
        if round_ % 4 == 3:
            log.rename(log.with_name(f"access.log.{round_}"))
        reader.read()
    assert len(reader.identities) == 20


@given(st.data())
def test_any_history_of_rotation_is_read_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    log = tmp_path_factory.mktemp("logs") / "access.log"
    reader, written, rotated = Reader(log), 0, 0
    actions = st.sampled_from(["write", "write", "read", "rename", "copytruncate", "restart"])
    for action in data.draw(st.lists(actions, max_size=25)):
        if action == "write":
            add(log, f"line {written}")
            written += 1
        elif action == "read":
            reader.read()
        elif action == "restart":
            reader.read()
            reader.restart()
        elif log.exists():
            reader.read()
            rotated += 1
            beside = log.with_name(f"access.log.{rotated}")
            if action == "rename":
                log.rename(beside)
            else:
                add(log, f"line {written}")
                written += 1
                shutil.copy2(log, beside)
                os.truncate(log, 0)
    reader.read()
    reader.tail.close()
    assert sorted(reader.seen) == sorted(f"line {n}" for n in range(written))


def test_a_file_that_may_not_be_read_is_unavailable(tmp_path: Path) -> None:
    folder = tmp_path / "access.log"
    folder.mkdir()
    with pytest.raises(Unavailable):
        FileTail(folder).read(Followed(), 100)


def test_refused_events_are_kept_as_they_are(tmp_path: Path) -> None:
    parking = RefusedFile(tmp_path)
    assert parking.count() == 0
    parking.park(b'{"id":"1"}', Invalid("too old", code="time-out-of-range"))
    parking.park(b'{"id":"2"}', Invalid("too old"))
    assert parking.count() == 2
    assert parking.events.read_bytes() == b'{"id":"1"}\n{"id":"2"}\n'
    assert b"time-out-of-range" in parking.reasons.read_bytes()
    with pytest.raises(Unavailable):
        RefusedFile(tmp_path / "none").park(b"{}", Invalid("x"))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_compressed_file_is_unpacked_once_however_many_pieces_it_is_read_in(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [b"line %d of the day" % number for number in range(20_000)]
    plain = b"".join(line + b"\n" for line in lines)
    packed = gzip.compress(plain) if suffix == ".gz" else zstandard.ZstdCompressor().compress(plain)
    (tmp_path / f"access.log.1{suffix}").write_bytes(packed)
    (tmp_path / "access.log").write_bytes(b"today\n")
    unpacked = 0
    real = tail_module._opened

    class Counting:
        def __init__(self, path: Path) -> None:
            self.file = real(path)
            self.seek, self.close = self.file.seek, self.file.close

        def read(self, size: int) -> bytes:
            nonlocal unpacked
            block = self.file.read(size)
            unpacked += len(block)
            return block

    monkeypatch.setattr(tail_module, "_opened", Counting)
    tail = FileTail(tmp_path / "access.log", from_oldest=True)
    followed, found, pieces = Followed(), [], 0
    while (chunk := tail.read(followed, 4096)).lines:
        found += [line.content for line in chunk.lines]
        if pieces not in {3, 40}:  # a piece that could not be kept is read again
            followed = chunk.followed
        else:
            del found[-len(chunk.lines) :]
        pieces += 1
    tail.close()
    assert found == [*lines, b"today"]
    assert pieces > 80
    assert unpacked < 5 * len(plain)
