"""`dxy load massive` and the range options, as a user types them, with a local API and a real database."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from dxy_pipeline.cli import app
from dxy_pipeline.core.bars import Bar
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.sources.simulated import SimulatedSource
from dxy_pipeline_tests.massive_server import MOODS, Call, MassiveServer, Reply

START = datetime(2024, 6, 10, 6, 0, tzinfo=UTC)
END = START + timedelta(hours=2)
RANGE = ("--from", "2024-06-10T06:00Z", "--to", "2024-06-10T08:00Z")
KEY = "PLANTED-k3y-9f8e7d"

Dxy = Callable[..., Result]


@pytest.fixture(scope="module")
def bars() -> list[Bar]:
    source = SimulatedSource(FixedClock(datetime(2024, 6, 12, tzinfo=UTC)))
    return [row for batch in source.bars(SYMBOLS, START, END) for row in batch.rows]


@pytest.fixture
def api(bars: list[Bar], monkeypatch: pytest.MonkeyPatch) -> Iterator[MassiveServer]:
    with MassiveServer(bars, page_size=40) as running:
        running.key = KEY
        monkeypatch.setenv("MASSIVE_API_KEY", KEY)
        monkeypatch.setenv("DXY_MASSIVE_BASE_URL", running.url)
        yield running


@pytest.fixture
def dxy(db: str, monkeypatch: pytest.MonkeyPatch) -> Dxy:
    monkeypatch.setenv("DATABASE_URL", db)
    return lambda *args: CliRunner().invoke(app, ["load", *map(str, args)])


def stored(conn: psycopg.Connection) -> list[tuple]:
    return conn.execute(
        "SELECT canonical_symbol, ts_utc, open::float8, high::float8, low::float8, close::float8"
        " FROM public.data_bars WHERE timeframe = '1m' ORDER BY ts_utc, canonical_symbol"
    ).fetchall()


def expected(bars: list[Bar]) -> list[tuple]:
    return sorted((tuple(bar[:6]) for bar in bars), key=lambda row: (row[1], row[0]))


def test_pages_end_in_the_table_and_delayed_is_said(dxy: Dxy, conn: psycopg.Connection, api, bars) -> None:
    api.mood = "delayed"
    run = dxy("massive", *RANGE)
    assert run.exit_code == 0, run.output
    assert stored(conn) == expected(bars)
    assert "EURUSD is DELAYED by the plan" in run.stderr
    sources = conn.execute("SELECT DISTINCT source, raw ->> 'feed' FROM public.data_bars").fetchall()
    assert sources == [("massive_api", "massive")]


def test_a_break_half_way_keeps_whole_pieces_and_the_load_goes_on(
    dxy: Dxy, conn: psycopg.Connection, api, bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_at_third_page(running: MassiveServer, call: Call, envelope: dict) -> Reply | None:
        bad = call.symbol == "USDCAD" and call.page == 2
        return MOODS["401" if bad else "well"](running, call, envelope)

    monkeypatch.setitem(MOODS, "breaks", breaks_at_third_page)
    api.mood = "breaks"
    run = dxy("massive", *RANGE)
    assert run.exit_code == 2
    assert "does not accept the API key" in run.stderr
    assert "run it again to go on" in run.stderr
    assert KEY not in run.output
    assert stored(conn) == expected([bar for bar in bars if bar.symbol in SYMBOLS[:3]])
    api.mood = "well"
    again = json.loads(dxy("massive", *RANGE, "--json").stdout)
    assert again["unchanged"] == sum(bar.symbol in SYMBOLS[:3] for bar in bars)
    assert stored(conn) == expected(bars)


@pytest.mark.parametrize("mood", ["401", "403", "400", "html", "page two truncated", "circle"])
def test_no_failure_shows_the_key_or_stores_a_bar(dxy: Dxy, conn: psycopg.Connection, api, mood: str) -> None:
    api.mood = mood
    run = CliRunner().invoke(app, ["--debug", "load", "massive", *RANGE])
    assert run.exit_code == 2
    assert "Traceback" in run.stderr  # --debug shows it, and even that has no key
    assert KEY not in run.output
    assert stored(conn) == []


def test_ranges_and_pairs(dxy: Dxy, conn: psycopg.Connection, api, bars) -> None:
    run = dxy("massive", "--from", "2024-06-10T06:30Z", "--to", "2024-06-10T07:00Z", "--pair", "USDSEK", "--json")
    assert run.exit_code == 0, run.output
    half = START + timedelta(minutes=30)
    assert stored(conn) == expected(
        [b for b in bars if b.symbol == "USDSEK" and half <= b.ts_utc < END.replace(hour=7)]
    )
    assert {call.symbol for call in api.calls} == {"USDSEK"}


def test_many_refused_rows_are_summed_up(dxy: Dxy, conn: psycopg.Connection, tmp_path: Path) -> None:
    good = "2024-06-10T06:00Z,EURUSD,1.08,1.09,1.07,1.08\n"
    (tmp_path / "fx.csv").write_text("time,symbol,open,high,low,close\n" + good + "rubbish\n" * 57)
    run = dxy("csv", tmp_path / "fx.csv")
    assert run.exit_code == 1, run.output
    assert "the first 20 of 57; all are in dxy.rejected_bar" in run.stderr
    assert run.stdout.count("fx.csv:") == 20
    assert conn.execute("SELECT count(*) FROM dxy.rejected_bar").fetchone() == (57,)
