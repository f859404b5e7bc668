"""Runs checks against the stored bars: one read-only snapshot, each check within its own time limit.

A check's SQL returns the violating rows; here they are counted, a sample is kept, and the result is put into words.
Nothing here writes. A check that cannot be evaluated is a failed result that says so; the others go on.
"""

from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from dxy_pipeline.checks.config import CHECKS, ERAS_KEY, THRESHOLDS_KEY, CheckConfig, Rhythm, Severity
from dxy_pipeline.checks.standing import Standing, standing
from dxy_pipeline.checks.thresholds import shown, with_thresholds
from dxy_pipeline.core import fx_week
from dxy_pipeline.core.bars import EPOCH, Timeframe, floor_to
from dxy_pipeline.core.index import DXY, SYMBOLS, WEIGHTS
from dxy_pipeline.sql import load

RECENT = timedelta(hours=48)
_TIME_LIMIT = {Rhythm.MINUTE: "10s", Rhythm.DAILY: "300s"}


@dataclass(frozen=True)
class CheckResult:
    """What a check found. `violations` counts all rows, `rows` is a sample; `metadata` holds figures and thresholds.

    `evaluated` is False when the check itself failed (time limit, no permission): such a result never passes.
    """

    name: str
    asset_key: str
    passed: bool
    severity: Severity
    description: str
    violations: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    market_open: bool = True
    evaluated: bool = True

    @property
    def key(self) -> str:
        """Asset and name in one word."""
        return f"{self.asset_key}.{self.name}"


@dataclass(frozen=True)
class AssetFigures:
    """What one asset holds in the window: bars, the latest, its age in open minutes, the range of closes."""

    asset: str
    bars: int
    latest: datetime | None
    open_minutes_since: int | None
    lowest_close: float | None
    highest_close: float | None


def run_checks(
    conn: psycopg.Connection,
    now: datetime,
    *,
    only: Collection[str] | None = None,
    rhythm: Rhythm | str = Rhythm.MINUTE,
    configs: Sequence[CheckConfig] = CHECKS,
    sample: int = 10,
) -> list[CheckResult]:
    """Evaluate checks at `now` (aware UTC) over the last 48 hours ('minute') or the whole history ('daily').

    `only`: names to run. What the migration does not leave to us passes and says so. The connection is in autocommit
    mode; all checks see one snapshot. Raises psycopg errors only when the connection itself is lost.
    """
    rhythm = Rhythm(rhythm)
    chosen = [c for c in configs if only is None or c.name in only]
    with _snapshot(conn, rhythm):
        chosen = with_thresholds(chosen, _stored_thresholds(conn))
        start = _beginning(conn, now) if rhythm is Rhythm.DAILY else now - RECENT
        known = {asset: _known(conn, asset, start, now) for asset in dict.fromkeys(c.asset for c in chosen)}
        stands = standing(conn)
        return [_evaluate(_Look(conn, start, now, sample, stands), c, known[c.asset]) for c in chosen]


def figures(conn: psycopg.Connection, now: datetime) -> list[AssetFigures]:
    """Return the figures of the four assets over the whole history up to `now`."""
    with _snapshot(conn, Rhythm.DAILY):
        start = _beginning(conn, now)
        return [_figures(conn, asset, start, now) for asset in dict.fromkeys(c.asset for c in CHECKS)]


def _beginning(conn: psycopg.Connection, now: datetime) -> datetime:
    """When the history begins: the hour of the oldest bar since 1970, `now` where there is none."""
    row = conn.execute(load("checks/beginning"), {"symbols": [*SYMBOLS, DXY], "epoch": EPOCH}).fetchone()
    first = row[0] if row and row[0] else now
    return min(floor_to(first, Timeframe.H1), now)


def _known(conn: psycopg.Connection, asset: str, start: datetime, now: datetime) -> AssetFigures:
    """The figures that every result shows; when they cannot be had, the checks themselves say why."""
    try:
        with conn.transaction():
            return _figures(conn, asset, start, now)
    except psycopg.Error:
        if conn.closed:
            raise
        return AssetFigures(asset, 0, None, None, None, None)


def _stored_thresholds(conn: psycopg.Connection) -> dict[str, dict[str, Any]]:
    """Return what `dxy checks set` stored: thresholds by asset.check."""
    row = conn.execute("SELECT s.value FROM dxy.setting AS s WHERE s.key = %s", (THRESHOLDS_KEY,)).fetchone()
    return row[0] if row else {}


@contextmanager
def _snapshot(conn: psycopg.Connection, rhythm: Rhythm) -> Generator[None]:
    """One read-only snapshot, begun as such: behind a pooler the transaction's first statement is not ours."""
    before = conn.isolation_level, conn.read_only
    conn.isolation_level, conn.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
    try:
        with conn.transaction():
            conn.execute("SELECT set_config('statement_timeout', %s, true)", (_TIME_LIMIT[rhythm],))
            # A row-level policy must not blind a check: without row security a forbidden look is an error, not a pass.
            if conn.execute(load("queries/row_security_hides")).fetchone() != (False,):
                conn.execute("SELECT set_config('row_security', 'off', true)")
            # The catalog spells names by the search path: the contract was recorded under this one.
            conn.execute("SELECT set_config('search_path', 'pg_catalog, pg_temp', true)")
            yield
    finally:
        if not conn.closed:
            conn.isolation_level, conn.read_only = before


def _values(asset: str, start: datetime, now: datetime) -> dict[str, Any]:
    timeframe = Timeframe(asset.rsplit("_", 1)[1])
    return {
        "symbols": list(SYMBOLS) if asset == "fx_1m" else ["DXY"],
        "timeframe": timeframe.value,
        "width": timeframe.delta,
        "start": start,
        "end": now,
        "now": now,
        "until": "infinity",
        "components": list(SYMBOLS),
        "weights": [WEIGHTS[s] for s in SYMBOLS],
    }


def _statement(name: str, timeframe: str) -> sql.Composed:
    """A check's SQL with its named parts put in: the asset's bars, the last open minutes, what is under way."""
    bars = "checks/bars_1m" if timeframe == "1m" else "checks/bars_rollup"
    parts = {
        "bars": sql.SQL(load(bars)),
        "last_open_minutes": sql.SQL(load("checks/last_open_minutes")),
        "under_way": sql.SQL(load("checks/under_way")),
        "contract_objects": sql.SQL(load("checks/contract_objects")),
        "malformed": sql.SQL(load("checks/malformed")),
    }
    return sql.SQL(load(f"checks/{name}")).format(**parts)


def _figures(conn: psycopg.Connection, asset: str, start: datetime, now: datetime) -> AssetFigures:
    values = _values(asset, start, now)
    return AssetFigures(asset=asset, **_one_row(conn, "figures", values["timeframe"], values))


def _one_row(conn: psycopg.Connection, name: str, timeframe: str, values: dict[str, Any]) -> dict[str, Any]:
    with conn.cursor(row_factory=dict_row) as cur:
        return cur.execute(_statement(name, timeframe), values).fetchone() or {}


@dataclass(frozen=True)
class _Look:
    """What the checks of one look share."""

    conn: psycopg.Connection
    start: datetime
    now: datetime
    sample: int
    stands: Standing

    def values(self, config: CheckConfig) -> dict[str, Any]:
        """The parameters of a check's SQL."""
        thresholds = {k: Jsonb(v) if k == ERAS_KEY else v for k, v in config.thresholds.items()}
        ours = {"targets": self.stands.targets, "changes_from": self.stands.changes_from(self.now)}
        start = self.stands.start(config, self.start)
        return {**_values(config.asset, start, self.now), **ours, **thresholds, "sample": self.sample}


def _evaluate(look: _Look, config: CheckConfig, known: AssetFigures) -> CheckResult:
    market_open = fx_week.is_open(look.now)
    base: dict[str, Any] = {
        "bars in the window": known.bars,
        "latest bar": known.latest,
        "open minutes since": known.open_minutes_since,
        "window start": look.stands.start(config, look.start),
        "window end": look.now,
        **{f"threshold {k}": shown(v) for k, v in config.thresholds.items()},
    }
    if told := look.stands.not_ours(config) or (_shut(look.now) if config.timed and not market_open else None):
        text = f"{look.now:%Y-%m-%d}: {told}"
        return CheckResult(
            config.name, config.asset, True, config.severity, text, metadata=base, market_open=market_open
        )
    try:
        with look.conn.transaction():
            violations, is_error, rows = _violating(look, config)
            if config.figures:
                base |= _one_row(look.conn, config.figures, config.timeframe, look.values(config))
    except psycopg.Error as error:
        if look.conn.closed:
            raise
        limit = isinstance(error, psycopg.errors.QueryCanceled)
        why = " within its time limit" if limit else f": {str(error).splitlines()[0]}"
        return CheckResult(
            config.name, config.asset, False, Severity.ERROR,
            f"{Severity.ERROR}: {look.now:%Y-%m-%d}: could not be evaluated{why}", metadata=base, evaluated=False,
        )  # fmt: skip
    severity = Severity.ERROR if is_error else config.severity
    return CheckResult(
        config.name, config.asset, not violations, severity, _words(severity, violations, known, rows),
        violations, {"violations": violations, **base}, rows, market_open,
    )  # fmt: skip


def _shut(now: datetime) -> str:
    return f"the FX market is shut; next open {fx_week.next_open(now):%Y-%m-%d %H:%M} UTC"


def _violating(look: _Look, config: CheckConfig) -> tuple[int, bool, list[dict[str, Any]]]:
    """Return how many rows violate, whether one of them is an ERROR where the check escalates, and a sample."""
    grave = sql.SQL("bool_or(v.is_error) OVER ()" if config.escalates else "false")
    statement = sql.SQL(
        "WITH violating AS ({}) SELECT v.*, count(*) OVER () AS all_violations, {} AS any_error"
        " FROM violating AS v LIMIT %(sample)s"
    ).format(_statement(config.sql, config.timeframe), grave)
    with look.conn.cursor(row_factory=dict_row) as cur:
        rows = cur.execute(statement, look.values(config)).fetchall()
    counted = {"all_violations", "any_error", "is_error"}
    shown_rows = [{k: v for k, v in row.items() if k not in counted} for row in rows]
    return (rows[0]["all_violations"], rows[0]["any_error"], shown_rows) if rows else (0, False, [])


def _words(severity: Severity, violations: int, known: AssetFigures, rows: Sequence[dict[str, Any]]) -> str:
    """Begin with severity, day and figures: the UI reads "Failed" for WARN and ERROR alike."""
    day = f"{known.latest:%Y-%m-%d}" if known.latest else "no bar in the window"
    if not violations:
        return f"{day}: {known.bars:,} bars, no violation"
    first = ", ".join(f"{k} {_short(v)}" for k, v in rows[0].items() if v is not None)
    return f"{severity}: {day}: {counted(violations)}, first: {first}"


def counted(violations: int) -> str:
    """Return "1 violation", "2 violations"."""
    return f"{violations:,} violation{'' if violations == 1 else 's'}"


def _short(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:.8g}" if isinstance(value, float) else str(value)
