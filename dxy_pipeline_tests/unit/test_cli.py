"""The `dxy` program: exit codes, one-line errors, lazy imports, tables and JSON."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from typer.testing import CliRunner

import dxy_pipeline.cli as cli
from dxy_pipeline.cli import output
from dxy_pipeline.errors import UserError

DXY = [sys.executable, "-c", "from dxy_pipeline.cli import main; main()"]


def dxy(*args: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the program as a user would."""
    return subprocess.run(
        [*DXY, *args], capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **(env or {})}
    )


# --- the root command


def test_version() -> None:
    done = dxy("--version")
    assert (done.returncode, done.stdout) == (0, f"dxy_pipeline {version('dxy_pipeline')}\n")


def test_help_lists_every_sub_command() -> None:
    done = dxy("--help")
    assert done.returncode == 0
    for sub in cli.SUB_COMMANDS:
        assert sub.name in done.stdout
        assert sub.help[:20] in done.stdout
        assert "..." not in sub.help


@pytest.mark.parametrize("sub", cli.SUB_COMMANDS, ids=lambda sub: sub.name)
def test_every_sub_command_loads(sub: cli.SubCommand) -> None:
    command = sub.load()
    assert command.name == sub.name
    assert command.help, f"{sub.module} has no help of its own"


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["db", "url"]])
def test_quick_commands_import_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys, dxy_pipeline.cli as c\n"
        f"sys.argv = ['dxy', *{args!r}]\n"
        "try: c.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'dagster', 'pandas', 'pyarrow', 'sqlalchemy', 'alembic', 'matplotlib', 'plotly', 'massive'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["strat"], "No such command 'strat'"),
        (["stats"], "Did you mean 'status'"),
        (["db", "strat"], "Did you mean 'start'"),
        (["db", "url", "--colour"], "No such option"),
        (["--colour"], "No such option"),
    ],
)
def test_usage_errors(args: list[str], said: str) -> None:
    done = dxy(*args)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# --- errors


SECRET = {"DATABASE_URL": "mysql://user:sesame@host/db"}


def test_a_users_mistake_is_one_line_and_a_hint() -> None:
    done = dxy("db", "url", env=SECRET)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: DATABASE_URL is a mysql URL; only PostgreSQL is supported",
        "hint: it starts with postgresql://",
    ]


@pytest.mark.parametrize("args", [["--debug", "db", "url"], ["db", "--debug", "url"], ["db", "url", "--debug"]])
def test_debug_adds_the_trace_anywhere_on_the_line(args: list[str]) -> None:
    done = dxy(*args, env=SECRET)
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback")
    assert "settings.py" in done.stderr
    assert done.stderr.splitlines()[-2].startswith("error: DATABASE_URL")
    assert "sesame" not in done.stderr


def invoke(work: Any, args: Sequence[str] = ("do",)) -> Any:
    """Run `work` as the sub-command `do` inside the real root command."""

    class Module:
        app = typer.Typer()

    Module.app.command(help="Does it.")(work)

    @dataclass(frozen=True)
    class Sub(cli.SubCommand):
        def load(self) -> Any:
            return typer.main.get_command(Module.app)

    before = cli.SUB_COMMANDS
    cli.SUB_COMMANDS = (Sub("do", "none", "Does it."),)  # type: ignore[misc]
    try:
        return CliRunner().invoke(cli.app, list(args))
    finally:
        cli.SUB_COMMANDS = before  # type: ignore[misc]


def test_a_database_error_is_a_users_error(empty_db: str) -> None:
    def work() -> None:
        with psycopg.connect(empty_db) as conn:
            conn.execute("select * from data_bars")

    result = invoke(work)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        'error: a table is missing: relation "data_bars" does not exist',
        "hint: run `dxy db plan`, then `dxy db upgrade`",
    ]


def test_an_error_of_many_lines_is_shown_on_one() -> None:
    def work() -> None:
        raise UserError("one\n  two postgresql://u:sesame@h/", hint="three password=sesame")

    result = invoke(work)
    assert result.stderr == "error: one two postgresql://u:***@h/\nhint: three password=***\n"


def test_unhealthy_is_not_a_mistake() -> None:
    def work() -> None:
        print("two checks fail")
        raise typer.Exit(1)

    result = invoke(work)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "two checks fail\n", "")


def test_a_bug_keeps_its_trace_but_no_password() -> None:
    code = (
        "import sys, dxy_pipeline.cli as c\n"
        "def broken(self, *a): raise RuntimeError('postgresql://u:sesame@h/db')\n"
        "c.SubCommand.load = broken\n"
        "sys.argv = ['dxy', 'db', 'url']\n"
        "c.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: postgresql://u:***@h/db" in done.stderr
    assert "Traceback" in done.stderr
    assert "sesame" not in done.stderr


def test_ctrl_c(place: Path) -> None:
    """While it waits for another starter's lock."""
    with (place / "pg18.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [*DXY, "db", "start"], stderr=subprocess.PIPE, text=True, env={**os.environ, "DXY_DATA_DIR": str(place)}
        )
        assert process.stderr is not None
        assert "waiting for another process" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted\n")


@pytest.mark.parametrize("args", [["--help"], ["db", "url"]])
def test_a_reader_that_goes_away(args: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*DXY, *args], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode in {1, 141}  # typer's own --help, ours


# --- dxy db


def test_embedded_server_by_command(place: Path) -> None:
    env = {"DXY_DATA_DIR": str(place / "with blanks")}
    assert dxy("db", "stop", env=env).stdout == "was not running\n"
    started = json.loads(dxy("db", "start", "--json", env=env).stdout)
    assert (started["server"], started["database"], started["version"]) == ("started", "dxy, created", 18)
    again = json.loads(dxy("db", "start", "--json", env=env).stdout)
    assert (again["server"], again["database"]) == ("runs already", "dxy, exists")
    url = dxy("db", "url", env=env).stdout.strip()
    assert url == started["url"]
    with psycopg.connect(url) as conn:
        assert conn.info.dbname == "dxy"
    table = dxy("db", "start", env=env).stdout
    assert url in table  # not cut, although this is no terminal
    assert dxy("db", "stop", env=env).stdout == "stopped\n"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_database_url_comes_first_and_hides_its_password() -> None:
    env = {"DATABASE_URL": "postgresql://u:sesame@h/db"}
    assert dxy("db", "url", env=env).stdout == "postgresql://u:***@h/db\n"
    assert dxy("db", "url", "--password", env=env).stdout == "postgresql://u:sesame@h/db\n"


# --- output


class Colour(StrEnum):
    RED = "red"


@dataclass
class Figure:
    name: str
    at: datetime


INSTANT = datetime(2024, 6, 12, 14, 30, tzinfo=timezone(timedelta(hours=2)))

REPORT = {
    "instant": INSTANT,
    "day": date(2024, 6, 12),
    "price": Decimal("104.50143348"),
    "whole": Decimal("7.00"),
    "count": 1234567,
    "ratio": 0.25,
    "nan": float("nan"),
    "none": None,
    "ok": True,
    "kind": Colour.RED,
    "took": timedelta(seconds=90),
    "file": Path("/a/b"),
    "figures": [Figure("x", INSTANT)],
    "set": {2, 1},
    "url": "postgresql://u:sesame@h/db",
}


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit(REPORT, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "instant": "2024-06-12T12:30:00Z",
        "day": "2024-06-12",
        "price": 104.50143348,
        "whole": 7,
        "count": 1234567,
        "ratio": 0.25,
        "nan": None,
        "none": None,
        "ok": True,
        "kind": "red",
        "took": 90.0,
        "file": "/a/b",
        "figures": [{"name": "x", "at": "2024-06-12T12:30:00Z"}],
        "set": [1, 2],
        "url": "postgresql://u:***@h/db",
    }


def test_rows_as_json_and_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"pair": "EURUSD", "rows": 1440, "latest": INSTANT}, {"pair": "[red]", "rows": None, "latest": None}]
    output.emit(rows, as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["rows"] == 1440
    output.emit(rows, title="Pairs")
    shown = capsys.readouterr().out
    assert "Pairs" in shown
    assert "1,440" in shown
    assert "2024-06-12 12:30Z" in shown
    assert "[red]" in shown  # data is not markup


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (104.5, "104.5"),
        (100.0, "100"),
        (Decimal("104.50143348"), "104.50143348"),
        (Decimal("1E+3"), "1,000"),
        (0.1 + 0.2, "0.3"),
        (INSTANT, "2024-06-12 12:30Z"),
        (INSTANT.replace(second=5), "2024-06-12 12:30:05Z"),
        (date(2024, 6, 12), "2024-06-12"),
        (Colour.RED, "red"),
        ([1, 2], "1, 2"),
        ({"a": 1}, "a 1"),
        ("postgresql://u:p@h/", "postgresql://u:***@h/"),
    ],
)
def test_cell(value: Any, expected: str) -> None:
    assert output.cell(value) == expected


def test_a_naive_time_is_refused() -> None:
    for show in (output.cell, output.to_json):
        with pytest.raises(ValueError, match="naive"):
            show(datetime(2024, 1, 1))  # noqa: DTZ001 - that is the point


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        output.to_json({"x": object()})


def test_utc_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit({"now": datetime(2024, 1, 1, tzinfo=UTC)})
    assert "2024-01-01 00:00Z" in capsys.readouterr().out
