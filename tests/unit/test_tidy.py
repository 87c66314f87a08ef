"""The tree keeps the rules of tools/tidy.py, and each rule catches what it is for."""

import textwrap
from pathlib import Path

import pytest

from tools import tidy

ROOT = Path(__file__).parents[2]


def test_this_tree_is_tidy():
    found = tidy.offences(ROOT)
    assert not found, "\n".join(map(str, found))


def small_tree(root: Path, files: dict[str, str]) -> tidy.Tree:
    """Return a tree of these files: path -> text."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tidy.Tree(root)


LONG_BODY = '"""M."""\ndef f():\n' + "    x = 1\n" * 61
LONG_DOCSTRING = '"""M."""\ndef f():\n    """' + "word\n" * 80 + '    """\n    return 1\n'

BREACHES = [
    (tidy.file_lines, "src/tallybook/rate/a.py", '"""M."""\n' * 601),
    (tidy.file_lines, "tests/a.py", '"""M."""\n' * 901),
    (tidy.function_lines, "src/tallybook/rate/a.py", LONG_BODY),
    (tidy.module_docstrings, "tests/unit/test_a.py", "x = 1\n"),
    (tidy.exact_numbers, "src/tallybook/rate/a.py", '"""M."""\ndef f(x: float): ...\n'),
    (tidy.exact_numbers, "src/tallybook/kernel/a.py", '"""M."""\nx = 0.5\n'),
    (tidy.one_colour, "src/tallybook/rate/a.py", '"""M."""\nasync def f(): ...\n'),
    (tidy.honest_fakes, "tests/unit/test_a.py", "from unittest" + ".mock import Mock\n"),
    (tidy.plain_names, "src/tallybook/rate/a.py", '"""M."""\nclass PriceManager: ...\n'),
    (tidy.finished, "docs/a.md", "TO" + "DO: write this\n"),
    (tidy.no_addresses, "Makefile", "pip install --index" + "-url x\n"),
    (tidy.no_addresses, "docs/a.md", "see /ho" + "me/me/notes\n"),
    (tidy.named_files_exist, "docs/a.md", "see [b](b.md)\n"),
    (tidy.named_files_exist, "docs/a.md", "see `src/tallybook/gone.py`\n"),
    (tidy.named_files_exist, "src/tallybook/rate/a.py", '"""Source: docs/gone.md."""\n'),
    (tidy.room_pages, "src/tallybook/rate/__init__.py", '"""R."""\n'),
]


@pytest.mark.parametrize(("rule", "path", "text"), BREACHES)
def test_a_breach_is_an_offence(tmp_path, rule, path, text):
    assert list(rule(small_tree(tmp_path, {path: text})))


KEPT = [
    (tidy.file_lines, "tests/a.py", '"""M."""\n' * 900),
    (tidy.function_lines, "src/tallybook/rate/a.py", LONG_DOCSTRING),
    (tidy.exact_numbers, "src/tallybook/serve/a.py", '"""M."""\nx = 0.5\n'),
    (tidy.one_colour, "src/tallybook/serve/api/a.py", '"""M."""\nasync def f(): ...\n'),
    (tidy.no_addresses, "docs/a.md", "GET https://example.com/home/x and ${HOME}/root/x\n"),
    (tidy.named_files_exist, "docs/a.md", "see [a](a.md#top) and [x](https://example.com)\n"),
]


@pytest.mark.parametrize(("rule", "path", "text"), KEPT)
def test_what_is_allowed_is_no_offence(tmp_path, rule, path, text):
    assert not list(rule(small_tree(tmp_path, {path: text})))


def test_a_folder_of_fourteen_modules_is_an_offence(tmp_path):
    files = {f"src/tallybook/rate/m{n}.py": '"""M."""\n' for n in range(14)}
    assert [o.rule for o in tidy.folder_modules(small_tree(tmp_path, files))] == ["folder-modules"]


def test_error_codes_and_their_page_must_agree(tmp_path):
    tree = small_tree(
        tmp_path,
        {
            "docs/errors.md": "| `gone` | x |\n| `kept` | x |\n",
            "src/tallybook/rate/a.py": '''\
                """M."""
                def f(x):
                    raise Invalid("no", code="kept" if x else "new-one")
                ''',
        },
    )
    assert sorted(str(o) for o in tidy.error_codes(tree)) == [
        "docs/errors.md: error-code: 'gone' is not used anywhere",
        "src/tallybook/rate/a.py: error-code: 'new-one' is not in docs/errors.md",
    ]


def breached(root: Path, allow: str) -> list[str]:
    small_tree(
        root,
        {
            "docs/errors.md": "",
            "docs/a.md": "FIX" + "ME\n",
            "tools/tidy_allow.txt": allow,
        },
    )
    return [offence.rule for offence in tidy.offences(root)]


def test_the_allow_list_accepts_what_it_names(tmp_path, monkeypatch):
    monkeypatch.setattr(tidy, "ALLOWED_MAX", 1)
    assert breached(tmp_path, "# reasons\nunfinished docs/a.md a quotation\n") == []


def test_an_entry_that_is_no_longer_needed_must_go(tmp_path, monkeypatch):
    monkeypatch.setattr(tidy, "ALLOWED_MAX", 2)
    allow = "unfinished docs/a.md a quotation\nfloat src/tallybook/rate/a.py because\n"
    assert breached(tmp_path, allow) == ["allow-list"]


def test_the_allow_list_may_not_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(tidy, "ALLOWED_MAX", 0)
    assert breached(tmp_path, "unfinished docs/a.md a quotation\n") == ["allow-list"]


def test_an_entry_without_a_reason_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="reason"):
        breached(tmp_path, "unfinished docs/a.md\n")
