"""Which checks there are: their names, severities, thresholds and the SQL file that finds the violating rows.

Severity policy: ERROR only for a wrong stored value, a broken invariant, or a breach that lasted in open minutes; WARN
for suspicion and coverage. Thresholds are data: defaults here, others in dxy.setting. What a check
asks is `sql/checks/<sql>.sql`; how it is run is `engine`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dxy_pipeline.core.index import DXY, SYMBOLS
from dxy_pipeline.db.ownership import OURS


class Severity(StrEnum):
    """How bad a failed check is."""

    WARN = "WARN"
    ERROR = "ERROR"


class Rhythm(StrEnum):
    """What a look covers: each minute the last 48 hours, daily the whole history."""

    MINUTE = "minute"
    DAILY = "daily"


class Subject(StrEnum):
    """What a check is about, and with it whose it is while a migration is under way (see `standing`)."""

    PAIRS = "pairs"
    MINUTES = "minutes"
    ROLLUPS = "rollups"
    SCHEMA = "schema"


THRESHOLDS_KEY = "check_thresholds"  # of dxy.setting: what "dxy checks set" stores
ERAS_KEY = "eras"
# Price bands, each from a day on. DXY closed between 70.7 (2008) and 164.7 (1985); 80 to 120 is for live monitoring.
ERAS = (("1970-01-01", 70.0, 170.0), ("1990-01-01", 68.0, 125.0), ("2015-01-01", 80.0, 120.0))
THIN_PAIRS = ("USDSEK",)
_GRACE = {"grace_minutes": 5}  # how long a touched minute may be under way before it counts


@dataclass(frozen=True)
class CheckConfig:
    """One check on one asset.

    `sql` names the file whose rows are violations; `thresholds` are its parameters. `timed`: judged against the clock,
    so it passes while the market is shut. `escalates`: each row says in `is_error` whether it makes a WARN an ERROR.
    `figures` names a file that gives one row of further figures to show. `states` of the migration in which there is
    something to judge, where that is not what its subject says; `needs_raw`: it reads data_bars.raw.
    """

    name: str
    asset: str
    sql: str
    severity: Severity
    description: str
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    timed: bool = False
    escalates: bool = False
    figures: str | None = None
    states: frozenset[str] | None = None
    needs_raw: bool = False
    about: Subject | None = None

    @property
    def timeframe(self) -> str:
        """The asset's timeframe: 1m, 5m or 1h."""
        return self.asset.rsplit("_", 1)[1]

    @property
    def subject(self) -> Subject:
        """What it is about: what its asset holds, unless it says otherwise."""
        own = {"fx_1m": Subject.PAIRS, "dxy_1m": Subject.MINUTES}
        return self.about or own.get(self.asset, Subject.ROLLUPS)

    @property
    def symbols(self) -> list[str]:
        """The symbols that the asset holds."""
        return list(SYMBOLS) if self.asset == "fx_1m" else [DXY]


def _band(asset: str) -> CheckConfig:
    text = "Every close lies in the band of its era (80 to 120 since 2015)."
    eras = {ERAS_KEY: [list(era) for era in ERAS]}
    return CheckConfig("price_band", asset, "price_band", Severity.ERROR, text, eras)


def _fresh(asset: str, target: int) -> CheckConfig:
    text = f"The latest bar ended at most {target} open FX minutes ago; error_factor times that is an ERROR."
    return CheckConfig(
        "freshness", asset, "freshness", Severity.WARN, text,
        {"target_minutes": target, "thin": list(THIN_PAIRS), "thin_minutes": 3 * target, "error_factor": 3.0},
        timed=True, escalates=True,
    )  # fmt: skip


def _valid(asset: str) -> CheckConfig:
    text = "No NULL, non-positive or infinite price; high and low enclose open and close."
    return CheckConfig("prices_valid", asset, "prices_valid", Severity.ERROR, text)


def _reconciled(asset: str) -> CheckConfig:
    text = "Stored roll-ups are the roll-up of the stored minutes: none missing, none extra, none different."
    return CheckConfig("reconciliation", asset, "reconciliation", Severity.ERROR, text, dict(_GRACE))


def _single(asset: str) -> CheckConfig:
    text = "No bar has more source minutes than its bucket has open minutes."
    return CheckConfig("double_counting", asset, "double_counting", Severity.ERROR, text)


_ALLOWED_GAPS = {
    "minutes": 15,
    "thin": list(THIN_PAIRS),
    "thin_minutes": 60,
    "pending_minutes": 10,
    "confirm_hours": 24,
}
_BASELINE = {"thin": list(THIN_PAIRS), "weeks": 4, "factor": 2}

CHECKS: tuple[CheckConfig, ...] = (
    _fresh("fx_1m", 5),
    CheckConfig(
        "components_present", "fx_1m", "components_present", Severity.WARN,
        "All six pairs have a bar in the last five open minutes.", {"last_minutes": 5}, timed=True,
    ),
    _valid("fx_1m"),
    CheckConfig("well_formed", "fx_1m", "well_formed", Severity.ERROR,
                "No bar of the pairs is off the minute, in the future or under a misspelled symbol.", {"ahead_minutes": 1}),
    CheckConfig("gaps", "fx_1m", "gaps", Severity.WARN,
                "No pair misses more than 15 open minutes in a row (60 for a thin pair).", _ALLOWED_GAPS,
                figures="gap_classes", needs_raw=True),
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
        {"last_minutes": 5, "least_bars": 3}, timed=True, escalates=True,
    ),
    _band("dxy_1m"),
    _valid("dxy_1m"),
    CheckConfig("count_match", "dxy_1m", "count_match", Severity.ERROR,
                "Each minute with all six pairs has its DXY bar, and no other minute has one, by key.", _GRACE),
    CheckConfig("drift", "dxy_1m", "drift", Severity.ERROR,
                "Each stored bar is the index recomputed from today's FX bars.", _GRACE),
    CheckConfig("source_synthetic", "dxy_1m", "source_synthetic", Severity.ERROR, "Each bar's source is synthetic."),
    CheckConfig("gaps", "dxy_1m", "gaps", Severity.WARN,
                "No more than 60 open minutes in a row without a bar.", {**_ALLOWED_GAPS, "minutes": 60},
                figures="gap_classes", needs_raw=True),
    CheckConfig("outliers", "dxy_1m", "outliers", Severity.WARN,
                "No minute return lies 25 robust deviations out; the responsible pair is named.",
                {"deviations": 25.0, "least_move": 0.001}),
    CheckConfig("orphans_in_derived", "dxy_1m", "orphans_in_derived", Severity.ERROR,
                "No DXY 1m row is active in derived_data_bars, or newly written there, once none belongs there; after a "
                "migration no 1m row of any symbol.", states=frozenset({"none", "retired"})),
    CheckConfig("completeness", "dxy_1m", "completeness", Severity.WARN,
                "At least 10,000 DXY minutes are stored, once a history of 12,000 FX minutes is loaded.",
                {"least_rows": 10_000, "loaded_rows": 12_000}, states=OURS),
    CheckConfig("late_data", "dxy_1m", "late_data", Severity.WARN,
                "No changed FX minute waits longer than ten minutes to be derived again.", {"wait_minutes": 10}),
    CheckConfig("migration_count_match", "dxy_1m", "migration_count_match", Severity.ERROR,
                "From verification on each legacy bar, active or retired, has its equal in data_bars.",
                states=frozenset({"verified", "cut_over", "retired"})),
    CheckConfig("schema_contract", "dxy_1m", "schema_contract", Severity.ERROR,
                "Functions, tables, columns, constraints, keys, triggers, owners, grants and row security are as deployed.",
                about=Subject.SCHEMA),
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
