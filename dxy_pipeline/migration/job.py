"""The same steps from the Dagster UI: the asset `migration/dxy_1m`, one partition for each day with legacy rows, and the
transition job, a launchpad form over the engine. No schedule, no sensor: a migration is somebody's decision.

Include `migration_assets`, `migration_jobs` and `migration_checks` in the definitions.
"""

from collections.abc import Callable
from datetime import date
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from dxy_pipeline.core.index import DXY
from dxy_pipeline.errors import UserError
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline.resources import MarketDatabase, PipelineClock

DAYS = dg.DynamicPartitionsDefinition(name="migration_days")
KEY = dg.AssetKey(["migration", "dxy_1m"])
CHECK = "day_equal_in_both_tables"
Phase = Literal[
    "plan", "prepare", "dual-write", "backfill", "verify", "cutover", "watch", "retire", "rollback", "pause", "resume"
]


POOL = "dxy_migration"
# The pool (dagster.yaml) lets one run of the days go at a time; where it has no limit, runs wait for each other here.
_PATIENCE_S = 3600.0


def _migration(market: MarketDatabase, clock: PipelineClock, context: Any, **more: Any) -> Migration:
    return Migration(market.direct_url(), clock=clock.clock(), actor="dagster", note=context.log.info, **more)


def _guarded(work: Callable[[], Any]) -> Any:
    """Run `work`; a user's mistake becomes a failure of one line with what to do."""
    try:
        return work()
    except UserError as error:
        metadata = {"what to do": dg.MetadataValue.text(error.hint)} if error.hint else None
        raise dg.Failure(str(error), metadata=metadata, allow_retries=False) from None


@dg.asset(
    key=KEY,
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=30),
    group_name="migration",
    kinds={"postgres"},
    pool=POOL,
    description="History of DXY 1m copied from derived_data_bars to data_bars, one partition a day. A day that differs "
    "afterwards, or holds a conflict, fails. Partitions are listed by every step of the job `migration_transition`; after "
    "a `dxy migrate prepare` take its phase `plan`.",
    metadata={"dagster/table_name": "public.data_bars", "symbol": DXY},
)
def migrated_dxy_1m(context: dg.AssetExecutionContext, market: MarketDatabase, clock: PipelineClock) -> None:
    """Copy the run's days, compare them, and report each by itself."""
    days = [date.fromisoformat(key) for key in context.partition_keys]
    migration = _migration(market, clock, context, lease_patience=_PATIENCE_S)
    failure = None
    try:
        migration.backfill(days=days, reason=f"Dagster run {context.run_id}")
    except UserError as error:
        failure = error
    units = {row["day"]: row for row in migration.units(days)}
    wrong = {f["ts_utc"].date(): f for f in migration.compare(days).failures if f.get("ts_utc")}
    for day in days:
        unit = units.get(day, {})
        good = unit.get("state") == "done" and day not in wrong
        figures = {k: v for k, v in unit.items() if isinstance(v, int)}
        # Not through the step: what a failing step has logged is dropped with it.
        context.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=KEY, check_name=CHECK, passed=good, partition=day.isoformat(),
                severity=dg.AssetCheckSeverity.ERROR, metadata={**figures, "day": day.isoformat()},
                description=f"ERROR {day}: {wrong[day]['problem']}" if day in wrong else f"{day}: {unit.get('state')}",
            )
        )  # fmt: skip
        context.add_asset_metadata(
            {"dagster/row_count": unit.get("scanned", 0), **figures}, asset_key=KEY, partition_key=day.isoformat()
        )
    if failure or wrong:
        bad = sorted({*wrong, *(day for day in days if units.get(day, {}).get("state") != "done")})
        listed = ", ".join(str(day) for day in bad[:5])
        raise dg.Failure(
            f"{len(bad)} of {len(days)} days are not equal: {listed}; {failure or ''}", allow_retries=False
        )


@dg.asset_check(asset=KEY, name=CHECK, description="Count and content of the day are equal in both tables.")
def day_equal_in_both_tables(market: MarketDatabase, clock: PipelineClock) -> dg.AssetCheckResult:
    """The same on demand for all days."""
    found = _guarded(lambda: Migration(market.direct_url(), clock=clock.clock(), actor="dagster").compare())
    return dg.AssetCheckResult(
        passed=found.ok,
        metadata={
            "legacy rows": found.legacy_rows,
            "data_bars rows": found.target_rows,
            "differing": found.differing,
        },
        description=f"{found.differing} minutes differ",
    )


class Transition(dg.Config):
    """One step of the migration."""

    phase: Phase = Field(default="plan", description="Which step to take; `plan` only looks")
    reason: str = Field(default="", description="Why, for the audit; may not be empty")
    dry_run: bool = Field(default=True, description="Only say what would happen and what is in the way")
    accept_native: bool = Field(default=False, description="prepare: data_bars may hold minutes that legacy lacks")
    accept_rounding: bool = Field(default=False, description="prepare: values need not survive the column types")
    health_minutes: int = Field(default=1440, description="prepare: open minutes that must be healthy before `retire`")
    readers_moved: bool = Field(default=False, description="dual-write: no reader adds both tables any more")
    on_conflict: Literal["stop", "legacy-wins"] = Field(
        default="stop", description="backfill: stop at a conflict, or let legacy win (both images are kept)"
    )
    repair: bool = Field(default=False, description="verify: make the tables equal; another verify must follow")
    on_extra: Literal["", "copy", "delete"] = Field(
        default="",
        description="verify with repair: what becomes of minutes that only the table which readers do not use has",
    )


@dg.op(out=dg.Out(dg.Nothing))
def take_step(context: dg.OpExecutionContext, config: Transition, market: MarketDatabase, clock: PipelineClock) -> None:
    """Take one step, or say what it would do; the result stands as a table in the run's events."""
    if not config.reason.strip():
        raise dg.Failure("reason is empty; say why this step is taken", allow_retries=False)
    migration = _migration(market, clock, context)
    if config.phase == "plan":
        result = _guarded(migration.plan)
    elif config.dry_run:
        flags = config.model_dump(include={"accept_native", "accept_rounding", "readers_moved", "repair"})
        result = _guarded(lambda: migration.preview(config.phase, **flags))
    else:
        result = _guarded(lambda: _act(migration, config))
    _list_partitions(context, migration)
    context.log_event(dg.AssetObservation(KEY, metadata={config.phase: table(result)}))
    if isinstance(result, dict) and result.get("ok") is False:
        raise dg.Failure(f"{result['differing']} minutes differ", allow_retries=False)


def _act(migration: Migration, config: Transition) -> Any:
    reason = config.reason
    actions: dict[str, Callable[[], Any]] = {
        "prepare": lambda: migration.prepare(
            accept_native=config.accept_native,
            accept_rounding=config.accept_rounding,
            options={"health_minutes": config.health_minutes},
            reason=reason,
        ),
        "dual-write": lambda: migration.dual_write(readers_moved=config.readers_moved, reason=reason),
        "backfill": lambda: migration.backfill(policy=config.on_conflict, reason=reason),
        "verify": lambda: migration.verify(repair=config.repair, extra=config.on_extra, reason=reason),
        "cutover": lambda: migration.cutover(reason=reason),
        "watch": lambda: migration.watch(reason=reason),
        "retire": lambda: migration.retire(reason=reason),
        "rollback": lambda: migration.rollback(reason=reason),
        "pause": lambda: migration.pause(reason=reason),
        "resume": lambda: migration.pause(paused=False, reason=reason),
    }
    return actions[config.phase]()


def _list_partitions(context: dg.OpExecutionContext, migration: Migration) -> None:
    """Make the days that the ledger lists partitions, whoever prepared them: here or on the command line."""
    known = set(context.instance.get_dynamic_partitions("migration_days"))
    try:
        days = [row["day"].isoformat() for row in migration.units()]
    except UserError as error:  # no ledger yet: `plan` works without one
        context.log.info(f"no days are listed: {error}")
        return
    if fresh := [day for day in days if day not in known]:
        context.instance.add_dynamic_partitions("migration_days", fresh)


def table(result: Any) -> Any:
    """A result as a table: its rows, or one row for each of its names."""
    rows = result if isinstance(result, list) else [{"what": k, "is": v} for k, v in result.items()]
    records = [dg.TableRecord({str(k): str(v)[:500] for k, v in row.items()}) for row in rows]
    return dg.MetadataValue.table(records or [dg.TableRecord({"what": "nothing", "is": ""})])


@dg.job(
    description="One step of the migration of DXY 1m (docs/migration.md). Looks only, until dry_run is switched off.",
    tags={"dxy/migration": "transition"},
)
def migration_transition() -> None:
    """Take one step."""
    take_step()


migrate_dxy_1m = dg.define_asset_job(
    "migrate_dxy_1m",
    selection=dg.AssetSelection.assets(KEY).without_checks(),
    description="Back-fill days of legacy DXY 1m; select partitions, green and red.",
)
migration_assets = [migrated_dxy_1m]
migration_checks = [day_equal_in_both_tables]
migration_jobs = [migrate_dxy_1m, migration_transition]
