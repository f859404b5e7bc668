"""The schema contract: what is remembered at an upgrade, and that a second upgrade makes a change by hand good again."""

import psycopg
import pytest

from dxy_pipeline.checks.engine import run_checks
from dxy_pipeline.db import schema
from dxy_pipeline_tests.conftest import NOW


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
        ("ALTER TABLE dxy.heartbeat DROP CONSTRAINT heartbeat_pkey", {("index", "missing")}),
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


def test_an_upgrade_remembers_what_it_deploys(conn: psycopg.Connection) -> None:
    conn.execute("ALTER TABLE public.data_bars ALTER COLUMN vol TYPE numeric(30, 8)")
    assert faults(conn)
    schema.upgrade(conn)
    assert faults(conn) == set()
