"""Fixtures for every test: real PostgreSQL servers, a database for each test, a clock that stands still.

`empty_db`, `db`, `conn` live on PostgreSQL 18 (the embedded one). `any_server`, `any_empty_db`, `any_db`, `any_conn`
run the test on 18 and on 15: take them for everything that depends on SQL or on a database's shape.
"""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline_tests import pg_server
from dxy_pipeline_tests.pg_server import Cluster

# A shell's background job ignores Ctrl-C, and so would every program that is started here and is asked to end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

NOW = datetime(2024, 6, 12, 12, 0, tzinfo=UTC)  # a Wednesday noon, the market open since Sunday


def pytest_report_header() -> str:
    """Say on which servers the SQL tests run: an absent PostgreSQL 15 must be seen."""
    found = pg_server.versions()
    missing = "" if pg_server.OLD_MAJOR in found else f"; PostgreSQL {pg_server.OLD_MAJOR} is not here, not tested"
    return f"SQL tests on PostgreSQL {', '.join(map(str, found))}{missing}"


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Print the matrix of faults, once, on the controller; a run that lost faults on its way fails."""
    yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal and not hasattr(session.config, "workerinput"):
        from dxy_pipeline_tests.faults import faults, matrix

        names = [fault.name for fault in faults.FAULTS]
        if matrix.conclude(terminal, session.config, names, matrix.FILE) and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> Iterator[None]:
    """No test may see the developer's databases, keys or directories."""
    keep = {"DXY_TEST_PG_BINDIR"}
    ours = ("DXY_", "DAGSTER_", "MASSIVE_", "PG", "DATABASE_URL", "DIRECT_URL")
    removed = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(ours) and name not in keep}
    directory = pg_server.new_root()
    os.environ["DXY_DATA_DIR"] = str(directory)
    yield
    del os.environ["DXY_DATA_DIR"]
    pg_server.remove(directory)
    os.environ.update(removed)


@pytest.fixture(scope="session")
def clusters(_own_environment: None) -> Iterator[Callable[[int], Cluster]]:
    """The servers of this session by major version, each started when first asked for."""
    pg_server.sweep()
    running: dict[int, Cluster] = {}

    def cluster(major: int) -> Cluster:
        if major not in running:
            running[major] = Cluster(major)
        return running[major]

    yield cluster
    for one in running.values():
        one.close()


@pytest.fixture(scope="session")
def server(clusters: Callable[[int], Cluster]) -> Cluster:
    """The PostgreSQL 18 server."""
    return clusters(18)


@pytest.fixture(scope="session")
def pg15_server(clusters: Callable[[int], Cluster]) -> Cluster:
    """The PostgreSQL 15 server; raises where it is not installed (take `any_server` to go without)."""
    return clusters(pg_server.OLD_MAJOR)


@pytest.fixture(scope="session", params=pg_server.versions(), ids=lambda major: f"pg{major}")
def any_server(request: pytest.FixtureRequest, clusters: Callable[[int], Cluster]) -> Cluster:
    """Each of the servers that SQL must work on."""
    return clusters(request.param)


@pytest.fixture
def new_database() -> Iterator[Callable[..., str]]:
    """A function `new_database(server, head=True)` that creates one more database for this test: its URL."""
    made: list[tuple[Cluster, str]] = []

    def create(cluster: Cluster, *, head: bool = True) -> str:
        made.append((cluster, cluster.create(head=head)))
        return made[-1][1]

    yield create
    for cluster, url in made:
        cluster.drop(url)


@pytest.fixture
def empty_db(server: Cluster, new_database: Callable[..., str]) -> str:
    """URL of a new empty database."""
    return new_database(server, head=False)


@pytest.fixture
def db(server: Cluster, new_database: Callable[..., str]) -> str:
    """URL of a new database at the schema's head."""
    return new_database(server)


@pytest.fixture
def conn(db: str) -> Iterator[psycopg.Connection]:
    """An autocommit connection to `db`, time zone UTC."""
    with psycopg.connect(db, autocommit=True, options="-c TimeZone=UTC") as connection:
        yield connection


@pytest.fixture
def any_empty_db(any_server: Cluster, new_database: Callable[..., str]) -> str:
    """URL of a new empty database, on each server."""
    return new_database(any_server, head=False)


@pytest.fixture
def any_db(any_server: Cluster, new_database: Callable[..., str]) -> str:
    """URL of a new database at the schema's head, on each server."""
    return new_database(any_server)


@pytest.fixture
def any_conn(any_db: str) -> Iterator[psycopg.Connection]:
    """An autocommit connection to `any_db`, time zone UTC."""
    with psycopg.connect(any_db, autocommit=True, options="-c TimeZone=UTC") as connection:
        yield connection


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter and write to; servers left running in it are ended.

    Not `tmp_path`: pytest's is closed to all but its owner, and as root the server runs as another user.
    """
    directory = pg_server.new_root()
    directory.chmod(0o777)
    yield directory
    pg_server.remove(directory)


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands at `NOW`."""
    return FixedClock(NOW)
