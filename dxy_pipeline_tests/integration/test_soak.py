"""The soak's profiles: ten market days under fire, and every bar compared at the end.

The short one strikes several blows at once and belongs to the normal suite; the long one strikes each fault by itself,
sees its recovery, and judges the alerts.
"""

from pathlib import Path

import pytest

from dxy_pipeline.db.embedded import EmbeddedServer
from dxy_pipeline_tests.ordinary_user import as_ordinary_user
from dxy_pipeline_tests.soak.faults import DISK, NotHere
from dxy_pipeline_tests.soak.run import LONG, SHORT, Profile, soak
from dxy_pipeline_tests.soak.stack import Stack, small_disk
from dxy_pipeline_tests.ui.dagster_ui import free_port


def assert_holds(profile: Profile) -> set[str]:
    """Run a soak; raise with every line that does not hold and the course of events, or return what was judged."""
    said: list[str] = []
    rows = soak(profile, said.append)
    wrong = [f"{row.what}: {row.found} (must: {row.must})" for row in rows if not row.passed]
    assert not wrong, "\n".join([*wrong, *said])
    return {row.what for row in rows}


@pytest.mark.services
@pytest.mark.timeout(1800)  # under 3 minutes on two free cores
def test_ten_market_days_under_fire() -> None:
    judged = assert_holds(SHORT)
    assert {"DXY 1m = recomputed", "DXY 5m = recomputed", "DXY 1h = recomputed"} <= judged


@pytest.mark.deep
@pytest.mark.services
@pytest.mark.timeout(3500)
def test_ten_market_days_with_each_fault_and_its_recovery() -> None:
    assert "messages that arrived" in assert_holds(LONG)


def test_where_nothing_may_be_mounted_the_full_disk_is_left_out(tmp_path: Path) -> None:
    def blow() -> str:
        stack = Stack(tmp_path, EmbeddedServer(tmp_path), small_disk(tmp_path), free_port())
        with pytest.raises(NotHere) as left_out:
            DISK.strike(stack)
        return str(left_out.value)

    assert as_ordinary_user(blow) == "no small file system may be mounted here"
