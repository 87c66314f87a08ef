"""What every command shares: where the server is, how errors end, how answers are shown.

A command is written as::

    @click.command()
    @server_options
    def usage(target: Target, ...) -> None:
        with target.client() as client:
            answer = client.get("/api/v1/...")
        target.show(answer, lambda: table(["day", "value"], rows, numbers=("value",)))
"""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Corrupt, Forbidden, Invalid, TallybookError, Unavailable
from tallybook.kernel.timestamps import format_us, parse_rfc3339, to_us

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from tallybook.adapters.http.client import Client, Params

R = TypeVar("R")

URL_DEFAULT = "http://127.0.0.1:8080"
DATA_DEFAULT = Path("tallybook-data")

DONE, REFUSED, USAGE, UNAVAILABLE = 0, 1, 2, 3
"""Exit codes of every command (CONTRACTS §6)."""


def exit_code(error: TallybookError) -> int:
    """Return the exit code of an error: 1 where the caller must change something, else 3."""
    return UNAVAILABLE if isinstance(error, Unavailable | Corrupt) else REFUSED


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Which server a command talks to, and how it prints.

    Attributes:
        url: base address of the server, without a path.
        key: API key; None takes the first key of the folder where one is at hand.
        data: a data folder to work on directly; its running server is used, else a private
            one is started for the duration of the command.
        json: print JSON for programs instead of tables for people.
    """

    url: str
    key: str | None
    data: Path | None
    json: bool

    @contextmanager
    def client(self) -> "Iterator[Client]":
        """Open a client for the duration of the block."""
        from tallybook.adapters.http.client import Client

        with self.address() as (url, key), Client(url, key) as client:
            yield client

    @contextmanager
    def address(self) -> Iterator[tuple[str, str]]:
        """Yield the server's address and a key, for callers that make their own client."""
        if self.data is None:
            yield self.url, self._key(None)
            return
        from tallybook.serve.supervisor.private import server_on

        with server_on(self.data) as url:
            yield url, self._key(self.data)

    def _key(self, data: Path | None) -> str:
        if self.key:
            return self.key
        first = (data or DATA_DEFAULT) / "first-key"
        if data is None and self.url != URL_DEFAULT:
            raise Forbidden(_no_key(first), code="no-key")
        try:
            return first.read_text().strip()
        except OSError as error:
            raise Forbidden(_no_key(first), code="no-key") from error

    def show(self, answer: object, human: Callable[[], object]) -> None:
        """Print an answer: as JSON where that was asked, else what `human` returns.

        Args:
            answer: anything JSON can spell (structs, dicts, lists, decimals as strings).
            human: makes the text or rich renderable for people; None prints nothing.
        """
        if self.json:
            show_json(answer)
            return
        shown = human()
        if shown is not None:
            console().print(shown, soft_wrap=isinstance(shown, str))

    def show_list(
        self,
        path: str,
        human: Callable[[list[Any]], object],
        nothing: str,
        params: "Params | None" = None,
    ) -> None:
        """Fetch every page of a list and print it.

        Args:
            path: of the list.
            human: makes the table for people of what is there.
            nothing: what people read where it is empty.
            params: what to ask with.
        """
        with self.client() as client:
            found = list(client.pages(path, params))
        self.show(found, lambda: human(found) if found else nothing)

    def say(self, text: str) -> None:
        """Print a sentence for people; nothing in JSON mode."""
        if not self.json:
            click.echo(text)


def _no_key(first: Path) -> str:
    return (
        "no API key: pass --key or set TALLYBOOK_KEY"
        f" (the first key of a server is in its data folder, such as {first})"
    )


_DATA_HELP = "Work on this data folder; a private server starts where none runs."


def server_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add --url, --key, --data and --json; the command gets them as `target`."""

    @click.option("--url", envvar="TALLYBOOK_URL", default=URL_DEFAULT, show_default=True,
                  help="Server to talk to.")  # fmt: skip
    @click.option("--key", envvar="TALLYBOOK_KEY", help="API key, tb_…")
    @click.option("--data", type=click.Path(path_type=Path, file_okay=False), help=_DATA_HELP)
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @functools.wraps(command)
    def wrapped(url: str, key: str | None, data: Path | None, *, as_json: bool, **rest: Any) -> R:
        target = Target(url=url.rstrip("/"), key=key, data=data, json=as_json)
        return command(target=target, **rest)

    return wrapped


_JSON = msgspec.json.Encoder(decimal_format="number")


def show_json(answer: object) -> None:
    """Print any value as indented JSON; decimals keep all their digits."""
    click.echo(msgspec.json.format(_JSON.encode(answer), indent=2).decode())


def console(*, error: bool = False) -> "Console":
    """Return a rich console; plain text where the output is not a terminal."""
    from rich.console import Console

    return Console(stderr=error, highlight=False)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[str] = (),
    title: str | None = None,
) -> "Table":
    """Return a rich table of texts.

    Args:
        columns: headings.
        rows: one value a column; None is shown as an en dash.
        numbers: headings of the columns to align right.
        title: above the table.
    """
    from rich import box
    from rich.table import Table

    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        right = column in numbers
        made.add_column(column, justify="right" if right else "left", no_wrap=right)
    for row in rows:
        made.add_row(*("–" if value is None else _escaped(value) for value in row))
    return made


def _escaped(value: object) -> str:
    from rich.markup import escape

    return escape(str(value))


def read_tables(file: Path, name: str) -> list[dict[str, Any]]:
    """Return every [[name]] of a TOML file, '-' for standard input; numbers are exact.

    Raises:
        Invalid: it cannot be read, or is no such file.
    """
    import tomllib

    try:
        with click.open_file(str(file), "rb") as opened:
            found = tomllib.loads(opened.read().decode(), parse_float=Decimal).get(name, [])
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}", field="file") from error
    except (ValueError, InvalidOperation) as error:  # or a number longer than Python reads
        raise Invalid(f"{file} is not TOML: {error}", field="file") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Invalid(f"{name} must be tables, each under [[{name}]]", field=name)
    return found


@contextmanager
def progress(*, quiet: bool = False) -> "Iterator[Progress]":
    """Open a progress display on standard error; it shows nothing where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    shown = sys.stderr.isatty() and not quiet
    with Progress(*columns, console=console(error=True), disable=not shown, transient=True) as bar:
        yield bar


def report(error: TallybookError, *, as_json: bool) -> None:
    """Print an error to standard error: what is wrong, where, and what to do."""
    if as_json:
        body = {"code": error.code, "message": error.message, "field": error.field}
        click.echo(msgspec.json.encode(body).decode(), err=True)
        return
    kind = "corrupt data" if isinstance(error, Corrupt) else "error"
    at = f" [{error.field}]" if error.field else ""
    click.echo(f"{kind}: {error.message}{at} ({error.code})", err=True)


def moment(text: str | None, field: str) -> str | None:
    """Return RFC 3339 for a date, an RFC 3339 time, 'now' or an age such as 24h."""
    if text is None or (parse_rfc3339(text) is not None):
        return text
    now = datetime.now(UTC)
    if text == "now":
        return format_us(to_us(now))
    if text[:-1].isdecimal() and text[-1] in "mhd":
        unit = {"m": "minutes", "h": "hours", "d": "days"}[text[-1]]
        return format_us(to_us(now - timedelta(**{unit: int(text[:-1])})))
    try:
        return format_us(to_us(datetime.fromisoformat(text).replace(tzinfo=UTC)))
    except ValueError as error:
        message = f"{field}: '{text}' is no date (2026-11-01), time (RFC 3339) or age (24h)"
        raise Invalid(message, field=field) from error


def grouped(value: Decimal | int | str | None) -> str | None:
    """Return a number with its thousands apart, and all its digits."""
    if value is None:
        return None
    number = Decimal(value)
    whole, point, fraction = plain(abs(number)).partition(".")
    return f"{'-' if number < 0 else ''}{int(whole):,}{point}{fraction}"


def grouped_money(text: str) -> str:
    """Return money with its thousands apart; the digits after the point stay."""
    whole, point, digits = text.removeprefix("-").partition(".")
    return f"{'-' if text.startswith('-') else ''}{int(whole):,}{point}{digits}"
