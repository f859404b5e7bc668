"""What the tests of runs share: Dagster's storage in PostgreSQL, and the definitions on a test's database."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml
from dagster._core.test_utils import instance_for_test

from dxy_pipeline.dagster_storage import psycopg2_url
from dxy_pipeline.services import CHECKOUT
from dxy_pipeline_tests.pg_server import Cluster
from dxy_pipeline_tests.pipeline import Pipeline

SETTINGS = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())


@pytest.fixture
def pipeline(db: str, tmp_path: Path) -> Iterator[Pipeline]:
    """The definitions on `db` at `NOW`, Dagster's records in files: quick, for one process."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Pipeline.on(instance, db)


@pytest.fixture
def storage(server: Cluster, new_database: Callable[..., str]) -> str:
    """URL of an empty database for Dagster's records."""
    return new_database(server, head=False)


@pytest.fixture
def instance(storage: str, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with the storage that production has and the settings of our dagster.yaml; several may use it."""
    overrides: dict[str, Any] = {
        "storage": {"postgres": {"postgres_url": psycopg2_url(storage)}},
        "retention": SETTINGS["retention"],
    }
    with instance_for_test(overrides=overrides, temp_dir=str(tmp_path)) as found:
        yield found


@pytest.fixture
def dagster_db(instance: dg.DagsterInstance, storage: str) -> Iterator[psycopg.Connection]:
    """An autocommit connection to Dagster's records."""
    with psycopg.connect(storage, autocommit=True) as conn:
        yield conn
