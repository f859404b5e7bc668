"""Checks as Dagster knows them: their definitions, one operation that evaluates them, and results as its events.

Belongs here: the way from a check's configuration and result to Dagster's words. What a check asks of the database is
SQL (`sql/checks`), what it means is `checks.config`, how it is run `checks.engine`.

One unpartitioned multi-check for all: evaluated on demand, by the check job and once at the end of a backfill from the
UI; the sensor emits the same evaluations without a run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import dagster as dg
from psycopg import Connection
from pydantic import Field

from dxy_pipeline.assets.outcome import AUTOMATIC_TAG, as_failure
from dxy_pipeline.checks import history
from dxy_pipeline.checks.config import CheckConfig, Rhythm
from dxy_pipeline.checks.engine import CheckResult, run_checks
from dxy_pipeline.checks.planned_rows import release_for_run
from dxy_pipeline.resources import MarketDatabase, PipelineClock

SHOWN_ROWS = 20
CHECKS_OP = "stored_bars_checks"


class CheckWindow(dg.Config):
    """What the checks look at."""

    window: Literal["recent", "history"] = Field(
        default="recent", description="The last 48 hours, or all that is stored (minutes of work on decades)"
    )


def check_specs(configs: Iterable[CheckConfig]) -> list[dg.AssetCheckSpec]:
    """Return the definitions; a check that is not defined never appears in the UI, whoever reports it."""
    return [
        dg.AssetCheckSpec(
            name=config.name,
            asset=dg.AssetKey(config.asset.split("/")),
            description=config.description,
            metadata={"severity": str(config.severity)},
        )
        for config in configs
    ]


def build_checks(configs: Sequence[CheckConfig]) -> dg.AssetChecksDefinition:
    """Return all checks as one operation that evaluates those that are selected."""

    @dg.multi_asset_check(name=CHECKS_OP, specs=check_specs(configs), can_subset=True)
    def stored_bars_checks(
        context: dg.AssetCheckExecutionContext, config: CheckWindow, market: MarketDatabase, clock: PipelineClock
    ) -> Iterator[dg.AssetCheckResult]:
        """Evaluate the selected checks on the stored bars."""
        release_for_run(context.instance, context.run.run_id)
        selected = {(key.asset_key.to_user_string(), key.name) for key in context.selected_asset_check_keys}
        try:
            now = clock.now()
            with as_failure(), market.read("checks") as conn:
                results = _evaluate(conn, now, selected, config.window)
                if config.window == "recent":
                    results = history.merged(results, history.findings(conn, now))
        except dg.Failure as failure:
            if AUTOMATIC_TAG not in context.run.tags:
                raise
            # The bars are stored; that nobody could look at them is the sensor's news, not a reason to fail the minute.
            context.log.warning("checks could not be evaluated: %s", failure.description)
            return
        for result in results:
            yield dg.AssetCheckResult(asset_key=dg.AssetKey(result.asset_key.split("/")), **_said(result))
        if config.window == "history":
            with as_failure(), market.connect("history") as conn:
                history.record(conn, results, now)

    return stored_bars_checks


def _evaluate(conn: Connection[Any], now: datetime, selected: set[tuple[str, str]], window: str) -> list[CheckResult]:
    """Evaluate exactly the selected (asset, name)."""
    rhythm = Rhythm.DAILY if window == "history" else Rhythm.MINUTE
    sample = history.SAMPLE if rhythm is Rhythm.DAILY else SHOWN_ROWS
    results = run_checks(conn, now, only={name for _, name in selected}, rhythm=rhythm, sample=sample)
    return [result for result in results if (result.asset_key, result.name) in selected]


def evaluation(result: CheckResult) -> dg.AssetCheckEvaluation:
    """Return a result as an event that belongs to no run."""
    return dg.AssetCheckEvaluation(asset_key=dg.AssetKey(result.asset_key.split("/")), **_said(result))


def _said(result: CheckResult) -> dict[str, Any]:
    """The parts that both forms share. "Failed" is all the UI says of WARN and ERROR alike: the text begins with it."""
    severity = dg.AssetCheckSeverity[str(result.severity).upper()]
    text = result.description
    if not result.passed and not text.startswith(severity.value):
        text = f"{severity.value}: {text}"
    metadata = {name: _value(value) for name, value in result.metadata.items()}
    if result.rows:
        metadata["violating rows"] = table(result.rows)
    return {
        "check_name": result.name, "passed": result.passed, "severity": severity, "description": text,
        "metadata": metadata,
    }  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Return the first rows as a table that the UI shows inline."""
    return dg.MetadataValue.table([dg.TableRecord({k: _plain(v) for k, v in row.items()}) for row in rows[:SHOWN_ROWS]])


def _value(value: Any) -> Any:
    """Metadata as the UI draws it: numbers stay numbers, instants become timestamps."""
    return dg.MetadataValue.timestamp(value) if isinstance(value, datetime) else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S%z}"
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date | Mapping | Sequence) and not isinstance(value, str):
        return str(value)
    return value
