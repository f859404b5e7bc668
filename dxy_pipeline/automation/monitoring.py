"""Monitoring: a sensor each minute that looks at the stored bars and says what it found, without any run.

It lives in the daemon and needs nothing of the production jobs: with all of them dead it goes on, and says so. It
emits check evaluations only (a materialization from here would fake freshness) and keeps the incidents. Their messages
are sent by a sensor of its own, so that no service, however slow, holds up a look. An evaluation is emitted when its
outcome changes and every ten minutes: one a minute would be 23,000 rows a day.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from dxy_pipeline import alerts
from dxy_pipeline.automation.orphans import end_orphans
from dxy_pipeline.checks.config import CHECKS
from dxy_pipeline.checks.dagster_checks import CHECKS_OP, evaluation
from dxy_pipeline.checks.engine import CheckResult
from dxy_pipeline.checks.planned_rows import release_for_ended_runs
from dxy_pipeline.checks.watch import look
from dxy_pipeline.errors import UserError
from dxy_pipeline.resources import MarketDatabase, PipelineClock
from dxy_pipeline.settings import Settings

HEARTBEAT = timedelta(minutes=10)

check_stored_bars = dg.define_asset_job(
    "check_stored_bars",
    selection=dg.AssetSelection.checks(
        *(dg.AssetCheckKey(dg.AssetKey(config.asset.split("/")), config.name) for config in CHECKS)
    ),
    description="Evaluates every check now.",
)


@dg.schedule(
    job=check_stored_bars,
    cron_schedule="37 2 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Daily: every check over the whole history.",
)
def history_checks_schedule() -> dg.RunRequest:
    return dg.RunRequest(run_config=history_config())


def history_config() -> dict[str, Any]:
    """Return the run configuration with which the check job looks at all that is stored."""
    return {"ops": {CHECKS_OP: {"config": {"window": "history"}}}}


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends the messages about incidents that wait; a service that hangs holds up nothing else.",
)
def alert_delivery_sensor(
    context: dg.SensorEvaluationContext, market: MarketDatabase, clock: PipelineClock
) -> dg.SkipReason:
    try:
        with market.connect("alert_delivery") as conn:
            sent = alerts.deliver(conn, alerts.targets(Settings.from_env().alert_urls), clock.now())
    except UserError as error:
        return dg.SkipReason(f"nothing sent: {error}")
    if sent.expired:
        context.log.warning("%s message(s) expired: their target is no longer in DXY_ALERT_URLS", sent.expired)
    if sent.failed:
        context.log.warning("%s message(s) could not be delivered and wait; dxy alerts list says why", sent.failed)
    return dg.SkipReason(f"{sent.delivered} message(s) delivered, {sent.failed} failed, {sent.expired} expired")


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Evaluates the checks each minute; reports changes at once and the state every ten minutes.",
)
def monitoring_sensor(
    context: dg.SensorEvaluationContext, market: MarketDatabase, clock: PipelineClock
) -> dg.SensorResult | dg.SkipReason:
    now = clock.now()
    if orphans := end_orphans(context.instance):
        context.log.warning("run(s) without a process ended: %s", ", ".join(orphans))
    if removed := release_for_ended_runs(context.instance):
        context.log.info("%s planned check row(s) of ended runs removed", removed)
    try:
        with market.read("monitoring") as conn, market.connect("alerts") as write:
            found = look(conn, write, now, Settings.from_env().alert_urls)
    except UserError as error:
        context.log.error("checks could not be evaluated: %s", error)
        return dg.SkipReason(f"checks could not be evaluated: {error}")
    results = found.results
    if found.problem:
        context.log.error("incidents could not be kept: %s", found.problem)
    for turn in found.changed:
        context.log.warning("incident %s %s: %s", turn.cause, turn.state, turn.summary)
    emitted, cursor = due(results, context.cursor, now)
    failed = [f"{result.asset_key}.{result.name}" for result in results if not result.passed]
    # Dagster shows a tick without runs as skipped: the log line is what says that it worked.
    context.log.info(
        "%s checks, %s failed%s; %s evaluation(s) reported",
        len(results), len(failed), f" ({', '.join(failed)})" if failed else "", len(emitted),
    )  # fmt: skip
    return dg.SensorResult(asset_events=[evaluation(result) for result in emitted], cursor=cursor)


def due(results: Sequence[CheckResult], cursor: str | None, now: datetime) -> tuple[list[CheckResult], str]:
    """Return the results to report at `now`, and the cursor: for each check its outcome and when it was reported."""
    before: dict[str, list] = json.loads(cursor) if cursor else {}
    emitted, after = [], {}
    for result in results:
        name = f"{result.asset_key}.{result.name}"
        outcome, at = before.get(name, ["", 0.0])
        found = "passed" if result.passed else str(result.severity)
        if outcome != found or now.timestamp() - at >= HEARTBEAT.total_seconds() or at > now.timestamp():
            emitted.append(result)
            outcome, at = found, now.timestamp()
        after[name] = [outcome, at]
    return emitted, json.dumps(after)
