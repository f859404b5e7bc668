"""Fixtures of the migration's tests: staged databases on each server."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from dxy_pipeline.migration import backfill, retire, rollback
from dxy_pipeline_tests.migration.support import Stage
from dxy_pipeline_tests.pg_server import Cluster


@pytest.fixture(scope="session")
def stages(clusters: Callable[[int], Cluster]) -> Iterator[Callable[[int], Stage]]:
    """The staged databases by server version."""
    made: dict[int, Stage] = {}

    def stage(major: int) -> Stage:
        if major not in made:
            made[major] = Stage(clusters(major), lambda: clusters(18).url())
        return made[major]

    yield stage
    for one in made.values():
        shutil.rmtree(one.files, ignore_errors=True)


@pytest.fixture
def stage(stages: Callable[[int], Stage]) -> Stage:
    """Staged databases on PostgreSQL 18."""
    return stages(18)


@pytest.fixture
def any_stage(any_server: Cluster, stages: Callable[[int], Stage]) -> Stage:
    """Staged databases on each server."""
    return stages(any_server.major)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two days, so that a few days are several batches."""
    for module in (backfill, retire, rollback):
        monkeypatch.setattr(module, "BATCH_DAYS", 2)
