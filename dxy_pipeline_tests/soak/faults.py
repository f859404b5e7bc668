"""What is done to the services of a soak. Each fault makes sure that it bit, and cleans up behind itself.

A fault returns a few words on what it did; that the pipeline came back from it is `run`'s to see.
"""

import contextlib
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import psutil
import psycopg

from dxy_pipeline_tests.soak.plan import Orders
from dxy_pipeline_tests.soak.stack import Stack, code_servers, run_workers

LIMIT_S = 480.0  # nothing waits for long where the machine is free


@dataclass(frozen=True)
class Fault:
    """A name for the table, and what it does."""

    name: str
    strike: Callable[[Stack], str]


class NotHere(Exception):
    """This machine does not allow the fault (no mount); the verdict says so."""


def wait_for(what: str, probe: Callable[[], object], limit: float = LIMIT_S, every: float = 0.05) -> None:
    """Ask until the answer is true; a database that is down is no answer. Raises AssertionError naming `what`."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.Error, psutil.Error, OSError):
            if probe():
                return
        time.sleep(every)
    raise AssertionError(f"not within {limit:.0f} s: {what}")


def _kill(processes: list[psutil.Process]) -> str:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return f"{len(processes)} process(es)"


def kill_daemon(stack: Stack) -> str:
    """kill -9 the daemon with its code server and runs."""
    return _kill(stack.family("daemon"))


def kill_webserver(stack: Stack) -> str:
    """kill -9 the webserver with its code server."""
    return _kill(stack.family("webserver"))


def kill_code_server(stack: Stack) -> str:
    """kill -9 the daemon's code servers only; the daemon has to notice."""
    wait_for("a code server is up", lambda: code_servers(stack))
    return _kill(code_servers(stack))


def kill_run_worker(stack: Stack) -> str:
    """kill -9 the process of a run while it works."""
    wait_for("a run is under way", lambda: run_workers(stack))
    return _kill(run_workers(stack))


def restart_postgres(stack: Stack) -> str:
    """Stop and start PostgreSQL in order, while everything uses it."""
    stack.held.add("postgres")
    try:
        stack.server.stop()
        stack.server.start()
    finally:
        stack.held.discard("postgres")
    return "stopped and started"


def kill_postgres(stack: Stack) -> str:
    """kill -9 the main process of PostgreSQL."""
    pid = int((stack.server.cluster / "postmaster.pid").read_text().split()[0])
    psutil.Process(pid).kill()
    wait_for("PostgreSQL is back", lambda: stack.connect().close() or True)
    return f"pid {pid}"


def cut_connections(stack: Stack) -> str:
    """End every connection in both databases, several times."""
    cut = 0
    for _ in range(8):
        with contextlib.suppress(psycopg.Error), stack.connect() as conn:
            row = conn.execute(
                "SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity AS a"
                " WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()"
            ).fetchone()
            cut += row[0] if row else 0
        time.sleep(0.4)
    assert cut, "there was no connection to cut"
    return f"{cut} connections"


def fill_disk(stack: Stack) -> str:
    """Fill the file system of PostgreSQL until a write fails, keep it full for a while, and free it."""
    if not stack.mounted:
        raise NotHere("no small file system may be mounted here")
    ballast = stack.place / "disk" / "ballast"
    refused = ""
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(os.urandom(1 << 16) * 16)
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            try:
                with stack.connect() as conn:
                    conn.execute("CREATE TABLE IF NOT EXISTS public.soak_ballast (b bytea)")
                    conn.execute("INSERT INTO public.soak_ballast VALUES (%s)", (os.urandom(4 << 20),))
            except psycopg.Error as error:
                refused = refused or str(error).strip().splitlines()[0]
            time.sleep(0.3)
    finally:
        ballast.unlink(missing_ok=True)
    assert refused, "the disk was never full"
    wait_for("PostgreSQL takes writes again", lambda: _drop(stack))
    return refused[:60]


def _drop(stack: Stack) -> bool:
    with stack.connect() as conn:
        conn.execute("DROP TABLE IF EXISTS public.soak_ballast")
    return True


def clock_ahead(stack: Stack) -> str:
    """The feed's clock is 45 minutes ahead: it sends minutes that are not over; they are refused."""
    before = _future_rows(stack)
    with _ordered(stack, Orders(skew=45)):
        wait_for("bars of the future are refused", lambda: _future_rows(stack) > before)
    return f"{_future_rows(stack) - before} bars of the future refused"


def clock_behind(stack: Stack) -> str:
    """The feed's clock is three hours behind for a tick: what it held back has to be fetched later."""
    since = time.time()
    with _ordered(stack, Orders(skew=-180)):
        wait_for("a live run succeeds", lambda: live_runs(stack, since) >= 1, every=0.2)
    return "three hours held back"


def feed_down(stack: Stack) -> str:
    """The feed does not answer until the alert of it is out: a state and an incident, not a storm of failed runs."""
    since = time.time()
    with _ordered(stack, Orders(down=True)):
        wait_for("the feed is known to be down", lambda: _state(stack) == "unavailable")
        wait_for("the incident fires", lambda: _fires(stack, "source"), every=0.5)
    failed = live_runs(stack, since, "FAILURE")
    assert not failed, f"{failed} runs failed for it"
    return "shown as unavailable, told"


@contextlib.contextmanager
def _ordered(stack: Stack, orders: Orders) -> Generator[None]:
    orders.write(stack.orders)
    try:
        yield
    finally:
        Orders().write(stack.orders)


def _future_rows(stack: Stack) -> int:
    with stack.connect() as conn:
        row = conn.execute("SELECT count(*) FROM dxy.rejected_bar WHERE reason = 'time is in the future'").fetchone()
    return row[0] if row else 0


def _state(stack: Stack) -> str:
    with stack.connect() as conn:
        row = conn.execute("SELECT p.state FROM dxy.feed_progress AS p").fetchone()
    return row[0] if row else ""


def _fires(stack: Stack, cause: str) -> bool:
    with stack.connect() as conn:
        asked = "SELECT count(*) FROM dxy.incident AS i WHERE i.cause = %s AND i.state = 'firing'"
        row = conn.execute(asked, (cause,)).fetchone()
    return row is not None and row[0] > 0


def live_runs(stack: Stack, since: float = 0.0, status: str = "SUCCESS") -> int:
    """Return how many live runs that were asked for after `since` (seconds of the epoch) ended so."""
    with stack.connect("dagster") as conn:
        row = conn.execute(
            "SELECT count(*) FROM runs WHERE pipeline_name = 'live_minute' AND status = %s"
            " AND create_timestamp > to_timestamp(%s) AT TIME ZONE 'UTC'",
            (status, since),
        ).fetchone()
    return row[0] if row else 0


AHEAD, BEHIND = Fault("feed's clock ahead", clock_ahead), Fault("feed's clock behind", clock_behind)
DOWN, DISK = Fault("feed down", feed_down), Fault("disk filled", fill_disk)
DAEMON, WEBSERVER = Fault("daemon killed", kill_daemon), Fault("webserver killed", kill_webserver)
WORKER, CODE = Fault("run worker killed", kill_run_worker), Fault("code server killed", kill_code_server)
RESTART, KILL = Fault("PostgreSQL restarted", restart_postgres), Fault("PostgreSQL killed", kill_postgres)
CUT = Fault("connections cut", cut_connections)

# One after the other, each with its own recovery; and, for the short profile, several blows at once.
EACH = tuple((f,) for f in (AHEAD, DAEMON, RESTART, WORKER, CUT, WEBSERVER, KILL, BEHIND, CODE, DISK, DOWN))
TOGETHER = ((AHEAD, WEBSERVER, CUT), (WORKER, KILL), (DISK, DAEMON))
