"""Which checks there are: their names, severities, thresholds and the SQL file that finds the violating rows.

Severity policy: ERROR only for a wrong stored value, a broken invariant, or a breach that lasted in open minutes; WARN
for suspicion and coverage. Thresholds are data: defaults here, others in dxy.setting. What a check
asks is `sql/checks/<sql>.sql`; how it is run is `engine`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from dxy_pipeline.core.index import DXY, SYMBOLS
from dxy_pipeline.errors import UserError


class Severity(StrEnum):
    """How bad a failed check is."""

    WARN = "WARN"
    ERROR = "ERROR"


class Rhythm(StrEnum):
    """How often a check runs: each minute over the last 48 hours, or daily over the whole history."""

    MINUTE = "minute"
    DAILY = "daily"


@dataclass(frozen=True)
class Era:
    """A price band and the time it is for, half-open."""

    start: datetime
    end: datetime
    low: float
    high: float


# DXY closed between 70.7 (2008) and 164.7 (1985); 80 to 120 is the band for live monitoring.
ERAS: tuple[Era, ...] = (
    Era(datetime(1970, 1, 1, tzinfo=UTC), datetime(1990, 1, 1, tzinfo=UTC), 70, 170),
    Era(datetime(1990, 1, 1, tzinfo=UTC), datetime(2015, 1, 1, tzinfo=UTC), 68, 125),
    Era(datetime(2015, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC), 80, 120),
)
THRESHOLDS_KEY = "check_thresholds"  # of dxy.setting: what "dxy checks set" stores
THIN_PAIRS = ("USDSEK",)
GRACE = timedelta(minutes=5)


@dataclass(frozen=True)
class CheckConfig:
    """One check on one asset.

    `sql` names the file whose rows are violations; `thresholds` are its parameters. `timed`: judged against the clock,
    so it passes while the market is shut. `escalate`: figure at which a WARN becomes an ERROR, by the named row column.
    `figures` names a file that gives one row of further figures to show.
    """

    name: str
    asset: str
    sql: str
    severity: Severity
    description: str
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    rhythm: Rhythm = Rhythm.MINUTE
    timed: bool = False
    escalate: tuple[str, float] | None = None
    figures: str | None = None

    @property
    def timeframe(self) -> str:
        """The asset's timeframe: 1m, 5m or 1h."""
        return self.asset.rsplit("_", 1)[1]

    @property
    def symbols(self) -> list[str]:
        """The symbols that the asset holds."""
        return list(SYMBOLS) if self.asset == "fx_1m" else [DXY]


def _band(asset: str) -> CheckConfig:
    eras = {
        "era_from": [e.start for e in ERAS],
        "era_to": [e.end for e in ERAS],
        "era_low": [e.low for e in ERAS],
        "era_high": [e.high for e in ERAS],
    }
    text = "Every close lies in the band of its era (80 to 120 since 2015)."
    return CheckConfig("price_band", asset, "price_band", Severity.ERROR, text, eras)


def _fresh(asset: str, target: int) -> CheckConfig:
    text = f"The latest bar ended at most {target} open FX minutes ago; three times that is an ERROR."
    return CheckConfig(
        "freshness", asset, "freshness", Severity.WARN, text,
        {"target_minutes": target, "thin": list(THIN_PAIRS), "thin_minutes": 3 * target}, timed=True,
        escalate=("open_minutes_since", 3 * target),
    )  # fmt: skip


def _valid(asset: str) -> CheckConfig:
    text = "No NULL, non-positive or infinite price; high and low enclose open and close."
    return CheckConfig("prices_valid", asset, "prices_valid", Severity.ERROR, text)


def _reconciled(asset: str) -> CheckConfig:
    text = "Stored roll-ups are the roll-up of the stored minutes: none missing, none extra, none different."
    return CheckConfig("reconciliation", asset, "reconciliation", Severity.ERROR, text)


def _single(asset: str) -> CheckConfig:
    text = "No bar has more source minutes than its bucket has open minutes."
    return CheckConfig("double_counting", asset, "double_counting", Severity.ERROR, text)


_ALLOWED_GAPS = {"minutes": 15, "thin": list(THIN_PAIRS), "thin_minutes": 60}
_BASELINE = {"thin": list(THIN_PAIRS), "weeks": 4, "factor": 2}

CHECKS: tuple[CheckConfig, ...] = (
    _fresh("fx_1m", 5),
    CheckConfig(
        "components_present", "fx_1m", "components_present", Severity.WARN,
        "All six pairs have a bar in the last five open minutes.", {"last_minutes": 5}, timed=True,
    ),
    _valid("fx_1m"),
    CheckConfig("gaps", "fx_1m", "gaps", Severity.WARN,
                "No pair misses more than 15 open minutes in a row (60 for a thin pair).", _ALLOWED_GAPS,
                figures="gap_classes"),
    CheckConfig("staleness", "fx_1m", "staleness", Severity.WARN,
                "No pair is silent twice as long as is usual for it at this hour of the week.",
                {"minutes": 5, "thin_minutes": 15, **_BASELINE}, timed=True),
    CheckConfig("flat_line", "fx_1m", "flat_line", Severity.WARN,
                "No pair repeats one close for more than 45 bars (180 for a thin pair), nor twice as long as is usual "
                "for it at that hour of the week.", {"minutes": 45, "thin_minutes": 180, **_BASELINE}),
    CheckConfig("scheduler", "fx_1m", "scheduler", Severity.ERROR,
                "The live run and the monitoring have shown a sign of life in the last ten minutes, the daily checks in the "
                "last 36 hours.", {"silent_minutes": 10, "silent_hours": 36}),
    CheckConfig("source_state", "fx_1m", "source_state", Severity.WARN,
                "The live source answers; when it does not, its own words.", {"down_minutes": 5}, timed=True),
    CheckConfig("outliers", "fx_1m", "outliers", Severity.WARN,
                "No minute return lies 25 robust deviations out.", {"deviations": 25.0, "least_move": 0.002}),
    _fresh("dxy_1m", 5),
    CheckConfig(
        "recent_bars", "dxy_1m", "recent_bars", Severity.WARN,
        "Three or more of the last five open minutes have a bar; none at all is an ERROR.",
        {"last_minutes": 5, "least_bars": 3}, timed=True, escalate=("violations", 5),
    ),
    _band("dxy_1m"),
    _valid("dxy_1m"),
    CheckConfig("count_match", "dxy_1m", "count_match", Severity.ERROR,
                "Each minute with all six pairs has its DXY bar, and no other minute has one, by key."),
    CheckConfig("drift", "dxy_1m", "drift", Severity.ERROR,
                "Each stored bar is the index recomputed from today's FX bars."),
    CheckConfig("source_synthetic", "dxy_1m", "source_synthetic", Severity.ERROR, "Each bar's source is synthetic."),
    CheckConfig("gaps", "dxy_1m", "gaps", Severity.WARN,
                "No more than 60 open minutes in a row without a bar.", {**_ALLOWED_GAPS, "minutes": 60},
                figures="gap_classes"),
    CheckConfig("outliers", "dxy_1m", "outliers", Severity.WARN,
                "No minute return lies 25 robust deviations out; the responsible pair is named.",
                {"deviations": 25.0, "least_move": 0.001}),
    CheckConfig("orphans_in_derived", "dxy_1m", "orphans_in_derived", Severity.ERROR,
                "No DXY 1m row is active in derived_data_bars, or newly written there, once none belongs there."),
    CheckConfig("completeness", "dxy_1m", "completeness", Severity.WARN,
                "At least 10,000 DXY minutes are stored, once a history of 12,000 FX minutes is loaded.",
                {"least_rows": 10_000, "loaded_rows": 12_000}, rhythm=Rhythm.DAILY),
    CheckConfig("late_data", "dxy_1m", "late_data", Severity.WARN,
                "No changed FX minute waits longer than ten minutes to be derived again.", {"wait_minutes": 10}),
    CheckConfig("migration_count_match", "dxy_1m", "migration_count_match", Severity.ERROR,
                "Between verification and retirement each legacy bar has its equal in data_bars."),
    CheckConfig("schema_contract", "dxy_1m", "schema_contract", Severity.ERROR,
                "Functions, tables, columns, constraints, key indexes and triggers are as deployed."),
    _fresh("dxy_5m", 10),
    _band("dxy_5m"),
    _valid("dxy_5m"),
    _reconciled("dxy_5m"),
    _single("dxy_5m"),
    _fresh("dxy_1h", 65),
    _band("dxy_1h"),
    _valid("dxy_1h"),
    _reconciled("dxy_1h"),
    _single("dxy_1h"),
)  # fmt: skip


def with_thresholds(configs: Iterable[CheckConfig], changes: Mapping[str, Mapping[str, Any]]) -> list[CheckConfig]:
    """Return the checks with some thresholds replaced; `changes` are by asset.check, then by threshold."""
    return [replace(c, thresholds={**c.thresholds, **changes.get(f"{c.asset}.{c.name}", {})}) for c in configs]


def parsed_threshold(check: str, threshold: str, text: str) -> float | list[str]:
    """Return a new value for a threshold, as its default is: a number, or names separated by commas.

    Raises UserError for an unknown check or threshold, or text that is no such value.
    """
    config = next((c for c in CHECKS if f"{c.asset}.{c.name}" == check), None)
    if config is None:
        raise UserError(f"no check is called {check!r}", hint='"dxy checks list" shows them, as asset.check')
    if threshold not in config.thresholds:
        known = ", ".join(config.thresholds) or "none"
        raise UserError(f"{check} has no threshold {threshold!r}", hint=f"it has: {known}")
    default = config.thresholds[threshold]
    if isinstance(default, list):
        names = [name.strip().upper() for name in text.split(",") if name.strip()]
        if any(not isinstance(value, str) for value in default) or set(names) - set(SYMBOLS):
            raise UserError(f"{text!r} is not a value for {threshold}", hint=f"pairs, such as {', '.join(SYMBOLS[:2])}")
        return names
    try:
        value = type(default)(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise UserError(f"{text!r} is not a value for {threshold}", hint=f"a number of 0 or more; default: {default}")
    return value
