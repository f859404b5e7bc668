"""The mapping between the two tables and back: every row that one of them takes is equal in both, or `plan` names it."""

import psycopg
import pytest

from dxy_pipeline.errors import UserError
from dxy_pipeline_tests.migration.support import PATH, Stage, Staged, content, desk_columns, enter, mirror_differs

KEY = "canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc"
ONE = "2024-06-10 01:00+00"
NEW = "2024-07-01 00:00+00"
PRICES = ("open", "high", "low", "close")
MEASURES = (*PRICES, "vol", "vwap")


def retyped(table: str, kind: str, *columns: str) -> list[str]:
    return [f"ALTER TABLE public.{table} ALTER COLUMN {c} TYPE {kind} USING {c}::{kind}" for c in columns or MEASURES]


def legacy(sets: str) -> str:
    return f"UPDATE public.derived_data_bars SET {sets} WHERE {KEY} = '{ONE}' AND deleted_at IS NULL"


def direct(columns: str, values: str) -> str:
    """An application's own bar in data_bars."""
    return (
        f"INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, {columns})"
        f" VALUES ('DXY', '1m', '{NEW}', {values})"
    )


def on_a_migrated_row(sets: str) -> str:
    return f"UPDATE public.data_bars SET {sets} WHERE {KEY} = '{ONE}'"


ALL = "open, high, low, close, vol, source"
DIRECT: dict[str, str] = {
    "a word for a version": direct(f"{ALL}, raw", """1, 1, 1, 1, 0, 'synthetic', '{"derivation_version": "v2"}'"""),
    "a huge version": direct(f"{ALL}, raw", """1, 1, 1, 1, 0, 'synthetic', '{"derivation_version": 12345678901}'"""),
    "another source": direct(ALL, "1, 1, 1, 1, 0, 'ingest'"),
    "raw is a list": direct(f"{ALL}, raw", "1, 1, 1, 1, 0, 'synthetic', '[1.00]'"),
    "raw is JSON's null": direct(f"{ALL}, raw", "1, 1, 1, 1, 0, 'synthetic', 'null'"),
    "raw like a migrated row's, and more": direct(
        f"{ALL}, raw",
        """1, 1, 1, 1, 0, 'synthetic', '{"kind": "dxy", "derivation_version": 1, "migrated_from": "derived_data_bars",
        "legacy": {}, "more": 1}'""",
    ),
    "a migrated row around a mirrored one": direct(
        f"{ALL}, raw",
        """1, 1, 1, 1, 0, 'synthetic', '{"kind": "dxy", "derivation_version": 1, "migrated_from": "derived_data_bars",
        "legacy": {"data_bars": {"raw": {}, "source": "x"}}}'""",
    ),
    "no open": direct("close, vol, source", "1, 0, 'synthetic'"),
    "no price at all": direct("vol, source", "0, 'synthetic'"),
    "a migrated row's source": on_a_migrated_row("source = 'ingest', close = 99"),
    "a migrated row's version": on_a_migrated_row('raw = raw || \'{"derivation_version": "v2"}\''),
    "a migrated row's open": on_a_migrated_row("open = NULL"),
    "a migrated row's raw": on_a_migrated_row("raw = '{}'"),
    "a migrated row's price": on_a_migrated_row("close = 99, high = 99"),
}


@pytest.mark.parametrize("name", DIRECT)
@pytest.mark.parametrize("shape", ["P", "S"])
def test_a_direct_write_passes_and_is_equal_in_both_tables(stage: Stage, shape: str, name: str) -> None:
    """And after the rollback it stands in data_bars as the application wrote it."""
    with stage.at(shape, "verified") as db:
        assert db.conn.execute(DIRECT[name]).rowcount == 1
        assert mirror_differs(db.conn) == 0
        minute = ONE if DIRECT[name].startswith("UPDATE") else NEW
        row = f"SELECT d::text FROM public.data_bars AS d WHERE {KEY} = '{minute}'"
        written = db.conn.execute(row).fetchone()
        assert db.migration.verify()["ok"]
        # as if legacy's writer touched the row: what comes back is what the application wrote
        db.conn.execute(
            f"UPDATE public.derived_data_bars SET trade_count = 7 WHERE {KEY} = '{minute}' AND deleted_at IS NULL"
        )
        assert mirror_differs(db.conn) == 0
        db.conn.execute(f"UPDATE public.data_bars SET trade_count = NULL WHERE {KEY} = '{minute}'")
        assert mirror_differs(db.conn) == 0
        db.migration.rollback()
        kept = db.conn.execute(row).fetchone()
        assert kept is not None
        assert written is not None
        columns = f"SELECT open, high, low, close, vol, source, raw FROM public.data_bars WHERE {KEY} = '{minute}'"
        assert db.conn.execute(columns).fetchone() is not None
        assert strip_times(kept[0], shape) == strip_times(written[0], shape)


def strip_times(text: str, shape: str) -> list[str]:
    """A row's text without trade_count and the clocks that a write moves."""
    fields = text.strip("()").split(",")
    return [f for f in fields if f not in {"7", "0", ""} and not f.startswith('"20')]


def test_raw_may_be_null_where_the_desk_allows_it(stage: Stage) -> None:
    with stage.at("S", "verified") as db:
        db.conn.execute(direct(f"{ALL}, raw", "1, 1, 1, 1, 0, 'synthetic', NULL"))
        assert mirror_differs(db.conn) == 0
        assert db.migration.verify()["ok"]
        db.migration.rollback()
        row = db.conn.execute(f"SELECT raw FROM public.data_bars WHERE {KEY} = '{NEW}'").fetchone()
        assert row == (None,)


def test_a_price_that_legacy_must_have_gets_a_stand_in_there(stage: Stage) -> None:
    with stage.at("P", "cut_over") as db:
        assert "data_bars.open may be NULL" in " ".join(db.migration.plan()["writes that do not fit both tables"])
        db.conn.execute(DIRECT["no open"])
        prices = f"SELECT open, high, low, close FROM public.derived_data_bars WHERE {KEY} = '{NEW}'"
        assert db.conn.execute(prices).fetchone() == (1, 1, 1, 1)
        db.conn.execute(f"UPDATE public.data_bars SET close = NULL WHERE {KEY} = '{NEW}'")
        row = db.conn.execute(prices).fetchone()
        assert row is not None
        assert [str(value) for value in row] == ["nan"] * 4


def test_a_price_lost_on_one_side_is_still_seen(stage: Stage) -> None:
    """The stand-in must not make NULL and a value equal."""
    with stage.at("P", "verified") as db:
        with db.conn.transaction():
            db.conn.execute("SET LOCAL dxy.mirror = 'on'")
            db.conn.execute(on_a_migrated_row("open = NULL"))
        (failure,) = db.migration.verify()["failures"]
        assert failure["problem"] == "differs in open"


# name -> (statements on shape S before anything of ours, how many legacy values do not survive)
TYPES: dict[str, tuple[list[str], int]] = {
    "float8 legacy, zero vwap": ([*retyped("derived_data_bars", "double precision"), legacy("vwap = 0")], 0),
    "float8 data_bars, zero vwap": ([*retyped("data_bars", "double precision"), legacy("vwap = 0")], 0),
    "float8 legacy, vol -0": ([*retyped("derived_data_bars", "double precision"), legacy("vol = '-0'")], 0),
    "float8 legacy, vol too small for numeric": (
        [*retyped("derived_data_bars", "double precision"), legacy("vol = 1e-12")],
        1,
    ),
    "float8 data_bars, 20 digits": (
        [*retyped("data_bars", "double precision"), legacy("vol = 123456789012.12345678")],
        1,
    ),
    "numeric without limits, float8 data_bars, 20 digits": (
        [
            *retyped("derived_data_bars", "numeric"),
            *retyped("data_bars", "double precision"),
            legacy("vol = 123456789012.12345678"),
        ],
        1,
    ),
    "whole vol in data_bars": ([*retyped("data_bars", "bigint", "vol"), legacy("vol = 2.5")], 1),
    "whole vol in legacy": (retyped("derived_data_bars", "bigint", "vol"), 0),
    "whole vol and float8": (
        [
            *retyped("data_bars", "bigint", "vol"),
            *retyped("derived_data_bars", "double precision"),
            legacy("vol = 2.5"),
        ],
        1,
    ),
    "two scales": (retyped("data_bars", "numeric(24,10)", *PRICES), 0),
}


@pytest.mark.parametrize("name", TYPES)
def test_column_types_that_differ_verify_both_ways_and_roll_back(stage: Stage, name: str) -> None:
    statements, rounded = TYPES[name]
    with stage.changed("S", *statements) as db:
        columns, before = desk_columns(db.conn), content(db.conn)
        assert db.migration.plan()["values that do not survive the column types"] == rounded
        db.migration.prepare(accept_native=True, accept_rounding=bool(rounded), options={"health_minutes": 0})
        for state in PATH[2:6]:
            enter(db.migration, state)
        with db.conn.transaction(force_rollback=True):
            for table in ("data_bars", "derived_data_bars"):
                for value in ("0", "123456789012", "7.123456785", "-0.0"):
                    db.conn.execute(
                        f"UPDATE public.{table} SET vol = {value}, vwap = {value}, open = {value} WHERE {KEY} = '{ONE}'"
                    )
                    assert (value, mirror_differs(db.conn)) == (value, 0)
        db.migration.rollback()
        assert content(db.conn, columns) == before


# name -> (shape, statements, what `plan` says is in the way)
IN_THE_WAY: dict[str, tuple[str, list[str], str]] = {
    "a column that cannot be hashed": (
        "P",
        ["ALTER TABLE public.data_bars ADD COLUMN note json, ADD COLUMN place point"],
        "data_bars.note is json, which has no hash",
    ),
    "no vol, and NOT NULL": (
        "P",
        ["UPDATE public.data_bars SET vol = 0 WHERE vol IS NULL", "ALTER TABLE public.data_bars ALTER vol SET NOT NULL",
         legacy("vol = NULL")],
        "1 legacy rows have no vol, and data_bars.vol is NOT NULL",
    ),
    "a CHECK of prices": (
        "P",
        ["ALTER TABLE public.data_bars ADD CONSTRAINT sane CHECK (close < 1000)", legacy("close = 1000")],
        "1 legacy rows break data_bars' CHECK sane",
    ),
    "a value out of range": (
        "S",
        [*retyped("derived_data_bars", "double precision"), legacy("close = 'Infinity', high = 1e13, low = 'NaN'")],
        "1 rows of derived_data_bars have a high of 1e12 or more",
    ),
    "a native value out of range": (
        "S",
        [*retyped("data_bars", "double precision"), "UPDATE public.data_bars SET open = 1e12 WHERE canonical_symbol = 'DXY'"],
        "20 rows of data_bars have a open of 1e12 or more",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_plan_names_what_would_fail_later(any_stage: Stage, name: str) -> None:
    shape, statements, words = IN_THE_WAY[name]
    with any_stage.changed(shape, *statements) as db:
        assert words in " | ".join(db.migration.plan()["in the way"])
        with pytest.raises(UserError) as caught:
            db.migration.prepare(accept_native=True)
        assert str(caught.value) == db.migration.plan()["in the way"][0]


def test_plan_names_legacy_writes_that_the_dual_write_refuses(stage: Stage) -> None:
    statements = [
        "UPDATE public.data_bars SET vol = 0 WHERE vol IS NULL",
        "ALTER TABLE public.data_bars ALTER vol SET NOT NULL",
    ]
    with stage.changed("P", *statements) as db:
        words = "derived_data_bars.vol may be NULL, data_bars.vol may not: the dual write refuses"
        assert words in " ".join(db.migration.plan()["writes that do not fit both tables"])
        for state in PATH[1:4]:
            enter(db.migration, state)
        with pytest.raises(psycopg.errors.NotNullViolation):
            db.conn.execute(legacy("vol = NULL"))


def classes(db: Staged) -> tuple[int, int]:
    rows = db.migration.plan()["rows"]
    return rows["identical"] + rows["reconcilable"], rows["conflict"]


def test_plan_and_backfill_class_the_same(stage: Stage) -> None:
    """A bar without a price is a conflict, and the counts are those that the backfill finds."""
    natives = [
        direct(ALL, value).replace(NEW, minute)
        for minute, value in (
            (ONE, "NULL, NULL, NULL, NULL, 0, 'synthetic'"),
            ("2024-06-10 01:01+00", "99, 99, 99, 99, 0, 'synthetic'"),
            ("2024-06-10 01:02+00", "'Infinity', 1, 1, 1, 0, 'synthetic'"),
        )
    ]
    same = (
        "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
        " SELECT 'DXY', '1m', ts_utc, open + {0}, high, low, close, vol, 'synthetic' FROM public.derived_data_bars"
        f" WHERE {KEY} = '2024-06-10 01:{{1}}+00' AND deleted_at IS NULL"
    )
    with stage.changed("P", *natives, same.format("0", "03"), same.format("0.000000005", "04")) as db:
        assert classes(db) == (2, 3)
        for state in PATH[1:3]:
            enter(db.migration, state)
        found = db.migration.backfill(policy="legacy-wins")
        assert (found["identical"] + found["reconciled"], found["conflict"]) == (2, 3)
        assert db.migration.verify()["ok"]


def test_a_desk_hangs_its_own_view_and_grants_on_the_active_view(stage: Stage) -> None:
    """Back and forward again they are still there: the view is never dropped."""
    with stage.at("P", "prepared") as db:
        db.conn.execute("DROP ROLE IF EXISTS signal_engine")
        db.conn.execute("CREATE ROLE signal_engine")
        try:
            db.conn.execute("GRANT USAGE ON SCHEMA dxy TO signal_engine")
            db.conn.execute("GRANT SELECT ON dxy.dxy_1m_active TO signal_engine")
            db.conn.execute("GRANT EXECUTE ON FUNCTION dxy.reading_table() TO signal_engine")
            db.conn.execute("CREATE VIEW public.desk_dxy AS SELECT ts_utc, close FROM dxy.dxy_1m_active")
            for state in PATH[2:]:
                enter(db.migration, state)
            db.migration.rollback()
            for state in PATH[1:]:
                enter(db.migration, state)
            with db.conn.transaction(force_rollback=True):
                db.conn.execute("SET LOCAL ROLE signal_engine")
                assert db.conn.execute("SELECT count(*) FROM dxy.dxy_1m_active").fetchone() == (467,)
                assert db.conn.execute("SELECT dxy.reading_table()").fetchone() == ("data_bars",)
            assert db.conn.execute("SELECT count(*) FROM public.desk_dxy").fetchone() == (467,)
        finally:
            db.conn.execute("DROP OWNED BY signal_engine")
            db.conn.execute("DROP ROLE signal_engine")


def test_our_own_roles_may_ask_which_table_to_read(stage: Stage) -> None:
    with stage.at("P", "prepared") as db:
        for role in ("dxy_reader", "dxy_writer"):
            with db.conn.transaction(force_rollback=True):
                db.conn.execute(f"SET LOCAL ROLE {role}")
                assert db.conn.execute("SELECT dxy.reading_table()").fetchone() == ("derived_data_bars",)
