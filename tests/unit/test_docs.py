"""What the documents say is there: commands and options, settings, words, commands of make."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import msgspec
import pytest

from tallybook.catalog.document import parse_document
from tallybook.serve.agent.settings import AgentSettings, load_settings
from tallybook.serve.cli.main import cli
from tallybook.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(tallybook [a-z][^`]*)`")


def command_lines(page: Path) -> list[str]:
    """Return every `tallybook …` command line of a page, in fences and in sentences."""
    text = page.read_text()
    fenced = "\n".join(body for kind, body in FENCE.findall(text) if kind in {"", "sh", "console"})
    lines = [line.split("|")[-1].strip() for line in fenced.replace("\\\n", " ").splitlines()]
    lines += INLINE.findall(FENCE.sub("", text))
    return [line for line in lines if line.startswith("tallybook ")]


COMMANDS = sorted({(page.name, line) for page in GUIDES for line in command_lines(page)})


def find(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the words name, and the words after it."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"there is no command '{words[0]}'"
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_line_of_the_guides_is_one(page, line):
    command, rest = find(shlex.split(line)[1:])
    if "|" not in line and rest and not isinstance(command, click.Group):
        rest = [word for word in rest if word != "…"]
    options = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    used = {word.split("=")[0] for word in rest if word.startswith("--")}
    assert used <= options, f"{page}: {line}: no option {sorted(used - options)}"
    assert command.callback is None or command.callback.__name__ != "explain", f"{page}: {line}"


def test_the_guides_name_every_command():
    named = {line.split()[1] for page in GUIDES for line in command_lines(page)}
    shown = set(cli.list_commands(click.Context(cli)))
    assert shown - named - {"demo"} == set()


def test_the_commands_of_every_guide_are_run_by_a_test():
    tests = "".join(p.read_text() for p in (ROOT / "tests" / "e2e").glob("test_*.py"))
    blocks = {page: "".join(body for _, body in FENCE.findall(page.read_text())) for page in GUIDES}
    command = re.compile(r"^(\$ )?tallybook ", re.MULTILINE)
    typed = [page for page, text in blocks.items() if command.search(text)]
    assert len(typed) > 10
    assert [page.name for page in typed if f'"{page.name}"' not in tests] == []


def documented(page: Path) -> dict[str, str]:
    """Return setting -> default, as the tables of docs/settings.md say; section before the dot."""
    found: dict[str, str] = {}
    section = ""
    for line in page.read_text().splitlines():
        if heading := re.match(r"### `\[(\w+)\]`", line):
            section = heading[1] + "."
        elif row := re.match(r"\| `([a-z_]+)` \| `([^`]*)` \|", line):
            found[section + row[1]] = row[2]
    return found


def defaults(settings: msgspec.Struct, prefix: str = "") -> dict[str, str]:
    """Return setting -> default of a settings value, sections flattened."""
    found: dict[str, str] = {}
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, msgspec.Struct):
            found |= defaults(value, f"{name}.")
        else:
            found[prefix + name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def test_every_setting_is_documented_with_its_default():
    assert documented(ROOT / "docs" / "settings.md") == defaults(Settings())


def test_the_front_page_leads_to_every_guide():
    front = (ROOT / "README.md").read_text()
    guides = [page.relative_to(ROOT).as_posix() for page in GUIDES[1:]]
    assert [page for page in guides if f"({page})" not in front] == []


def test_every_decision_record_is_in_the_list():
    listed = (ROOT / "docs" / "adr" / "README.md").read_text()
    records = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert [page.name for page in records if f"({page.name})" not in listed] == []


def test_every_setting_has_an_effect():
    source = ROOT / "src" / "tallybook"
    own = (source / "settings.py").read_text()
    rest = "".join(p.read_text() for p in source.rglob("*.py") if p.name != "settings.py")
    names = [name.rpartition(".")[2] for name in defaults(Settings())]
    unread = [n for n in names if f".{n}" not in rest and f"settings.server.{n}" not in own]
    assert [name for name in unread if f"self.{name}" not in own] == []


def test_every_setting_of_the_agent_is_documented():
    table = (ROOT / "docs" / "guides" / "edge.md").read_text()
    rows = "\n".join(line for line in table.splitlines() if line.startswith("| `"))
    missing = [name for name in AgentSettings.__struct_fields__ if f"`{name}`" not in rows]
    assert not missing


def test_toml_of_the_guides_is_toml():
    for page in GUIDES:
        for kind, body in FENCE.findall(page.read_text()):
            if kind == "toml":
                assert tomllib.loads(body)


def test_the_agents_example_is_accepted(tmp_path):
    text = (ROOT / "docs" / "guides" / "edge.md").read_text()
    example = next(body for kind, body in FENCE.findall(text) if kind == "toml")
    config = tmp_path / "edge.toml"
    config.write_text(example)
    assert load_settings(config, {}).access_log[0].path == Path("access.log")


def test_the_catalog_example_is_accepted():
    text = (ROOT / "docs" / "guides" / "embedded.md").read_text()
    example = next(body for kind, body in FENCE.findall(text) if kind == "toml")
    document = parse_document(example)
    assert document.meters
    assert document.plans
    assert document.rules


def test_make_has_the_targets_that_are_named():
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert len(targets) <= 12
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert named <= targets


def test_the_glossary_is_sorted_and_says_each_word_once():
    rows = re.findall(
        r"^\| \*\*(.+?)\*\* \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE
    )
    assert rows == sorted(rows, key=str.lower)
    assert len(rows) == len(set(rows))


def test_every_dependency_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    text = (ROOT / "docs" / "dependencies.md").read_text()
    names = [re.split(r"[<>=\[ ]", spec)[0] for spec in wanted]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_constraints_name_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    bad = [x for x in lines if not x.startswith("#") and not re.fullmatch(r"[a-z0-9-]+==[\w.]+", x)]
    assert bad == []


def test_decision_records_are_listed_and_complete():
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    for record in sorted(folder.glob("0*.md")):
        text = record.read_text()
        assert record.name in index
        for part in (
            "**Status**",
            "## Context",
            "## Decision",
            "## Consequences",
            "**Enforced by**",
        ):
            assert part in text, f"{record.name} has no {part}"
