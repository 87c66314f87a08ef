"""`tallybook ingest`: send a file of log lines or events, as often as you like."""

import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from tallybook.collect.formats.choice import DECLARED, LOG_NAMES
from tallybook.collect.formats.tables import Fields
from tallybook.collect.intervals.columns import Columns
from tallybook.collect.intervals.interval import TYPE as INTERVAL_TYPE
from tallybook.collect.intervals.nem12 import QUALITIES
from tallybook.kernel.errors import Invalid
from tallybook.serve.agent.upload import (
    FORMATS,
    INTERVAL_FORMATS,
    STDIN,
    FileUpload,
    Told,
    Upload,
    opened,
    upload,
)
from tallybook.serve.cli.common import Target, progress, server_options
from tallybook.serve.cli.edge import Duration

_RETRY_SECONDS = 60.0


@click.command()
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False))
@click.option("--format", "form", type=click.Choice(FORMATS), required=True,
              help="What a line is.")  # fmt: skip
@click.option("--source", help="Source of the events; by default the file is known by its first"
              " line, whatever it is called. Needed for standard input.")  # fmt: skip
@click.option("--pattern", help="nginx, apache, envoy: the format as the server's configuration"
              " spells it.")  # fmt: skip
@click.option("--type", "kind", help="ndjson, csv: type of the events, or $.path to it.")
@click.option("--subject", help="ndjson, csv, and logs with a pattern: field of who"
              " used it.")  # fmt: skip
@click.option("--time", help="ndjson, csv: field of the time (RFC 3339, or seconds).")
@click.option("--id", help="ndjson, csv: field of an id that is unique in the source.")
@click.option(
    "--columns",
    "columns_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="intervals: TOML file that says where a CSV file of meters keeps what.",
)
@click.option("--quality", "qualities", help="nem12: qualities that count.  [default: ASF]")
@click.option("--complete", is_flag=True,
              help="The last line is whole although it has no line end.")  # fmt: skip
@click.option("--retry-for", "retry_seconds", type=Duration(), default=_RETRY_SECONDS,
              help="How long to try again while the server is away.  [default: 60s]")  # fmt: skip
@server_options
def ingest(
    target: Target,
    file: str,
    form: str,
    source: str | None,
    pattern: str | None,
    columns_file: Path | None,
    qualities: str | None,
    retry_seconds: float,
    *,
    complete: bool,
    **columns: str | None,
) -> None:
    """Send FILE (or - for standard input) as events.

    A line that cannot be read goes to quarantine with its reason. Sending a file again, or the
    rest after a kill, changes nothing: ids follow from the file and the line.
    """
    log_subject = columns.pop("subject") if form in DECLARED else None
    kind = columns.pop("kind") if form in INTERVAL_FORMATS else None
    fields = _fields(form, **columns)
    if file == STDIN and source is None and form not in ("cloudevents", *INTERVAL_FORMATS):
        raise click.UsageError("standard input has no name to go by: give --source")
    told = Told(
        form=form,
        pattern=pattern,
        log_subject=log_subject,
        source=source,
        fields=fields,
        columns=_columns(form, columns_file),
        kind=kind or INTERVAL_TYPE,
        qualities=tuple(qualities.upper()) if qualities else QUALITIES,
        complete=complete,
    )
    told.check()
    from tallybook.adapters.http.client import Client
    from tallybook.adapters.http.sender import HttpEventSender

    begin = time.monotonic()
    with (
        opened(file) as raw,
        target.address() as (url, key),
        Client(url, key) as client,
        _bar(file, quiet=target.json) as moved,
    ):
        work = FileUpload(raw, told)
        result = upload(work, HttpEventSender(client), retry_seconds, moved)
    _print(target, file, result, time.monotonic() - begin)


def _columns(form: str, file: Path | None) -> Columns | None:
    if (form == "intervals") != (file is not None):
        raise click.UsageError("--format intervals and --columns go together")
    if file is None:
        return None
    try:
        return msgspec.convert(tomllib.loads(file.read_text()), Columns)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Invalid(f"{file}: {error}", field="columns") from error


def _fields(form: str, kind: str | None = None, **columns: str | None) -> Fields | None:
    if form in LOG_NAMES or form == "cloudevents" or form in INTERVAL_FORMATS:
        if kind or any(columns.values()):
            raise click.UsageError("--type, --subject, --time and --id are for ndjson and csv")
        return None
    if not kind:
        raise click.UsageError(f"--format {form} needs --type, the type of the events")
    return Fields(type=kind, **columns)


@contextmanager
def _bar(file: str, *, quiet: bool) -> Iterator[Callable[[Upload], None]]:
    """Show events sent on a terminal; the total is not known before the file is read."""
    if quiet or not sys.stderr.isatty():
        yield lambda _result: None
        return
    with progress() as bar:
        task = bar.add_task(Path(file).name, total=None)
        yield lambda result: bar.update(task, completed=result.lines)


def _print(target: Target, file: str, result: Upload, seconds: float) -> None:
    if target.json:
        target.show(result, lambda: None)
    else:
        click.echo(
            f"{file}: {result.lines} lines sent: {result.accepted} accepted,"
            f" {result.quarantined} quarantined ({seconds:.1f} s); what was known already"
            " changes nothing"
        )
    if result.quarantined and not target.json:
        click.echo("see why with: tallybook quarantine list")
    for reason, count in result.left_out.items():
        click.echo(f"note: {count} intervals do not count: {reason}", err=True)
    if result.unfinished_bytes:
        click.echo(
            f"note: the last {result.unfinished_bytes} bytes have no line end and were left"
            " unread; they may be cut off. If the file is whole, add --complete.",
            err=True,
        )
