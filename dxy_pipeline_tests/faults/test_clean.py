"""A clean fortnight fires nothing: week-ends, a change of clocks, Christmas and New Year, looked at from many instants.

The feed has its usual gaps, a thin USDSEK and a thin roll-over. The instants: every six hours, and around each opening
and closing of the market every minute that a careless check would get wrong; at every eighth the whole history too.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from dxy_pipeline.checks import history
from dxy_pipeline.checks.engine import run_checks
from dxy_pipeline.checks.watch import look
from dxy_pipeline.core import fx_week
from dxy_pipeline_tests.faults.conftest import alive, conceal, fill, reveal
from dxy_pipeline_tests.pg_server import Cluster

FORTNIGHT = timedelta(days=14)
PERIODS = {
    "change of clocks in New York": datetime(2025, 3, 3, tzinfo=UTC),
    "change of clocks back": datetime(2024, 10, 28, tzinfo=UTC),
    "Christmas and New Year": datetime(2024, 12, 20, tzinfo=UTC),
}


def instants(start: datetime, end: datetime) -> Iterator[datetime]:
    """The moments to look at, ascending."""
    turns = [turn for session in fx_week.sessions(start, end) for turn in session if start < turn < end]
    around = [turn + timedelta(minutes=m, seconds=20) for turn in turns for m in (-1, 0, 1, 2, 5, 6, 12, 40, 70)]
    steady = [start + timedelta(hours=6 * n, minutes=7 * n % 60, seconds=20) for n in range(1, 56)]
    return (at for at in sorted([*around, *steady]) if start + timedelta(hours=1) < at < end)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PERIODS)
def test_a_clean_fortnight_fires_nothing(server: Cluster, new_database, name: str) -> None:
    start = PERIODS[name]
    with psycopg.connect(new_database(server), autocommit=True, options="-c TimeZone=UTC") as conn:
        fill(conn, start, start + FORTNIGHT)
        conceal(conn, start)
        conn.execute("VACUUM ANALYZE")
        conn.execute("UPDATE dxy.heartbeat SET beat_at = %s", (start,))
        conn.execute("UPDATE dxy.feed_progress SET fetched_until = %s", (start,))
        failed: list[str] = []
        shut = looked = whole = 0
        for at in instants(start, start + FORTNIGHT):
            alive(conn, at)
            reveal(conn, at)
            if looked % 8 == 0:
                results = run_checks(conn, at, rhythm="daily")
                history.record(conn, results, at)
                failed += [f"{at:%m-%d %H:%M} daily {r.key}: {r.description}" for r in results if not r.passed]
                whole += 1
            found = look(conn, conn, at).results
            looked += 1
            shut += not found[0].market_open
            failed += [f"{at:%m-%d %H:%M} {r.key}: {r.description}" for r in found if not r.passed]
        assert failed == []
        assert looked > 80
        assert shut > 15
        assert whole > 10
        assert conn.execute("SELECT count(*) FROM dxy.incident").fetchone() == (0,)
