"""The `dxy` command: its list of sub-commands, and what happens to an error.

Belongs here: the root command. Does not belong here: any work; each sub-command is a module of its own with a
`app = typer.Typer()`, imported only when it is invoked, so that `dxy --help` and `dxy db url` stay quick.
A module with several commands, or one that may get more, has an `@app.callback()`; a module with a single
`@app.command()` and no callback is that command itself (`dxy up`).

Exit codes: 0 done; 1 ran and found something unhealthy or failed; 2 a mistake that the user can mend; 130 Ctrl-C.
"""

import importlib
import os
import sys
import traceback
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import redact


@dataclass(frozen=True)
class SubCommand:
    """One line of `dxy --help`, and the module under `dxy_pipeline.cli` that has its `app`."""

    name: str
    module: str
    help: str

    def load(self) -> Any:
        """Import the module and return its command."""
        command = typer.main.get_command(importlib.import_module(f"{__name__}.{self.module}").app)
        command.name = self.name
        return command


SUB_COMMANDS: Final[tuple[SubCommand, ...]] = (
    SubCommand("demo", "demo", "The whole pipeline on an embedded database, with real rates."),
    SubCommand("up", "up", "PostgreSQL, the Dagster UI and live bars, until Ctrl-C."),
    SubCommand("load", "load", "Load FX minutes: files, ECB rates, the Massive API, the simulation."),
    SubCommand("backfill", "backfill", "Derive DXY and its roll-ups over a range of history."),
    SubCommand("status", "status", "Rows, latest bars and health; exits 1 when a check fails."),
    SubCommand("checks", "checks", "List the checks, or run them and see the violating rows."),
    SubCommand("alerts", "alerts", "Incidents by root cause, waiting messages, a test message."),
    SubCommand("watchdog", "watchdog", "Notice a dead scheduler, from a process of its own."),
    SubCommand("migrate", "migrate", "Move legacy DXY 1m rows to data_bars: reversible, proved by content."),
    SubCommand("demo-migration", "demo_migration", "The migration end to end on legacy rows made for it."),
    SubCommand("db", "db", "Start, stop and find the database server; plan and upgrade the schema."),
)


class _Root(TyperGroup):
    """A group that lists its sub-commands from the table, and imports the one that is invoked."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [sub.name for sub in SUB_COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a stand-in that can be listed; `resolve_command` returns the real one."""
        found = _find(cmd_name)
        return found and TyperCommand(name=found.name, help=found.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # For the suggestion after a typing error, which looks here.
        self.commands = {sub.name: TyperCommand(name=sub.name) for sub in SUB_COMMANDS}
        name, _, rest = super().resolve_command(ctx, args)
        found = _find(name) if name else None
        return name, found and found.load(), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except UserError as error:
            _report(error, debug=ctx.params["debug"])
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(130) from None
        except BrokenPipeError:
            _hush()
            raise typer.Exit(141) from None
        except Exception as error:
            if (known := _database_error(error)) is None:
                raise
            _report(known, debug=ctx.params["debug"])
            raise typer.Exit(2) from None


def _hush() -> None:
    """`dxy status | head`: no complaint, and none from the interpreter when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _find(name: str) -> SubCommand | None:
    return next((sub for sub in SUB_COMMANDS if sub.name == name), None)


def _database_error(error: Exception) -> UserError | None:
    """Return what a psycopg error means to a user. Without psycopg imported it cannot be one."""
    psycopg = sys.modules.get("psycopg")
    if psycopg is None or not isinstance(error, psycopg.Error):
        return None
    return importlib.import_module("dxy_pipeline.db.refusals").explain(error)


def _report(error: UserError, *, debug: bool) -> None:
    if debug:
        _print_trace()
    print(f"error: {redact(' '.join(str(error).split()))}", file=sys.stderr)
    if error.hint:
        print(f"hint: {redact(error.hint)}", file=sys.stderr)


def _print_trace() -> None:
    print(redact(traceback.format_exc()), file=sys.stderr, end="")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"dxy_pipeline {version('dxy_pipeline')}")
        raise typer.Exit


app = typer.Typer(cls=_Root, no_args_is_help=True, add_completion=False)


@app.callback()
def root(
    debug: bool = typer.Option(False, "--debug", help="Show the stack trace of an error."),
    show_version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """US Dollar Index (DXY) bars: load FX minutes, derive, roll up, monitor, migrate."""


def main() -> None:
    """Entry point of the `dxy` program. `--debug` may stand anywhere on the line."""
    args = sys.argv[1:]
    options = args[: args.index("--")] if "--" in args else args
    if "--debug" in options:
        args = ["--debug", *(arg for arg in options if arg != "--debug"), *args[len(options) :]]
    try:
        try:
            typer.main.get_command(app).main(args=args, prog_name="dxy")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _hush()
        sys.exit(141)
    except Exception:  # a bug: its trace, with no password in it
        _print_trace()
        sys.exit(1)
