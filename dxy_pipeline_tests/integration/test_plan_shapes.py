"""Plans hold without statistics: a freshly loaded table, a re-run, a live window on a big table.

The plans are those that really ran, as auto_explain reports them; nothing is timed.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from dxy_pipeline_tests.benchmarks.market import statement

START, END = "2024-05-01T00:00:00Z", "2024-05-29T00:00:00Z"
WHOLE = (START, END)
LIVE = ("2024-05-28T10:00:00Z", "2024-05-28T12:00:00Z")
NOW = "2024-06-01T00:00:00Z"
DERIVE = "SELECT public.calc_dxy_range_1m(%s, %s)"
ROLL_UP = "SELECT public.calc_dxy_rollup_range('5m', %s, %s, 1, '2024-06-01T00:00:00Z')"
TOGETHER = 5  # processes that may share one pass over a table

Node = dict[str, Any]
Plans = Callable[[str, tuple[str, str]], list[Node]]


@pytest.fixture
def fresh(any_conn: psycopg.Connection) -> psycopg.Connection:
    """Four weeks of FX minutes and as much of another symbol in `derived_data_bars`; nobody has ever analyzed them."""
    for table in ("data_bars", "derived_data_bars"):
        any_conn.execute(f"ALTER TABLE public.{table} SET (autovacuum_enabled = off)")
    any_conn.execute(statement("year"), {"start": START, "end": END})
    any_conn.execute(
        "INSERT INTO derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close)"
        " SELECT 'XAUUSD', '5m', t, 1, 1, 1, 1 FROM generate_series(%s::timestamptz, %s, '30 seconds') AS t",
        (START, END),
    )
    return any_conn


@pytest.fixture
def plans(fresh: psycopg.Connection) -> Plans:
    """Return the nodes of every plan that a call ran, also inside functions."""
    said: list[str] = []
    fresh.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    fresh.execute("LOAD 'auto_explain'")
    for name, value in {
        "log_min_duration": "0",
        "log_analyze": "on",
        "log_timing": "off",
        "log_nested_statements": "on",
        "log_format": "json",
        "log_level": "notice",
    }.items():
        fresh.execute("SELECT set_config('auto_explain.' || %s, %s, false)", (name, value))

    def run(call: str, values: tuple[str, str]) -> list[Node]:
        said.clear()
        row = fresh.execute(call, values).fetchone()
        assert row is not None
        assert row[0]["success"], row
        texts = [text.partition("plan:")[2] for text in said if "plan:" in text]
        return [node for text in texts for node in nodes(json.loads(text)["Plan"])]

    return run


def nodes(plan: Node) -> Iterator[Node]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def of(found: list[Node], *tables: str) -> list[Node]:
    chosen = [node for node in found if node.get("Relation Name") in tables and node.get("Operation") is None]
    assert chosen, "no plan reads the table: the test looks at the wrong statements"
    return chosen


def test_first_run_and_re_run_read_each_table_once_without_statistics(fresh: psycopg.Connection, plans: Plans) -> None:
    """Without them a re-run once fell into a nested loop: a pass over the bars for every minute."""
    for call in (DERIVE, DERIVE, ROLL_UP, ROLL_UP):
        repeated = [n for n in of(plans(call, WHOLE), "data_bars") if n["Actual Loops"] > TOGETHER]
        assert not repeated, repeated
    for call in (DERIVE, ROLL_UP):
        assert all(node["Actual Loops"] <= TOGETHER for node in plans(call, WHOLE)), "a loop in a re-run"
    analyzed = fresh.execute(
        "SELECT count(*) FROM pg_stats WHERE schemaname = 'public' AND tablename IN ('data_bars', 'derived_data_bars')"
    ).fetchone()
    assert analyzed == (0,)


def test_the_pivot_hashes_and_nothing_big_is_sorted(plans: Plans) -> None:
    found = plans(DERIVE, WHOLE)
    pivots = [n for n in found if n["Node Type"] == "Aggregate" and n.get("Group Key") == ["d.ts_utc"]]
    assert pivots
    assert {node["Strategy"] for node in pivots} == {"Hashed"}
    sorted_pairs = [n for n in found if n["Node Type"] == "Sort" and n["Actual Rows"] > 40_000]
    assert not sorted_pairs, "four weeks are 28,800 minutes: more rows than that are the pairs' bars"


@pytest.mark.parametrize("analyze", [False, True], ids=["no statistics", "statistics"])
def test_a_live_window_never_reads_a_whole_table(fresh: psycopg.Connection, plans: Plans, analyze: bool) -> None:
    """Also when it has something to write: a minute that came, an hour that changed, a bar soft-deleted elsewhere."""
    for call in (DERIVE, ROLL_UP):
        plans(call, WHOLE)
    if analyze:
        fresh.execute("ANALYZE public.data_bars, public.derived_data_bars")
    fresh.execute(
        "UPDATE data_bars SET close = close * 1.01 WHERE ts_utc = %s AND canonical_symbol = 'EURUSD'", LIVE[:1]
    )
    fresh.execute("DELETE FROM data_bars WHERE ts_utc = '2024-05-28T11:00:00Z' AND canonical_symbol = 'DXY'")
    fresh.execute("DELETE FROM derived_data_bars WHERE ts_utc = '2024-05-28T11:30:00Z'")
    for call in (DERIVE, ROLL_UP):
        found = of(plans(call, LIVE), "data_bars", "derived_data_bars")
        whole = [(n["Relation Name"], n.get("Filter")) for n in found if n["Node Type"] == "Seq Scan"]
        assert not whole, whole


def test_dead_roll_ups_without_statistics_are_sought_once(fresh: psycopg.Connection, plans: Plans) -> None:
    """A bar for every bucket is soft-deleted and comes back: one look for dead rows, not one for every bucket."""
    for call in (DERIVE, ROLL_UP):
        plans(call, WHOLE)
    fresh.execute("CREATE TABLE kept AS SELECT * FROM data_bars WHERE canonical_symbol = 'EURUSD'")
    fresh.execute("DELETE FROM data_bars WHERE canonical_symbol = 'EURUSD'")
    for call in (DERIVE, ROLL_UP):
        plans(call, WHOLE)
    assert fresh.execute(
        "SELECT count(*) FROM derived_data_bars WHERE canonical_symbol = 'DXY' AND deleted_at IS NULL"
    ).fetchone() == (0,)
    fresh.execute("INSERT INTO data_bars SELECT * FROM kept")
    plans(DERIVE, WHOLE)
    found = [n for n in of(plans(ROLL_UP, WHOLE), "derived_data_bars") if n["Node Type"] != "Tid Scan"]
    looked = [(node["Node Type"], node.get("Filter")) for node in found if node["Actual Loops"] > TOGETHER]
    assert not looked, looked
    assert fresh.execute(
        "SELECT count(*) > 5000 FROM derived_data_bars WHERE canonical_symbol = 'DXY' AND deleted_at IS NULL"
    ).fetchone() == (True,)
