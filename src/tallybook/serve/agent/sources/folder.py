"""Interval files that arrive in a folder, as a source."""

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from tallybook.adapters.files.folder import Arrived, Folder, content_of
from tallybook.collect.flow import decoded, encoded
from tallybook.collect.intervals.files import FILE_BYTES_MAX, IntervalFile
from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.serve.agent.sources.plug import Surroundings
from tallybook.serve.agent.sources.tables import IntervalFiles

_STEP_EVENTS = 5000


class FolderState(msgspec.Struct, frozen=True, kw_only=True):
    """Files that were read to the end, as they were then: path -> (size, modified, ns)."""

    done: dict[str, tuple[int, int]] = {}


class FolderSource:
    """`Source` of the files that match one pattern.

    A file is read whole, in steps; its ids are its meters' intervals, so a step that is repeated
    after a crash changes nothing. It is remembered as read with its last step.
    """

    can_wait = True

    def __init__(self, told: IntervalFiles) -> None:
        """Look at nothing yet."""
        self.told = told
        self.name = f"{told.name} {told.path}"
        self.interval_seconds = told.interval_seconds
        self._folder = Folder(told.path, told.rest_seconds)
        self._cursor = f"folder:{self.name}"
        self._failed: dict[str, tuple[int, int]] = {}

    def read(self, around: Surroundings) -> int:
        """Read the files that are new or were changed, the oldest first."""
        known = around.intake.cursor(self._cursor)
        state = decoded(known, FolderState) if known is not None else FolderState()
        files = self._folder.files()
        done = {f.path: state.done[f.path] for f in files if f.path in state.done}
        events, problem = 0, ""
        for file in files:
            as_now = (file.size, file.modified_ns)
            if done.get(file.path) == as_now:
                continue
            try:
                events += self._take(file, around, done)
            except TallybookError as error:
                if self._failed.get(file.path) != as_now:
                    around.voice.say(f"{file.path}: {error.message}")
                    self._failed[file.path] = as_now
                problem = f"{file.path}: {error.message}"
            if not around.may_go_on():
                break
        if problem:
            raise Unavailable(problem)
        return events

    def close(self) -> None:
        """Nothing is held."""

    def _take(self, file: Arrived, around: Surroundings, done: dict[str, tuple[int, int]]) -> int:
        """Hand over a file; a failure before the last step leaves it to be read again."""
        if self._failed.get(file.path) == (file.size, file.modified_ns):
            raise Unavailable("it cannot be read; put it right or take it away")
        told = self.told
        content = content_of(file.path, FILE_BYTES_MAX)
        work = IntervalFile(
            content, told.format, f"meter:{told.name}", told.type,
            told=told.columns, qualities=told.qualities,
        )  # fmt: skip
        work.check_whole()
        events = 0
        for step in _steps(work.pieces()):
            events += around.intake.take(step, {}, repeats=True)
        done[file.path] = (file.size, file.modified_ns)
        around.intake.take([], {self._cursor: encoded(FolderState(done=done))})
        for reason, count in work.left_out.items():
            around.voice.say(f"{file.path}: {count} intervals do not count: {reason}")
        return events


def _steps(pieces: Iterator[bytes]) -> Iterable[list[bytes]]:
    while step := list(islice(pieces, _STEP_EVENTS)):
        yield step
