"""`dxy load` on real files and a real database: what is stored, what is refused, what the user reads, resuming."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from typer.testing import CliRunner, Result

from dxy_pipeline import bar_store
from dxy_pipeline.cli import app
from dxy_pipeline.core.bars import Bar
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.sources import files
from dxy_pipeline.sources.simulated import SimulatedSource

START = datetime(2024, 6, 10, 8, tzinfo=UTC)
CLOCK = FixedClock(datetime(2024, 6, 12, 12, tzinfo=UTC))
STORED = "SELECT count(*) FROM public.data_bars AS d WHERE d.canonical_symbol = ANY (%s)"


@pytest.fixture
def load(db: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs `dxy load …` on the test's database."""
    monkeypatch.setenv("DATABASE_URL", db)
    return lambda *args: CliRunner().invoke(app, ["load", *map(str, args)])


def quotes(hours: float = 2, *symbols: str) -> list[Bar]:
    source = SimulatedSource(CLOCK)
    end = START + timedelta(hours=hours)
    return [bar for batch in source.bars(symbols or SYMBOLS, START, end) for bar in batch.rows]


def write_csv(path: Path, bars: list[Bar], extra: str = "") -> Path:
    lines = [f"{b.ts_utc.isoformat()},{b.symbol},{b.open},{b.high},{b.low},{b.close},{b.volume}" for b in bars]
    path.write_text("time,symbol,open,high,low,close,volume\n" + "\n".join(lines) + "\n" + extra)
    return path


def counts(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def stored(conn: psycopg.Connection) -> int:
    row = conn.execute(STORED, (list(SYMBOLS),)).fetchone()
    assert row
    return row[0]


def refused(result: Result) -> list[str]:
    """The lines of an error: exactly one line and a hint, no trace, exit code 2."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith(("error:", "hint:"))]
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], result.stderr
    assert "Traceback" not in result.output
    return lines


def test_csv_is_stored_as_written_and_a_second_load_changes_nothing(load, conn, tmp_path) -> None:
    bars = quotes()
    path = write_csv(tmp_path / "fx.csv", bars)
    first = counts(load("csv", path, "--json"))
    assert (first["inserted"], first["unchanged"], first["rejected"]) == (len(bars), 0, 0)
    rows = conn.execute(
        "SELECT canonical_symbol, ts_utc, open::float8, high::float8, low::float8, close::float8, source,"
        " raw ->> 'feed' FROM public.data_bars ORDER BY ts_utc, array_position(%s, canonical_symbol)",
        (list(SYMBOLS),),
    ).fetchall()
    assert rows == [(*bar[:6], "ingest", "file") for bar in bars]
    before = conn.execute("SELECT max(updated_at) FROM public.data_bars").fetchone()
    again = counts(load("csv", path, "--json"))
    assert (again["inserted"], again["updated"], again["unchanged"]) == (0, 0, len(bars))
    assert conn.execute("SELECT max(updated_at) FROM public.data_bars").fetchone() == before


def test_every_file_format_ends_in_the_same_bars(load, conn, tmp_path) -> None:
    bars = quotes(2, "EURUSD")
    frame = pd.DataFrame(bars)[["ts_utc", "open", "high", "low", "close", "volume"]]
    frame.to_parquet(tmp_path / "EURUSD.parquet")
    histdata = [
        f"{b.ts_utc - timedelta(hours=5):%Y%m%d %H%M%S};{b.open};{b.high};{b.low};{b.close};{b.volume:.0f}"
        for b in bars
    ]
    (tmp_path / "DAT_ASCII_EURUSD_M1_2024.csv").write_text("\n".join(histdata) + "\n")
    dukascopy = [f"{b.ts_utc:%d.%m.%Y %H:%M:%S}.000,{b.open},{b.high},{b.low},{b.close},{b.volume}" for b in bars]
    (tmp_path / "EURUSD_Candlestick_1_M_BID.csv").write_text(
        "Gmt time,Open,High,Low,Close,Volume\n" + "\n".join(dukascopy) + "\n"
    )
    # in June New York is UTC-4, so the broker's clock is UTC+3
    broker = timedelta(hours=3)
    metatrader = [
        f"{b.ts_utc + broker:%Y.%m.%d\t%H:%M:%S}\t{b.open}\t{b.high}\t{b.low}\t{b.close}\t{b.volume:.0f}\t0\t1"
        for b in bars
    ]
    (tmp_path / "EURUSD_M1.csv").write_text(
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n" + "\n".join(metatrader) + "\n"
    )
    assert counts(load("parquet", tmp_path / "EURUSD.parquet", "--json"))["inserted"] == len(bars)
    for file_format, name in (
        ("histdata", "DAT_ASCII_EURUSD_M1_2024.csv"),
        ("dukascopy", "EURUSD_Candlestick_1_M_BID.csv"),
        ("metatrader5", "EURUSD_M1.csv"),
    ):
        result = counts(load(file_format, tmp_path / name, "--json"))
        assert (result["inserted"], result["updated"], result["unchanged"]) == (0, 0, len(bars)), file_format
    assert stored(conn) == len(bars)


def test_pair_clock_and_columns_are_settings(load, conn, tmp_path) -> None:
    path = tmp_path / "export.csv"
    path.write_text("Day;O;H;L;C\n2024-06-10 10:00;1.08;1.081;1.079;1.08\n2024-06-10 10:01;1.08;1.081;1.079;1.08\n")
    result = counts(load(
        "csv", path, "--pair", "EURUSD", "--offset", "2", "--column", "time=Day", "--to", "2024-06-10T08:01Z", "--json"
    ))  # fmt: skip
    assert (result["inserted"], result["first"], result["last"]) == (1, "2024-06-10T08:00:00Z", "2024-06-10T08:00:00Z")
    assert conn.execute("SELECT canonical_symbol, ts_utc FROM public.data_bars").fetchall() == [("EURUSD", START)]


def test_the_clock_of_a_file_can_be_found_out_from_what_is_stored(load, conn, tmp_path) -> None:
    bars = quotes(28, "EURUSD", "USDCHF")
    counts(load("csv", write_csv(tmp_path / "chf.csv", [b for b in bars if b.symbol == "USDCHF"]), "--json"))
    euro = [b for b in bars if b.symbol == "EURUSD"]
    lines = [f"{b.ts_utc - timedelta(hours=4):%Y%m%d %H%M%S};{b.open};{b.high};{b.low};{b.close};0" for b in euro]
    path = tmp_path / "DAT_ASCII_EURUSD_M1_202406.csv"
    path.write_text("\n".join(lines) + "\n")
    result = load("histdata", path, "--clock", "auto", "--json")
    assert counts(result)["inserted"] == len(euro)
    assert "UTC-4" in result.stderr
    row = conn.execute("SELECT min(ts_utc) FROM public.data_bars WHERE canonical_symbol = 'EURUSD'").fetchone()
    assert row == (euro[0].ts_utc,)


def test_bad_rows_are_refused_by_name_and_kept_and_the_others_stored(load, conn, tmp_path) -> None:
    good = quotes(1)
    extra = (
        "2024-06-10T08:00:00Z,EURUSD,1,2,0.5,1,0\n"  # a second row of the first key
        "2024-06-10T09:00:30Z,EURUSD,1,2,0.5,1,0\n"
        "2024-06-10T09:01:00Z,eurusd,1,2,0.5,1,0\n"
        "2024-06-10T09:02:00Z,EURUSD,nan,2,0.5,1,0\n"
        "2024-06-10T09:03:00Z,EURUSD,1,0.5,2,1,0\n"
        "2099-01-01T00:00:00Z,EURUSD,1,2,0.5,1,0\n"
        "nonsense\n"
    )
    path = write_csv(tmp_path / "fx.csv", good, extra)
    result = load("csv", path)
    assert result.exit_code == 1
    assert "refused because" in result.stdout
    assert "7 row(s) were refused" in result.stderr
    for words in ("a second row for the same pair", "high and low do not enclose", "not parseable", "in the future"):
        assert words in result.stdout
    assert stored(conn) == len(good)
    kept = conn.execute("SELECT location, reason, payload FROM dxy.rejected_bar ORDER BY id").fetchall()
    first_bad = len(good) + 2
    assert [location for location, _, _ in kept] == [f"fx.csv:{first_bad + n}" for n in range(7)]
    assert len({reason for _, reason, _ in kept}) == 7
    assert kept[3][2]["open"] == "nan"


def test_refused_rows_are_in_the_exit_code_unless_they_are_accepted(load, conn, tmp_path) -> None:
    good = quotes(1)
    path = write_csv(tmp_path / "fx.csv", good, "2099-01-01T00:00:00Z,EURUSD,1,2,0.5,1,0\n")
    for arguments, code in (((), 1), (("--accept-refused",), 0)):
        result = load("csv", path, "--json", *arguments)
        assert result.exit_code == code
        assert json.loads(result.stdout)["rejected"] == 1
    assert stored(conn) == len(good)
    assert load("csv", write_csv(tmp_path / "good.csv", good)).exit_code == 0


@pytest.mark.parametrize("accept", [(), ("--accept-refused",)])
def test_one_good_row_of_sixteen_is_stored_and_none_of_seventeen_is_a_mistake(load, conn, tmp_path, accept) -> None:
    """Fewer rows than a sample needs to tell a wrong file by: still no success."""
    bad = "".join(f"2024-06-10T09:{minute:02d}:00Z,EURUSD,1,2,0.5,-1,0\n" for minute in range(15))
    result = load("csv", write_csv(tmp_path / "fx.csv", quotes(1, "EURUSD")[:1], bad), *accept)
    assert (result.exit_code, stored(conn)) == (0 if accept else 1, 1)
    path = tmp_path / "DAT_ASCII_USDJPY_M1.csv"
    path.write_text("".join(f"20240610 09{minute:02d};151\n" for minute in range(17)))
    result = load("histdata", path, *accept)
    error, hint = refused(result)
    assert "none of the 17 rows could be stored: not parseable (17)" in error
    assert "check format" in hint
    assert "refused rows" in result.stdout
    naive = tmp_path / "GBPUSD.csv"
    naive.write_text("time,open,high,low,close\n2024-06-10 08:00,1.2,1.2,1.2,1.2\n")
    assert "--clock utc" in refused(load("csv", naive, *accept))[1]
    assert stored(conn) == 1


def test_nothing_but_the_error_is_on_a_piped_stderr(load, tmp_path) -> None:
    """A progress display that clears itself leaves an empty line where there is no screen."""
    result = load("csv", tmp_path / "absent.csv")
    assert result.stderr.splitlines()[0].startswith("error: there is no file")


@pytest.mark.parametrize(
    ("content", "args", "words"),
    [
        (None, [], "there is no file"),
        ("", [], "is empty"),
        ("time,open,high,low\n2024-06-10T08:00Z,1,1,1\n", ["--pair", "EURUSD"], "has no column for close"),
        ("time,open,high,low,close\n2024-06-10T08:00Z,1,1,1,1\n", [], "does not say which pair"),
        ("time,open,high,low,close\n2024-06-10T08:00Z,1,1,1,1\n", ["--pair", "EURGBP"], "unknown pair 'EURGBP'"),
        ("time,open,high,low,close\n2024-06-10T08:00Z,1,1,1,1\n", ["--column", "time"], "is not OURS=THEIRS"),
        ("time,open,high,low,close\n", ["--pair", "EURUSD", "--from", "yesterday"], "is not a day or an instant"),
        ("x", ["--from", "2024-06-12", "--to", "2024-06-12"], "is not before --to"),
        ("x", ["--from", "2199-01-01"], "is in the future"),
        ("x", ["--from", "0001-01-01T00:00+14:00"], "is outside the years 1 to 9999 in UTC"),
        ("x", ["--to", "9999-12-31T23:59-14:00"], "is outside the years 1 to 9999 in UTC"),
        (
            "time,open,high,low,close\n2024-06-10 08:00,1,1,1,1\n",
            ["--pair", "EURUSD", "--clock", "mars"],
            "not a clock",
        ),
    ],
)
def test_a_mistake_is_one_line_and_stores_nothing(load, conn, tmp_path, content, args, words) -> None:
    path = tmp_path / "fx.csv"
    if content is not None:
        path.write_text(content)
    error, _ = refused(load("csv", path, *args))
    assert words in error
    assert stored(conn) == 0
    assert conn.execute("SELECT count(*) FROM dxy.rejected_bar").fetchone() == (0,)


def test_a_file_of_another_pair_is_refused_whole(load, conn, tmp_path) -> None:
    yen = quotes(1, "USDJPY")
    path = write_csv(tmp_path / "fx.csv", [bar._replace(symbol="EURUSD") for bar in yen])
    error, hint = refused(load("csv", path))
    assert "EURUSD" in error
    assert "USDJPY" in hint
    assert stored(conn) == 0
    assert counts(load("csv", path, "--no-level-check", "--json"))["inserted"] == len(yen)


def test_ecb_rates_are_one_bar_a_day_for_each_pair(load, conn) -> None:
    result = counts(load("ecb", "--from", "2024-06-10", "--to", "2024-06-13", "--json"))
    assert result["inserted"] == 3 * 6
    feeds = conn.execute("SELECT DISTINCT source, raw ->> 'feed' FROM public.data_bars").fetchall()
    assert feeds == [("ingest", "ecb")]


def test_a_better_source_is_never_overwritten(load, conn, tmp_path) -> None:
    counts(load("ecb", "--from", "2024-06-10", "--to", "2024-06-11", "--json"))
    ts = conn.execute("SELECT min(ts_utc) FROM public.data_bars").fetchone()[0]
    mine = Bar("EURUSD", ts, 1.2, 1.2, 1.2, 1.2)
    assert counts(load("csv", write_csv(tmp_path / "fx.csv", [mine]), "--json"))["updated"] == 1
    assert counts(load("ecb", "--from", "2024-06-10", "--to", "2024-06-11", "--json"))["outranked"] == 1
    row = conn.execute("SELECT close::float8 FROM public.data_bars WHERE canonical_symbol = 'EURUSD'").fetchone()
    assert row == (1.2,)


def test_simulated_bars_only_where_the_database_is_our_own(load, conn) -> None:
    error, hint = refused(load("simulated", "--from", "2024-06-10", "--to", "2024-06-11"))
    assert "database that the demo created itself" in error
    assert "DATABASE_URL" in hint
    assert stored(conn) == 0
    bar_store.mark_created_by(conn, "up")
    assert counts(load("simulated", "--from", "2024-06-10", "--to", "2024-06-11", "--json"))["inserted"] > 8000
    assert conn.execute("SELECT DISTINCT raw ->> 'feed' FROM public.data_bars").fetchall() == [("simulated",)]


def test_a_full_disk_half_way_loses_no_batch_that_was_stored(load, conn, tmp_path, monkeypatch) -> None:
    bars = quotes()
    monkeypatch.setattr(files, "BATCH_ROWS", 200)
    path = write_csv(tmp_path / "fx.csv", bars)
    full = bars[450]
    conn.execute(
        "CREATE FUNCTION public.fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF new.ts_utc = '{full.ts_utc.isoformat()}' AND new.canonical_symbol = '{full.symbol}' THEN"
        " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END IF;"
        " RETURN new; END $$;"
        " CREATE TRIGGER fill BEFORE INSERT ON public.data_bars FOR EACH ROW EXECUTE FUNCTION public.fill()"
    )
    result = load("csv", path)
    error, _ = refused(result)
    assert "disk is full" in error
    assert "stored before the error: 400 new bars" in result.stderr
    assert stored(conn) == 400
    conn.execute("DROP TRIGGER fill ON public.data_bars")
    rest = counts(load("csv", path, "--json"))
    assert (rest["unchanged"], rest["inserted"]) == (400, len(bars) - 400)


def test_a_killed_load_is_simply_run_again(db, conn, load) -> None:
    bar_store.mark_created_by(conn, "demo")
    span = ("simulated", "--from", "2024-05-01", "--to", "2024-05-31", "--json")
    process = subprocess.Popen(
        [sys.executable, "-c", "from dxy_pipeline.cli import main; main()", "load", *span], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while stored(conn) == 0:
        assert time.monotonic() < deadline, "nothing was stored"
        assert process.poll() is None, "it was over before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 30  # the server may still finish the statement of the dead client
    while conn.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name ~ ':load$'").fetchone() != (0,):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done = stored(conn)
    days = conn.execute("SELECT ts_utc::date, count(*) FROM public.data_bars GROUP BY 1").fetchall()
    source = SimulatedSource(FixedClock(datetime(2024, 6, 12, tzinfo=UTC)))
    whole = {b.rows[0].ts_utc.date(): len(b.rows) for b in source.bars(SYMBOLS, *_may())}
    assert all(whole[day] == rows for day, rows in days), "half a batch was stored"
    rest = counts(load(*span))
    assert (rest["unchanged"], rest["inserted"]) == (done, sum(whole.values()) - done)


def _may() -> tuple[datetime, datetime]:
    return datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 5, 31, tzinfo=UTC)


def test_an_empty_database_is_told_what_to_do(empty_db, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_db)
    path = write_csv(tmp_path / "fx.csv", quotes(1))
    error, hint = refused(CliRunner().invoke(app, ["load", "csv", str(path)]))
    assert "has no schema" in error
    assert "dxy db upgrade" in hint


def test_no_server_is_one_line(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://someone:planted-secret@127.0.0.1:1/dxy")
    result = CliRunner().invoke(app, ["load", "ecb"])
    refused(result)
    assert "planted-secret" not in result.output


def test_massive_without_a_key_is_told_so(load) -> None:
    error, hint = refused(load("massive", "--from", "2024-06-10"))
    assert "no API key" in error
    assert "MASSIVE_API_KEY" in hint
