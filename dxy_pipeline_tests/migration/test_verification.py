"""Verification by content: each corruption is caught with its key, on float8 and numeric, with nothing else reported."""

import threading
import time

import psycopg
import pytest

from dxy_pipeline.errors import UserError
from dxy_pipeline_tests.migration.support import Stage, enter

KEY = "canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc"
ONE, TWO = "2024-06-10 01:00:00+00", "2024-06-11 01:01:00+00"
NATIVE = "2024-06-30 00:05:00+00"
COPY = "canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source, raw"

# name -> (statements that pass the mirror by, the keys that must be listed)
CORRUPTIONS: dict[str, tuple[list[str], set[str]]] = {
    "one bit of a float8": (
        [f"UPDATE public.data_bars SET close = float8out_bit(close) WHERE {KEY} = '{ONE}'"],
        {ONE},
    ),
    "NULL for a value": ([f"UPDATE public.data_bars SET vol = NULL WHERE {KEY} = '{ONE}'"], {ONE}),
    "a value for NULL": ([f"UPDATE public.data_bars SET vwap = 0 WHERE {KEY} = '{ONE}'"], {ONE}),
    "minus zero": ([f"UPDATE public.data_bars SET vol = '-0' WHERE {KEY} = '{ONE}'"], {ONE}),
    "two rows' prices swapped": (
        [
            f"UPDATE public.data_bars AS d SET (open, high, low, close) = (SELECT o.open, o.high, o.low, o.close"
            f" FROM public.data_bars AS o WHERE o.{KEY} = CASE d.ts_utc WHEN '{ONE}' THEN '{TWO}'::timestamptz"
            f" ELSE '{ONE}' END) WHERE d.{KEY} IN ('{ONE}', '{TWO}')".replace("o.canonical", "o.canonical")
        ],
        {ONE, TWO},
    ),
    "one added, one removed": (
        [
            f"INSERT INTO public.data_bars ({COPY}) SELECT canonical_symbol, timeframe, '2024-06-10 05:00+00', open, high,"
            f" low, close, vol, source, raw FROM public.data_bars WHERE {KEY} = '{ONE}'",
            f"DELETE FROM public.data_bars WHERE {KEY} = '{ONE}'",
        ],
        {ONE, "2024-06-10 05:00:00+00"},
    ),
    "legacy row deleted": ([f"DELETE FROM public.derived_data_bars WHERE {KEY} = '{ONE}'"], {ONE}),
    "raw changed": ([f"UPDATE public.data_bars SET raw = raw || '{{\"x\": 1}}' WHERE {KEY} = '{ONE}'"], {ONE}),
    "source of a migrated row": ([f"UPDATE public.data_bars SET source = 'ingest' WHERE {KEY} = '{ONE}'"], {ONE}),
    "is_partial flipped": ([f"UPDATE public.data_bars SET is_partial = true WHERE {KEY} = '{ONE}'"], {ONE}),
    "a native row removed": ([f"DELETE FROM public.data_bars WHERE {KEY} = '{NATIVE}'"], {NATIVE}),
    "a native row changed": ([f"UPDATE public.data_bars SET close = 1 WHERE {KEY} = '{NATIVE}'"], {NATIVE}),
}  # fmt: skip
FLIP = """CREATE FUNCTION public.float8out_bit(double precision) RETURNS double precision LANGUAGE sql AS $$
    SELECT CASE WHEN s.up > $1 THEN s.up ELSE $1 END FROM (SELECT $1 + $1 * 1.2e-16 AS up) AS s $$"""


def evade(conn: psycopg.Connection, *statements: str) -> None:
    """Write past the mirror, as anyone can who sets the guard: verification is what catches it."""
    with conn.transaction():
        conn.execute("SET LOCAL dxy.mirror = 'on'")
        for statement in statements:
            assert conn.execute(statement).rowcount > 0


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", ["P", "S"])
def test_each_corruption_is_caught_with_its_key(stage: Stage, shape: str, name: str) -> None:
    statements, keys = CORRUPTIONS[name]
    if shape == "S" and ("float8" in name or "minus" in name or "provider_ticker" in statements[0]):
        statements = [f"UPDATE public.data_bars SET close = close + 0.00000001 WHERE {KEY} = '{ONE}'"]
    with stage.at(shape, "verified") as db:
        db.conn.execute(FLIP)
        evade(db.conn, *statements)
        found = db.migration.verify()
        assert not found["ok"]
        assert {f"{f['ts_utc']:%Y-%m-%d %H:%M:%S}+00" for f in found["failures"]} == keys
        assert found["state"] == "dual_write"
        with pytest.raises(UserError, match="cutover needs the state verified"):
            db.migration.cutover()


def test_cutover_itself_catches_what_was_corrupted_after_the_verification(stage: Stage) -> None:
    with stage.at("P", "verified") as db:
        evade(db.conn, f"UPDATE public.data_bars SET close = 1 WHERE {KEY} = '{ONE}'")
        with pytest.raises(UserError, match=r"1 minutes differ.*nothing was switched"):
            db.migration.cutover()
        assert db.migration.status()["readers use"] == "derived_data_bars"


def test_a_repair_never_counts_as_a_verification(stage: Stage) -> None:
    with stage.at("P", "verified") as db:
        evade(db.conn, f"UPDATE public.data_bars SET close = 1 WHERE {KEY} = '{ONE}'")
        assert db.migration.verify(repair=True)["repaired"] == 1
        with pytest.raises(UserError, match="repair after the last clean verification"):
            db.migration.cutover()
        assert db.migration.verify()["ok"]
        assert db.migration.cutover()["state"] == "cut_over"


def test_accounting_adds_up_and_names_what_has_no_inputs(stage: Stage) -> None:
    with stage.at("P", "dual_write") as db:
        result = db.migration.backfill()
        assert (result["scanned"], result["inserted"], result["unverifiable"]) == (447, 437, 10)
        again = db.migration.backfill(again=True)
        assert (again["identical"], again["inserted"], again["unverifiable"]) == (447, 0, 0)


def test_a_price_within_tolerance_is_reconciled_and_one_outside_is_a_conflict(stage: Stage) -> None:
    with stage.at("P", "prepared") as db:
        for ts, by in ((ONE, 0.000000005), (TWO, 0.01)):
            db.conn.execute(
                "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
                " SELECT 'DXY', '1m', ts_utc, open + %s, high + %s, low + %s, close + %s, 0, 'synthetic'"
                f" FROM public.derived_data_bars WHERE {KEY} = %s AND deleted_at IS NULL",
                (by, by, by, by, ts),
            )
        enter(db.migration, "dual_write")
        with pytest.raises(UserError, match="1 minutes are in both tables with different prices"):
            db.migration.backfill()
        report = db.migration.conflicts()
        assert [(f"{r['ts_utc']:%H:%M}", r["decision"]) for r in report] == [("01:01", "open")]
        assert float(report[0]["target_price"] - report[0]["legacy_price"]) == pytest.approx(0.01)
        assert report[0]["recomputed_price"] == report[0]["legacy_price"]
        with pytest.raises(UserError, match="1 days are failed"):
            db.migration.verify()
        result = db.migration.backfill(policy="legacy-wins", again=True)
        assert (result["conflict"], result["identical"]) == (1, 446)
        assert db.migration.verify()["ok"]
        undo = db.conn.execute("SELECT count(*), count((before).close) FROM dxy.migration_undo").fetchone()
        assert undo == (2, 2), "both images are kept"


def test_a_second_run_rewrites_no_row(stage: Stage) -> None:
    with stage.at("P", "dual_write") as db:
        places = "SELECT md5(string_agg(xmin::text || ctid::text, ' ' ORDER BY ctid)) FROM public.{}"
        db.migration.backfill()
        before = [db.conn.execute(places.format(table)).fetchone() for table in ("data_bars", "derived_data_bars")]
        db.migration.backfill(again=True)
        assert [db.conn.execute(places.format(t)).fetchone() for t in ("data_bars", "derived_data_bars")] == before


def test_a_minute_that_somebody_puts_in_past_the_mirror_meanwhile_gets_its_class(stage: Stage) -> None:
    """The backfill meets it at the unique index, looks again, and counts it as what it is."""
    with stage.at("P", "dual_write") as db, psycopg.connect(db.url) as evader:
        evader.execute("SET dxy.mirror = 'on'")
        evader.execute(
            "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
            f" VALUES ('DXY', '1m', '{ONE}', 1, 1, 1, 1, 0, 'synthetic')"
        )
        found: list[str] = []

        def run() -> None:
            try:
                db.migration.backfill()
            except UserError as error:
                found.append(str(error))

        runner = threading.Thread(target=run)
        runner.start()
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid'"
        deadline = time.monotonic() + 20
        while not db.conn.execute(waiting).fetchone():
            assert time.monotonic() < deadline
        evader.commit()
        runner.join()
        assert found == ["1 minutes are in both tables with different prices"]
        (day,) = [row for row in db.migration.units() if row["conflict"]]
        assert (day["scanned"], day["inserted"] + day["unverifiable"], day["superseded"]) == (172, 171, 0)
