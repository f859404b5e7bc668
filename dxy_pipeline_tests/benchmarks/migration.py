"""The migration at scale: five million legacy rows, copied and verified, against one INSERT … SELECT of the same rows.

`run(server)` returns the figures as mappings; `measure(server)` as the benchmark's own. The worker that copies is a
process of its own, so that its memory is its own too.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from dxy_pipeline.db import schema
from dxy_pipeline.db.embedded import EmbeddedServer
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline_tests.benchmarks.figures import Figure
from dxy_pipeline_tests.benchmarks.market import keep_autovacuum_out, settle
from dxy_pipeline_tests.benchmarks.worker import peak_mb

ROWS = 5_000_000
DATABASE = "bench_migration"
_LEGACY = """
INSERT INTO public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count,
    source, source_timeframe, source_candles, expected_candles, quality_score, raw)
SELECT 'DXY', '1m', '2015-01-01 00:00+00'::timestamptz + g * interval '1 minute', p, p, p, p, 0, 0, 'dxy', '1m', 6, 6, 2,
    '{"kind": "dxy", "formula": "standard"}'
FROM generate_series(0, %(rows)s - 1) AS g, LATERAL (SELECT round((100 + 5 * sin(g / 9000.0))::numeric, 8) AS p) AS x
"""
# The seed's own statement (3.1), without its ON CONFLICT: what a plain copy of the same rows costs.
_PLAIN = """
INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count,
    is_partial, source, ingested_at, raw, created_at, updated_at)
SELECT canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial, 'synthetic',
    ingested_at, jsonb_build_object('kind', 'dxy', 'derivation_version', 1, 'migrated_from', 'derived_data_bars',
    'legacy', raw), coalesce(created_at, ingested_at), now()
FROM public.derived_data_bars WHERE canonical_symbol = 'DXY' AND timeframe = '1m' AND deleted_at IS NULL
"""


def run(server: EmbeddedServer, rows: int = ROWS) -> list[dict[str, Any]]:
    """Measure on a running server; each row is {name, value, must, pass}."""
    return [
        {"name": f.name, "value": f.value, "must": f.must, "pass": f.holds} for f in measure(server, rows)
    ]  # fmt: skip


def measure(server: EmbeddedServer, rows: int = ROWS) -> Iterator[Figure]:
    """Yield the three figures."""
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {DATABASE}")
        try:
            yield from _measure(server, rows)
        finally:
            admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


def _measure(server: EmbeddedServer, rows: int) -> Iterator[Figure]:
    url = server.url(DATABASE)
    with psycopg.connect(url, autocommit=True, options="-c TimeZone=UTC") as conn:
        schema.upgrade(conn)
        conn.execute(_LEGACY, {"rows": rows})
        keep_autovacuum_out(conn)
        settle(conn)
        plain = _plain(conn)
        with tempfile.TemporaryDirectory() as files:
            migration = Migration(url, files=Path(files), scratch_url=server.url, actor="bench")
            migration.prepare(options={"health_minutes": 0})
            migration.dual_write(readers_moved=True)
            conn.execute("CHECKPOINT")
            before = _wal(conn)
            copy, megabytes = _worker(url, files, "copy")
            first = _wal(conn) - before
            settle(conn)
            before = _wal(conn)
            migration.backfill(again=True)
            again = _wal(conn) - before
    million = f"{rows / 1e6:g} million legacy rows"
    yield Figure(f"{million}: copy and verification ÷ plain copy", copy / plain, bound=3.0)
    yield Figure(f"{million}: WAL of a second run ÷ first", 100 * again / first, unit="%", bound=1.0)
    yield Figure(f"{million}: peak memory of the worker", megabytes, unit="MB", bound=300.0)


def _plain(conn: psycopg.Connection[Any]) -> float:
    """Seconds of the plain copy; its rows are taken out again."""
    conn.execute("CHECKPOINT")
    began = time.monotonic()
    conn.execute(_PLAIN)
    seconds = time.monotonic() - began
    conn.execute("TRUNCATE public.data_bars")
    return seconds


def _wal(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')").fetchone()
    return int(row[0]) if row else 0


def _worker(url: str, files: str, what: str) -> tuple[float, float]:
    """Copy and verify in another process; returns its seconds and its peak memory in MB."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", __name__, url, files, what], capture_output=True, text=True, check=True, env=os.environ
    )
    seconds, megabytes = done.stdout.split()[-2:]
    return float(seconds), float(megabytes)


def _main() -> None:
    url, files, _ = sys.argv[1:]
    migration = Migration(url, files=Path(files), actor="bench")
    began = time.monotonic()
    migration.backfill()
    found = migration.verify()
    assert found["ok"], found
    print(time.monotonic() - began, peak_mb())


if __name__ == "__main__":
    _main()
