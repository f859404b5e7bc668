"""The soak's short profile: ten market days in a minute, several blows at once, and every bar compared at the end."""

import pytest

from dxy_pipeline_tests.soak.run import LONG, SHORT, soak


@pytest.mark.deep
@pytest.mark.services
@pytest.mark.timeout(900)  # under 3 minutes on two free cores
def test_ten_market_days_under_fire() -> None:
    said: list[str] = []
    rows = soak(SHORT, said.append)
    wrong = [f"{row.what}: {row.found} (must: {row.must})" for row in rows if not row.passed]
    assert not wrong, "\n".join([*wrong, *said])
    assert {"DXY 1m = recomputed", "DXY 5m = recomputed", "DXY 1h = recomputed"} <= {row.what for row in rows}


@pytest.mark.deep
@pytest.mark.services
@pytest.mark.timeout(3000)
def test_ten_market_days_with_each_fault_and_its_recovery() -> None:
    said: list[str] = []
    rows = soak(LONG, said.append)
    wrong = [f"{row.what}: {row.found} (must: {row.must})" for row in rows if not row.passed]
    assert not wrong, "\n".join([*wrong, *said])
    assert "messages that arrived" in {row.what for row in rows}
