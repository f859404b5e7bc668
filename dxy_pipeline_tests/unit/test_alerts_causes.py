"""Root causes: every failing check in some cause, one cause where one thing is broken."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dxy_pipeline.alerts import root_causes
from dxy_pipeline.checks.config import CHECKS
from dxy_pipeline.core.index import SYMBOLS

T = datetime(2024, 6, 12, 12, tzinfo=UTC)


@dataclass
class Found:
    """A failing check."""

    asset_key: str
    name: str
    rows: Sequence[dict[str, Any]] = field(default_factory=list)
    severity: str = "WARN"
    evaluated: bool = True
    passed: bool = False
    description: str = "WARN: 2024-06-12: something"


def silent(*pairs: str) -> Found:
    rows = [{"canonical_symbol": pair, "latest": T, "open_minutes_since": 9} for pair in pairs]
    return Found("fx_1m", "freshness", rows)


STALE = {"canonical_symbol": "DXY", "latest": T, "open_minutes_since": 70}
DXY_STALE = Found("dxy_1m", "freshness", [STALE], "ERROR")


def test_a_dead_pair_explains_the_stale_index() -> None:
    (cause,) = root_causes([silent("EURUSD"), DXY_STALE])
    assert (cause.key, cause.severity, cause.live) == ("feed:EURUSD", "ERROR", True)
    assert set(cause.checks) == {"fx_1m.freshness", "dxy_1m.freshness"}


def test_two_dead_pairs_are_two_causes_and_six_are_one() -> None:
    assert [c.key for c in root_causes([silent("USDJPY", "EURUSD")])] == ["feed:EURUSD", "feed:USDJPY"]
    assert [c.key for c in root_causes([silent(*SYMBOLS), DXY_STALE])] == ["feed"]


def test_a_stale_index_with_fresh_pairs_is_not_derived() -> None:
    assert [c.key for c in root_causes([DXY_STALE])] == ["derivation"]


def test_an_hour_that_lacked_minutes_is_the_aftermath_of_a_gap() -> None:
    (cause,) = root_causes([Found("dxy_1h", "freshness", [STALE])])
    assert (cause.key, cause.is_aftermath, cause.spans) == (
        "roll-ups stale", True, [(T, T + timedelta(minutes=70))],
    )  # fmt: skip


def test_few_recent_minutes_that_lack_the_same_pair_are_its_feed() -> None:
    rows = [{"ts_utc": T, "components": "EURUSD, USDSEK"}, {"ts_utc": T, "components": "EURUSD"}]
    assert [c.key for c in root_causes([Found("dxy_1m", "recent_bars", rows)])] == ["feed:EURUSD"]
    rows = [{"ts_utc": T, "components": ""}]
    assert [c.key for c in root_causes([Found("dxy_1m", "recent_bars", rows)])] == ["derivation"]


def test_a_spike_of_a_pair_and_a_gap_of_another_are_two() -> None:
    spike = Found("fx_1m", "outliers", [{"canonical_symbol": "USDCHF", "ts_utc": T, "move": 0.03}])
    span = {"first_ts": T, "last_ts": T + timedelta(minutes=20), "minutes": 21, "class": "component missing"}
    gap = Found("fx_1m", "gaps", [{"canonical_symbol": "USDCAD", **span}])
    causes = {c.key: c for c in root_causes([spike, gap])}
    assert set(causes) == {"spike:USDCHF", "feed:USDCAD"}
    assert causes["feed:USDCAD"].is_aftermath


def test_an_hour_apart_a_wrong_value_is_not_put_down_to_the_spike() -> None:
    spike = Found("fx_1m", "outliers", [{"canonical_symbol": "EURUSD", "ts_utc": T, "move": 0.03}])
    band = Found("dxy_1m", "price_band", [{"ts_utc": T + timedelta(hours=5)}], "ERROR")
    assert {c.key for c in root_causes([spike, band])} == {"spike:EURUSD", "dxy minutes"}


def test_checks_that_cannot_be_evaluated_are_one_cause() -> None:
    blind = [Found("fx_1m", name, evaluated=False, severity="ERROR") for name in ("freshness", "gaps")]
    (cause,) = root_causes(blind)
    assert (cause.key, len(cause.checks)) == ("monitoring", 2)


def test_passing_checks_have_no_cause() -> None:
    assert root_causes([Found("fx_1m", "gaps", passed=True)]) == []


@given(st.sets(st.sampled_from([(c.asset, c.name, str(c.severity)) for c in CHECKS])))
def test_no_failing_check_is_lost(failing: set[tuple[str, str, str]]) -> None:
    row = {
        "canonical_symbol": "EURUSD", "ts_utc": T, "first_ts": T, "last_ts": T, "minutes": 30, "latest": T, "move": 0.1,
        "open_minutes_since": 9,
        "class": "component missing", "part": "live minute", "last_seen": T, "feed": "massive", "state": "refused",
        "detail": "no", "close": 1.0, "day": T.date(), "waiting_since": T, "fault": "missing",
    }  # fmt: skip
    found = [Found(asset, name, [row], severity) for asset, name, severity in sorted(failing)]
    named = {check for cause in root_causes(found) for check in cause.checks}
    assert named == {f"{asset}.{name}" for asset, name, _ in failing}
