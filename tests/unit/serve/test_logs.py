"""Log lines where the disk under them is full."""

import os

from tallybook.serve.logs import Lines


def test_lines_that_cannot_be_written_are_counted_and_told(tmp_path):
    full = os.open("/dev/full", os.O_WRONLY)
    path = tmp_path / "log"
    lines = Lines(os.dup(full))
    lines.info("one")
    lines.error("two")
    room = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(room, lines._descriptor)
    lines.warning("three")
    lines.info("four")
    assert path.read_text() == "(2 log lines could not be written)\nthree\nfour\n"
    for descriptor in (full, room, lines._descriptor):
        os.close(descriptor)


def test_a_line_is_written_whole_whatever_it_holds(tmp_path):
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    Lines(descriptor).info("lone surrogate \udcff")
    os.close(descriptor)
    assert path.read_text() == "lone surrogate ?\n"
