"""Five writers that never stop, through all phases forward and back: nothing lost, nothing extra, nothing failed."""

import pytest

from dxy_pipeline_tests.migration import oracle
from dxy_pipeline_tests.migration.support import Stage


@pytest.mark.parametrize("seconds", [12.0, pytest.param(120.0, marks=pytest.mark.deep)])
def test_no_acknowledged_write_is_lost(stage: Stage, seconds: float) -> None:
    with stage.at("P", "legacy") as db:
        result = oracle.run(db.url, db.migration, seconds)
        assert result.violations == []
        assert result.failed == {}
        assert len(result.writes) > 5 * seconds
        assert result.longest_exclusive_ms < 500
        # A hundred writes are too few for a percentile: the bound of 2 x baseline + 20 ms belongs to the long run.
        slack = 20 if seconds > 60 else 500
        assert result.p99_ms(baseline=False) <= 2 * result.p99_ms(baseline=True) + slack
