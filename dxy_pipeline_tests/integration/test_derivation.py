"""calc_dxy_range_1m: what it derives, retracts, leaves alone and refuses, called as a desk's worker calls it."""

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dxy_pipeline.core.index import BASE, COMPONENTS, SYMBOLS, WEIGHTS, index_price
from dxy_pipeline_tests.bars import (
    MINUTE,
    PRICE,
    RATES,
    T0,
    derive,
    dxy_minutes,
    put,
    put_six,
    remove,
    row_versions,
    scalar,
    table_hash,
)

HOUR = timedelta(hours=1)
GOLDEN = list(csv.DictReader(files("dxy_pipeline_tests").joinpath("data/dxy_golden.csv").open(encoding="utf-8")))


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["case"])
def test_sql_formula_agrees_with_the_golden_values(conn: psycopg.Connection, case: dict[str, str]) -> None:
    rates = [float(case[symbol]) for symbol in SYMBOLS]
    price = scalar(conn, "SELECT dxy.index_price(%s, %s, %s, %s, %s, %s)", *rates)
    assert price == pytest.approx(float(case["dxy"]), abs=1e-8)
    assert index_price(dict(zip(SYMBOLS, rates, strict=True))) == pytest.approx(float(case["dxy"]), abs=1e-8)


def test_golden_values_through_the_tables(any_conn: psycopg.Connection) -> None:
    inside = [case for case in GOLDEN if 50 <= float(case["dxy"]) <= 200]
    for i, case in enumerate(inside):
        put_six(any_conn, T0 + i * MINUTE, rates={s: float(case[s]) for s in SYMBOLS})
    assert derive(any_conn, T0, T0 + HOUR)["inserted"] == len(inside) >= 6
    assert list(dxy_minutes(any_conn).values()) == [pytest.approx(float(c["dxy"]), abs=1e-8) for c in inside]


def test_one_place_of_weights(conn: psycopg.Connection) -> None:
    """SQL function, registry row and Python say the same weights: each exponent is read back from the function."""
    metadata = scalar(conn, "SELECT metadata FROM core_asset_registry_all WHERE canonical_symbol = 'DXY'")
    assert metadata["component_weights"] == WEIGHTS
    assert metadata["components"] == list(SYMBOLS) == [c.symbol for c in COMPONENTS]
    for position, component in enumerate(COMPONENTS):
        rates = [1.0] * 6
        rates[position] = 2.0
        exponent = scalar(
            conn, "SELECT ln(dxy.index_price(%s, %s, %s, %s, %s, %s) / %s::float8) / ln(2::float8)", *rates, BASE
        )
        assert exponent == pytest.approx(component.weight, abs=1e-12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(*(st.floats(0.2, 5.0) for _ in SYMBOLS)))
def test_sql_and_python_agree_for_any_rates(conn: psycopg.Connection, factors: tuple[float, ...]) -> None:
    rates = {s: RATES[s] * f for s, f in zip(SYMBOLS, factors, strict=True)}
    price = scalar(conn, "SELECT round(dxy.index_price(%s, %s, %s, %s, %s, %s)::numeric, 8)::float8", *rates.values())
    # one unit of the last place: SQL rounds halves up from 15 digits, Python to even from all of them
    assert price == pytest.approx(index_price(rates), abs=1.01e-8)


def test_a_bar_as_the_seed_says(any_conn: psycopg.Connection) -> None:
    put_six(any_conn, T0)
    envelope = derive(any_conn, T0, T0 + MINUTE)
    assert {k: envelope[k] for k in ("success", "inserted", "updated", "deleted", "skipped_incomplete")} == {
        "success": True,
        "inserted": 1,
        "updated": 0,
        "deleted": 0,
        "skipped_incomplete": 0,
    }
    assert envelope["derivation_version"] == 1
    assert [datetime.fromisoformat(envelope["timestamp_range"][k]) for k in ("from", "to")] == [T0, T0 + MINUTE]
    row = any_conn.execute(
        "SELECT ts_utc, open::float8, high::float8, low::float8, close::float8, vol, vwap, trade_count, is_partial,"
        " source, raw FROM data_bars WHERE canonical_symbol = 'DXY'"
    ).fetchone()
    raw = {"kind": "dxy", "derivation_version": 1, "components": list(SYMBOLS), "formula_base": BASE}
    assert row == (T0, PRICE, PRICE, PRICE, PRICE, 0, None, 0, False, "synthetic", raw)


@pytest.mark.parametrize("spoilt", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_all_six_or_nothing(any_conn: psycopg.Connection, spoilt: float | None) -> None:
    put_six(any_conn, T0, 3)
    if spoilt == float("inf"):
        any_conn.execute(
            "ALTER TABLE data_bars ALTER open TYPE float8, ALTER high TYPE float8, ALTER low TYPE float8,"
            " ALTER close TYPE float8"
        )
    put(any_conn, [("USDSEK", T0 + MINUTE, spoilt)])
    envelope = derive(any_conn, T0, T0 + HOUR)
    assert (envelope["inserted"], envelope["skipped_incomplete"]) == (2, 1)
    assert list(dxy_minutes(any_conn)) == [T0, T0 + 2 * MINUTE]


def test_no_carry_forward_when_a_pair_is_absent(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 3)
    remove(conn, "USDSEK", T0 + MINUTE)
    assert derive(conn, T0, T0 + HOUR)["skipped_incomplete"] == 1
    assert list(dxy_minutes(conn)) == [T0, T0 + 2 * MINUTE]


def test_half_open_range(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 5)
    assert derive(conn, T0 + MINUTE, T0 + 3 * MINUTE)["inserted"] == 2
    assert list(dxy_minutes(conn)) == [T0 + MINUTE, T0 + 2 * MINUTE]


def test_seconds_in_a_foreign_timestamp_make_no_bar(any_conn: psycopg.Connection) -> None:
    """A worker that stores 08:00:30 must not get an index bar there: it would count twice in every roll-up."""
    put_six(any_conn, T0)
    put_six(any_conn, T0 + timedelta(seconds=30))
    assert derive(any_conn, T0, T0 + HOUR)["inserted"] == 1
    assert list(dxy_minutes(any_conn)) == [T0]


@pytest.mark.parametrize("change", ["delete", "null", "negative"])
def test_a_minute_that_loses_an_input_loses_its_bar(conn: psycopg.Connection, change: str) -> None:
    put_six(conn, T0, 3)
    derive(conn, T0, T0 + HOUR)
    if change == "delete":
        remove(conn, "GBPUSD", T0 + MINUTE)
    else:
        put(conn, [("GBPUSD", T0 + MINUTE, None if change == "null" else -1.0)])
    envelope = derive(conn, T0, T0 + HOUR)
    assert (envelope["inserted"], envelope["updated"], envelope["deleted"]) == (0, 0, 1)
    assert list(dxy_minutes(conn)) == [T0, T0 + 2 * MINUTE]


def test_a_minute_that_loses_all_inputs_loses_its_bar(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 2)
    derive(conn, T0, T0 + HOUR)
    conn.execute("DELETE FROM data_bars WHERE canonical_symbol <> 'DXY' AND ts_utc = %s", (T0,))
    assert derive(conn, T0, T0 + HOUR)["deleted"] == 1
    assert list(dxy_minutes(conn)) == [T0 + MINUTE]


def test_a_correction_changes_exactly_its_minute(any_conn: psycopg.Connection) -> None:
    put_six(any_conn, T0, 30)
    derive(any_conn, T0, T0 + HOUR)
    before = dict(
        any_conn.execute("SELECT ts_utc, xmin::text FROM data_bars WHERE canonical_symbol = 'DXY'").fetchall()
    )
    put(any_conn, [("EURUSD", T0 + 7 * MINUTE, 1.09)])
    envelope = derive(any_conn, T0, T0 + HOUR)
    assert (envelope["inserted"], envelope["updated"], envelope["deleted"]) == (0, 1, 0)
    after = dict(any_conn.execute("SELECT ts_utc, xmin::text FROM data_bars WHERE canonical_symbol = 'DXY'").fetchall())
    assert [ts for ts in before if before[ts] != after[ts]] == [T0 + 7 * MINUTE]
    assert dxy_minutes(any_conn)[T0 + 7 * MINUTE] == pytest.approx(index_price({**RATES, "EURUSD": 1.09}), abs=1e-8)


def test_a_foreign_value_in_a_dxy_row_is_mended(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 2)
    derive(conn, T0, T0 + HOUR)
    clean = table_hash(conn)
    conn.execute(
        "UPDATE data_bars SET high = high + 1, vol = 5, source = 'ingest' WHERE canonical_symbol = 'DXY'"
        " AND ts_utc = %s",
        (T0,),
    )
    assert derive(conn, T0, T0 + HOUR)["updated"] == 1
    assert table_hash(conn) == clean


def test_other_symbols_and_timeframes_stay_as_they_are(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 3)
    put(conn, [("XAUUSD", T0 + i * MINUTE, 2300.0) for i in range(3)])
    conn.execute(
        "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, close, source, ingested_at, is_partial)"
        " VALUES ('DXY', '5m', %s, 1, 'ingest', now(), false)",
        (T0,),
    )
    others = (
        "SELECT md5(string_agg(d::text || d.xmin || d.ctid, '' ORDER BY d::text)) FROM data_bars AS d WHERE NOT"
        " (canonical_symbol = 'DXY' AND timeframe = '1m')"
    )
    before = scalar(conn, others)
    derive(conn, T0, T0 + HOUR)
    put(conn, [("USDJPY", T0, 150.0)])
    before_second = scalar(conn, others)
    derive(conn, T0, T0 + HOUR)
    assert before != before_second  # the correction itself
    assert scalar(conn, others) == before_second


@pytest.mark.parametrize(
    ("start", "end", "version", "words"),
    [
        (T0 + HOUR, T0, 1, "Invalid timestamp range: from"),
        (T0, T0, 1, "Invalid timestamp range"),
        (None, T0, 1, "must both be given"),
        ("-infinity", T0, 1, "must be finite"),
        (T0, "infinity", 1, "must be finite"),
        (T0, T0 + timedelta(days=1501), 1, "longer than 1500 days"),
        (T0, T0 + HOUR, 0, "Invalid derivation version: 0"),
        (T0, T0 + HOUR, None, "Invalid derivation version"),
    ],
)
def test_bad_arguments_get_the_envelope(
    conn: psycopg.Connection, start: object, end: object, version: int | None, words: str
) -> None:
    put_six(conn, T0)
    envelope = scalar(
        conn, "SELECT public.calc_dxy_range_1m(%s::timestamptz, %s::timestamptz, %s::int)", start, end, version
    )
    assert words in envelope.pop("error")
    assert envelope == {"success": False, "inserted": 0, "updated": 0, "deleted": 0, "skipped_incomplete": 0}
    assert dxy_minutes(conn) == {}


def test_hard_limits_refuse_the_whole_call(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 5)
    put(conn, [("EURUSD", T0 + 2 * MINUTE, 0.01)])
    envelope = derive(conn, T0, T0 + HOUR)
    assert envelope["success"] is False
    assert "hard limits 50 to 200" in envelope["error"]
    assert "2024-06-12T08:02Z" in envelope["error"]
    assert dxy_minutes(conn) == {}


def test_hard_limits_hold_when_their_setting_is_lost(conn: psycopg.Connection) -> None:
    conn.execute("DELETE FROM dxy.setting WHERE key = 'hard_limits'")
    put_six(conn, T0, rates={**RATES, "EURUSD": 0.01})
    assert "hard limits 50 to 200" in derive(conn, T0, T0 + HOUR)["error"]


def test_count_match_is_a_post_condition(any_conn: psycopg.Connection) -> None:
    """A desk's trigger that swallows a row must not go unnoticed."""
    any_conn.execute("CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    any_conn.execute(
        "CREATE TRIGGER swallow BEFORE INSERT ON data_bars FOR EACH ROW WHEN (new.canonical_symbol = 'DXY'"
        f" AND new.ts_utc = '{T0.isoformat()}') EXECUTE FUNCTION swallow()"
    )
    put_six(any_conn, T0, 3)
    assert "count-match failed: 2 of 3 rows inserted" in derive(any_conn, T0, T0 + HOUR)["error"]
    assert dxy_minutes(any_conn) == {}


MEDDLE = """CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF new.canonical_symbol = 'DXY' THEN {} END IF; RETURN new; END $$"""


@pytest.mark.parametrize(
    "change",
    [
        "new.ts_utc := new.ts_utc + interval '1 hour';",
        "new.close := new.close + 1;",
        "new.high := new.high + 0.00000001;",
        "new.open := NULL;",
        "new.close := NULL;",
        # two rows change places: count, sums and the set of prices stay as they are
        "new.ts_utc := CASE new.ts_utc WHEN '2024-06-12 08:00Z' THEN '2024-06-12 08:01Z'"
        " WHEN '2024-06-12 08:01Z' THEN '2024-06-12 08:00Z' ELSE new.ts_utc END;",
    ],
)
@pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
def test_count_match_compares_keys_and_prices(any_conn: psycopg.Connection, change: str, event: str) -> None:
    """A desk's trigger that changes what we write: success must not be said of rows that nobody meant."""
    put_six(any_conn, T0, 3, step=1e-4)
    if event == "UPDATE":
        if "CASE" in change:
            return  # two rows cannot change places in an UPDATE: the key's index refuses it
        derive(any_conn, T0, T0 + HOUR)
        put_six(any_conn, T0, 3, step=2e-4, rates={**RATES, "EURUSD": 1.09})
    before = dxy_minutes(any_conn)
    any_conn.execute(MEDDLE.format(change))  # type: ignore[arg-type]
    any_conn.execute(
        f"CREATE TRIGGER meddle BEFORE {event} ON data_bars FOR EACH ROW EXECUTE FUNCTION meddle()"  # type: ignore[arg-type]
    )
    envelope = derive(any_conn, T0, T0 + HOUR)
    assert envelope["success"] is False, envelope
    assert "count-match failed: rows of data_bars are not as they were meant" in envelope["error"]
    assert "2024-06-12T08:00Z is " in envelope["error"]
    assert dxy_minutes(any_conn) == before


def test_as_an_rpc_with_iso_strings(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 2)
    arguments = {"p_from_utc": "2024-06-12T08:00:00+00:00", "p_to_utc": "2024-06-12T10:00:00+02:00"}
    assert scalar(conn, "SELECT calc_dxy_range_1m(p_from_utc => %s, p_to_utc => %s)", *arguments.values()) == {
        "success": False, "inserted": 0, "updated": 0, "deleted": 0, "skipped_incomplete": 0,
        "error": "Invalid timestamp range: from (2024-06-12 08:00:00+00) >= to (2024-06-12 08:00:00+00)",
    }  # fmt: skip
    envelope = scalar(conn, "SELECT calc_dxy_range_1m('2024-06-12T08:00:00Z', '2024-06-12T11:00:00+02:00')")
    assert envelope["inserted"] == 2


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "Pacific/Kiritimati"])
@pytest.mark.parametrize("day", [datetime(2024, 3, 10, tzinfo=UTC), datetime(2024, 11, 3, tzinfo=UTC)])
def test_any_session_time_zone_over_both_dst_changes(conn: psycopg.Connection, zone: str, day: datetime) -> None:
    """The hour New York skips in spring and lives twice in autumn has its 60 minutes in UTC like any other."""
    start = day + timedelta(hours=4)
    put_six(conn, start, 240, step=1e-5)
    derive(conn, start, start + 4 * HOUR)
    expected = dxy_minutes(conn)
    assert len(expected) == 240
    conn.execute("DELETE FROM data_bars WHERE canonical_symbol = 'DXY'")
    conn.execute("SELECT set_config('TimeZone', %s, false)", (zone,))
    assert derive(conn, start, start + 4 * HOUR)["inserted"] == 240
    assert dxy_minutes(conn) == expected
    logged = conn.execute("SELECT DISTINCT day FROM dxy.touched_range ORDER BY day").fetchall()
    assert logged == [(day.date(),)]


def test_a_new_derivation_version_rewrites_and_says_so(conn: psycopg.Connection) -> None:
    put_six(conn, T0, 3)
    derive(conn, T0, T0 + HOUR)
    assert derive(conn, T0, T0 + HOUR, 2)["updated"] == 3
    assert scalar(conn, "SELECT count(*) FROM data_bars WHERE raw ->> 'derivation_version' = '2'") == 3
    assert derive(conn, T0, T0 + HOUR, 2)["updated"] == 0


@pytest.mark.parametrize("column_type", ["numeric(20,8)", "numeric(38,18)", "numeric", "double precision"])
def test_a_re_run_writes_nothing_whatever_the_column_type(any_conn: psycopg.Connection, column_type: str) -> None:
    any_conn.execute(
        "ALTER TABLE data_bars "
        + ", ".join(f"ALTER {c} TYPE {column_type}" for c in ("open", "high", "low", "close", "vol", "vwap"))  # type: ignore[operator]
    )
    put_six(any_conn, T0, 240, step=1.7e-5)
    assert derive(any_conn, T0, T0 + 4 * HOUR)["inserted"] == 240
    before, lsn = row_versions(any_conn), scalar(any_conn, "SELECT pg_current_wal_insert_lsn()::text")
    envelope = derive(any_conn, T0, T0 + 4 * HOUR)
    assert (envelope["inserted"], envelope["updated"], envelope["deleted"]) == (0, 0, 0)
    written = scalar(any_conn, "SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", lsn)
    assert row_versions(any_conn) == before
    assert written < 4096


LEGACY = {"kind": "dxy", "formula": "standard"}
MIGRATED = {"kind": "dxy", "derivation_version": 1, "migrated_from": "derived_data_bars", "legacy": LEGACY}


def migrated_bar(conn: psycopg.Connection, ts: datetime, price: float) -> None:
    conn.execute(
        "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count,"
        " is_partial, source, ingested_at, raw) VALUES ('DXY', '1m', %(ts)s, %(p)s, %(p)s, %(p)s, %(p)s, 0, 0, false,"
        " 'synthetic', now(), %(raw)s)",
        {"ts": ts, "p": price, "raw": json.dumps(MIGRATED)},
    )


def test_a_migrated_bar_without_inputs_is_kept(conn: psycopg.Connection) -> None:
    migrated_bar(conn, T0, 104.5)
    conn.execute("SELECT dxy.note_unverifiable(%s)", ([T0],))
    before = row_versions(conn)
    envelope = derive(conn, T0, T0 + HOUR)
    assert (envelope["inserted"], envelope["updated"], envelope["deleted"]) == (0, 0, 0)
    put(conn, [("EURUSD", T0, 1.08)])  # one input of six is not enough to judge it
    assert derive(conn, T0, T0 + HOUR)["deleted"] == 0
    assert set(before) <= set(row_versions(conn))


def test_a_migrated_bar_within_1e8_is_left_alone(conn: psycopg.Connection) -> None:
    put_six(conn, T0)
    migrated_bar(conn, T0, PRICE + 1e-8)
    assert derive(conn, T0, T0 + HOUR)["updated"] == 0


def test_a_migrated_bar_whose_fx_is_corrected_is_rederived_and_remembered(any_conn: psycopg.Connection) -> None:
    put_six(any_conn, T0)
    migrated_bar(any_conn, T0, PRICE)
    put(any_conn, [("EURUSD", T0, 1.09)])
    assert derive(any_conn, T0, T0 + HOUR)["updated"] == 1
    assert dxy_minutes(any_conn)[T0] == pytest.approx(index_price({**RATES, "EURUSD": 1.09}), abs=1e-8)
    old, new = any_conn.execute("SELECT old, new FROM dxy.bar_revision").fetchone() or ({}, {})
    assert (old["raw"], old["close"]) == (MIGRATED, PRICE)
    assert new["close"] == pytest.approx(dxy_minutes(any_conn)[T0])
    # and what was known before stays with the bar itself
    raw = scalar(any_conn, "SELECT raw FROM data_bars WHERE canonical_symbol = 'DXY'")
    assert raw["legacy"] == LEGACY
    before = row_versions(any_conn)
    assert derive(any_conn, T0, T0 + HOUR)["updated"] == 0
    assert row_versions(any_conn) == before
    remove(any_conn, "EURUSD", T0)  # now the inputs are known to have been there
    assert derive(any_conn, T0, T0 + HOUR)["deleted"] == 1


def test_what_a_caller_should_retry_is_raised(any_db: str, any_conn: psycopg.Connection) -> None:
    put_six(any_conn, T0)
    with psycopg.connect(any_db) as other:
        other.execute("SELECT dxy.lock_days(%s, %s)", (T0, T0 + MINUTE))
        any_conn.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            derive(any_conn, T0, T0 + MINUTE)
        any_conn.execute("SET lock_timeout = 0")
        any_conn.execute("SET statement_timeout = '50ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            derive(any_conn, T0, T0 + MINUTE)
    any_conn.execute("SET statement_timeout = 0")
    assert derive(any_conn, T0, T0 + MINUTE)["inserted"] == 1


def test_a_foreign_insert_of_the_same_minute_is_a_retryable_error(any_db: str, any_conn: psycopg.Connection) -> None:
    """A foreign writer takes no day lock: the loser gets 40001, never a half-written range."""
    put_six(any_conn, T0, 3)
    with psycopg.connect(any_db) as foreign, ThreadPoolExecutor(1) as threads:
        migrated_bar(foreign, T0 + MINUTE, 104.0)
        running = threads.submit(derive, any_conn, T0, T0 + HOUR)
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        with psycopg.connect(any_db, autocommit=True) as watch:
            while not scalar(watch, waiting) and not running.done():
                pass
        foreign.commit()
        with pytest.raises(psycopg.errors.SerializationFailure, match="call again"):
            running.result()
    assert list(dxy_minutes(any_conn)) == [T0 + MINUTE]
    assert derive(any_conn, T0, T0 + HOUR)["success"] is True
    assert list(dxy_minutes(any_conn)) == [T0, T0 + MINUTE, T0 + 2 * MINUTE]


def test_two_derivations_of_one_day_take_turns(db: str, conn: psycopg.Connection) -> None:
    put_six(conn, T0, 200)

    def run() -> dict[str, object]:
        with psycopg.connect(db, autocommit=True) as own:
            return derive(own, T0, T0 + 4 * HOUR)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: run(), range(4)))
    assert sorted(answer["inserted"] for answer in answers) == [0, 0, 0, 200]  # type: ignore[type-var]
    assert all(answer["success"] for answer in answers)
