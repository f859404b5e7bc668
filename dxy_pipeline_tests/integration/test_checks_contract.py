"""The schema contract: what is remembered at an upgrade, and that a second upgrade makes a change by hand good again."""

import psycopg
import pytest

from dxy_pipeline.checks.engine import run_checks
from dxy_pipeline.db import schema
from dxy_pipeline.errors import UserError
from dxy_pipeline_tests.conftest import NOW
from dxy_pipeline_tests.shapes import build_shape_p

# PostgreSQL 18 keeps a key's NOT NULL when the key is dropped; the tests with `conn` run there
KEPT_BY_18 = {("not-null", "missing")}


def faults(conn: psycopg.Connection) -> set[tuple[str, str]]:
    (result,) = run_checks(conn, NOW, only=["schema_contract"], sample=50)
    assert result.evaluated, result.description
    return {(row["kind"], row["fault"]) for row in result.rows}


def test_a_fresh_database_keeps_its_contract(any_conn: psycopg.Connection) -> None:
    assert faults(any_conn) == set()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("ALTER TABLE public.data_bars ALTER COLUMN vol TYPE numeric(30, 8)", {("column", "changed by hand")}),
        ("ALTER TABLE public.data_bars DROP COLUMN vwap CASCADE", {("column", "missing")}),
        ("DROP FUNCTION dxy.open_minutes(timestamptz, timestamptz)", {("routine", "missing")}),
        ("ALTER FUNCTION dxy.index_price(float8, float8, float8, float8, float8, float8) COST 5",
         {("routine", "changed by hand")}),
        ("DROP TRIGGER dxy_touch_delete ON public.data_bars", {("trigger", "missing")}),
        ("ALTER TABLE dxy.fx_session DROP CONSTRAINT fx_session_check", {("constraint", "missing")}),
        ("ALTER TABLE dxy.heartbeat DROP CONSTRAINT heartbeat_pkey",
         {("constraint", "missing"), ("not-null", "missing")} - KEPT_BY_18),
        ("DROP INDEX dxy.incident_open_idx", {("index", "missing")}),
        ("DROP TRIGGER append_only ON dxy.migration_audit", {("trigger", "missing")}),
        ("ALTER TABLE public.data_bars DROP CONSTRAINT data_bars_source_check", {("constraint", "missing")}),
        ("ALTER TABLE public.data_bars ALTER COLUMN is_partial DROP NOT NULL", {("not-null", "missing")}),
        ("ALTER TABLE public.data_bars ALTER COLUMN created_at DROP DEFAULT", {("default", "missing")}),
        ("GRANT ALL ON public.data_bars TO PUBLIC", {("grants", "changed by hand")}),
        ("GRANT ALL ON dxy.migration_control TO PUBLIC", {("grants", "changed by hand")}),
        ("GRANT DELETE ON dxy.migration_audit TO dxy_writer", {("grants", "changed by hand")}),
        ("GRANT EXECUTE ON FUNCTION public.calc_dxy_range_1m(timestamptz, timestamptz, integer) TO PUBLIC",
         {("grants", "changed by hand")}),
        ("ALTER TABLE public.data_bars ENABLE ROW LEVEL SECURITY", {("row-security", "changed by hand")}),
        ("ALTER TABLE dxy.incident ENABLE ROW LEVEL SECURITY", {("row-security", "changed by hand")}),
        ("ALTER FUNCTION public.calc_dxy_range_1m(timestamptz, timestamptz, integer) OWNER TO dxy_reader",
         {("owner", "changed by hand"), ("grants", "changed by hand")}),
    ],
)  # fmt: skip
def test_a_change_by_hand_is_named(conn: psycopg.Connection, change: str, found: set[tuple[str, str]]) -> None:
    conn.execute(change)
    # without open_minutes the figures cannot be had either; the contract is still judged
    assert faults(conn) == found


def test_what_a_desk_adds_is_not_part_of_it(conn: psycopg.Connection) -> None:
    conn.execute("ALTER TABLE public.data_bars ADD COLUMN note text")
    conn.execute("CREATE INDEX ON public.data_bars (ts_utc)")
    conn.execute("ALTER TABLE public.derived_data_bars ADD CHECK (close > 0)")
    assert faults(conn) == set()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE dxy.fx_session DROP CONSTRAINT fx_session_check",
        "ALTER TABLE dxy.heartbeat DROP CONSTRAINT heartbeat_pkey",
        "ALTER TABLE dxy.incident DROP CONSTRAINT incident_pkey CASCADE",
        "DROP INDEX dxy.incident_open_idx",
        "DROP TRIGGER append_only ON dxy.migration_audit",
        "ALTER TABLE public.data_bars DISABLE TRIGGER dxy_touch_update",
        "ALTER TABLE public.data_bars DROP CONSTRAINT data_bars_source_check",
        "ALTER TABLE public.data_bars ALTER COLUMN is_partial DROP NOT NULL",
        "ALTER TABLE public.data_bars ALTER COLUMN created_at DROP DEFAULT",
        "GRANT ALL ON public.data_bars, dxy.migration_control TO PUBLIC",
        "GRANT DELETE ON dxy.migration_audit TO dxy_writer",
        "ALTER FUNCTION public.calc_dxy_range_1m(timestamptz, timestamptz, integer) OWNER TO dxy_reader",
        "ALTER FUNCTION dxy.index_price(float8, float8, float8, float8, float8, float8) COST 5",
        "DROP FUNCTION dxy.open_minutes(timestamptz, timestamptz)",
    ],
)
def test_an_upgrade_restores_what_is_ours(any_conn: psycopg.Connection, change: str) -> None:
    conn = any_conn
    before = definitions(conn)
    conn.execute(change)
    assert faults(conn)
    assert schema.plan(conn).steps or "OWNER" in change
    schema.upgrade(conn)
    assert faults(conn) == set()
    assert definitions(conn) == before
    assert schema.plan(conn).steps == []


def definitions(conn: psycopg.Connection) -> dict[str, str]:
    """What is remembered as deployed: damage must never get in there."""
    return dict(conn.execute("SELECT d.object, d.definition FROM dxy.deployed_object AS d").fetchall())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE public.data_bars ALTER COLUMN vol TYPE numeric(30, 8)",
         "ALTER TABLE public.data_bars ALTER COLUMN vol TYPE numeric[(]28,8[)]"),
        ("ALTER TABLE dxy.heartbeat DROP COLUMN detail", "restore dxy.heartbeat.detail from a backup"),
        ("DROP TABLE dxy.heartbeat", "restore dxy.heartbeat.beat_at from a backup"),
    ],
)  # fmt: skip
def test_what_cannot_be_restored_is_refused_with_what_to_do(conn: psycopg.Connection, change: str, words: str) -> None:
    before = definitions(conn)
    conn.execute(change)
    with pytest.raises(UserError, match=words):
        schema.upgrade(conn)
    assert definitions(conn) == before
    assert faults(conn)


def test_rows_that_break_a_dropped_check_stop_the_upgrade(conn: psycopg.Connection) -> None:
    conn.execute("ALTER TABLE dxy.fx_session DROP CONSTRAINT fx_session_check")
    conn.execute("INSERT INTO dxy.fx_session (opens_at, closes_at) VALUES ('2199-01-01', '2198-01-01')")
    with pytest.raises(UserError, match="could not be restored"):
        schema.upgrade(conn)
    assert faults(conn)


def test_what_a_desk_changes_on_its_own_table_is_said_and_accepted(empty_db: str) -> None:
    with psycopg.connect(empty_db, autocommit=True) as conn:
        build_shape_p(conn)
        schema.upgrade(conn)
        assert faults(conn) == set()
        conn.execute("ALTER TABLE public.data_bars DROP CONSTRAINT ticker_of_massive, ENABLE ROW LEVEL SECURITY")
        assert faults(conn) == {("constraint", "missing"), ("row-security", "changed by hand")}
        assert any("accept as it is: constraint ticker_of_massive" in title for title, _ in schema.plan(conn).steps)
        said: list[str] = []
        schema.upgrade(conn, said.append)
        assert any("ticker_of_massive" in line for line in said)
        assert faults(conn) == set()
