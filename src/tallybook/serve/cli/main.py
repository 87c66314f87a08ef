"""The `tallybook` command: a group whose commands are loaded only when they are called.

The base install has the agent and the client; commands of the server say how to get it.
"""

import importlib
import os
import sys
from collections.abc import Sequence

import click

from tallybook import __version__
from tallybook.kernel.errors import TallybookError
from tallybook.serve.cli.common import DONE, REFUSED, USAGE, exit_code, report

COMMANDS = {
    "serve": ("server:serve", "Run the API, the console and the workers on one data folder."),
    "edge": ("edge:edge", "Run the agent that collects usage."),
    "edges": ("fleet.edges:edges", "See edges: last seen, lag, missing batches, certificate."),
    "doors": ("fleet.doors:doors", "See and rule what other people's agents send."),
    "ca": ("fleet.ca:ca", "Issue, renew and revoke the certificates of edges."),
    "ingest": ("ingest:ingest", "Send a file of events or log lines."),
    "apply": ("catalog:apply", "Apply catalog.toml: meters, customers, plans, subscriptions."),
    "subscription": ("subscription:subscription", "See and change who has which plan."),
    "price": ("price:price", "Calculate what a quantity or events cost under a price."),
    "usage": ("usage:usage", "Show what a meter measured."),
    "bill": ("billing:bill", "Make invoices for a month, or for what is open until now."),
    "invoice": ("settlement.life:invoice", "List, explain and verify invoices; pay, void, more."),
    "payment": ("settlement.payment:payment", "Record and reverse payments and refunds."),
    "credit-note": ("settlement.credit_note:credit_note", "Take back lines of invoices."),
    "coupon": ("settlement.coupon:coupon", "List and redeem coupons; what customers hold."),
    "entitlement": ("prepaid.entitlement:entitlement", "Check what may be used; grant more."),
    "wallet": ("prepaid.wallet:wallet", "Top up wallets, and see what became of it."),
    "ledger": ("settlement.ledger:ledger", "See entries and balances; audit the money."),
    "usage-plan": ("access.usage_plan:usage_plan", "Limit API keys, and see how they stand."),
    "webhooks": ("post.webhooks:webhooks", "Tell facts to other programs; what became of it."),
    "routes": ("routing.routes:routes", "See and change rules that route events to streams."),
    "streams": ("routing.streams:streams", "Read outbound streams; groups, redrive."),
    "quarantine": ("quarantine:quarantine", "See and redrive events that could not be processed."),
    "reconcile": ("usage:reconcile", "Prove that every event, and all money, is accounted for."),
    "keys": ("access.keys:keys", "Make, list, rotate and revoke API keys."),
    "users": ("access.users:users", "People who sign in to the console with a password."),
    "tenants": ("access.tenants:tenants", "Make, list, close and open tenants."),
    "audit": ("access.audit:audit", "Show who changed what; prove that nobody tampered with it."),
    "upgrade": ("upgrade:upgrade", "Bring a shared control database to this version's schema."),
    "doctor": ("doctor:doctor", "Say what is wrong with a data folder and what to do."),
    "demo": ("demo:demo", "Measure this machine for half a minute and bill it."),
}
SERVER_EXTRA = "pip install 'tallybook[server]'"


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the visible commands in the order of the road."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; one whose parts are missing explains itself when run."""
        del ctx
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        module, _, name = found[0].partition(":")
        try:
            command = getattr(importlib.import_module(f"tallybook.serve.cli.{module}"), name)
        except ModuleNotFoundError as error:
            return _missing(cmd_name, error)
        assert isinstance(command, click.Command), cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _missing(command: str, error: ModuleNotFoundError) -> click.Command:
    @click.command(command, context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1, type=click.UNPROCESSED)
    def explain(rest: tuple[str, ...]) -> None:
        del rest
        raise MissingExtra(command, error.name or "?")

    return explain


class MissingExtra(click.ClickException):
    """A command needs the server's packages."""

    exit_code = REFUSED

    def __init__(self, command: str, module: str) -> None:
        """Say which command installs them."""
        super().__init__(
            f"`tallybook {command}` needs the server's packages ({module} is not installed).\n"
            f"Install them with: {SERVER_EXTRA}"
        )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tallybook")
def cli() -> None:
    """Measure what customers use, exactly, and turn it into money."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code: 0 done, 1 refused, 2 usage, 3 unavailable."""
    try:
        code = cli.main(args=list(arguments), prog_name="tallybook", standalone_mode=False)
    except TallybookError as error:
        report(error, as_json="--json" in arguments)
        return exit_code(error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        _close_output()
        return DONE
    return code if isinstance(code, int) else DONE


def _close_output() -> None:
    """Point standard output at nothing, so that the interpreter's last flush cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the command line of this process; the entry point of the package."""
    code = run(sys.argv[1:])
    if "duckdb" in sys.modules:  # its bindings complain when the interpreter takes them apart
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
