"""The embedded server's life: start, stop, awkward paths, crashes, several starters. All with real servers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from dxy_pipeline.db import embedded_account
from dxy_pipeline.db.embedded import EmbeddedServer
from dxy_pipeline.db.embedded_account import Account
from dxy_pipeline.errors import UserError
from dxy_pipeline_tests.ordinary_user import as_ordinary_user, ordinary_user
from dxy_pipeline_tests.pg_server import Cluster, reachable_bindir

QUICK = {"fsync": "off", "shared_buffers": "16MB"}

STARTER = """
import sys
from pathlib import Path
from dxy_pipeline.db.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), settings={"fsync": "off", "shared_buffers": "16MB"})
print("started" if server.start() else "found", flush=True)
if sys.argv[2:] == ["stay"]:
    sys.stdin.read()
"""


def quick(data_dir: Path) -> EmbeddedServer:
    return EmbeddedServer(data_dir, settings=QUICK)


def starter(data_dir: Path, *options: str) -> "subprocess.Popen[str]":
    """A process of its own, leading a process group of its own, that starts the server."""
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(data_dir), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(condition: Callable[[], object], limit: float = 60) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def ask(server: EmbeddedServer, question: str, dbname: str = "postgres") -> str:
    with psycopg.connect(server.url(dbname), autocommit=True) as conn:
        row = conn.execute(question.encode()).fetchone()
    return str(row and row[0])


def main_pid(server: EmbeddedServer) -> int:
    return int((server.cluster / "postmaster.pid").read_text().split()[0])


def kill_server(server: EmbeddedServer) -> int:
    """Kill the main process as the kernel would, and wait until it is gone (a zombie of ours counts as gone)."""
    process = psutil.Process(main_pid(server))
    process.kill()
    until(lambda: not _lives(process))
    return process.pid


def test_life(place: Path) -> None:
    server = EmbeddedServer(place)
    assert not server.running()
    assert server.start()
    assert not server.start()
    assert server.running()
    assert server.ensure_database("market data")
    assert not server.ensure_database("market data")
    with psycopg.connect(server.url("market data"), autocommit=True) as conn:
        conn.execute("create table kept as select 42 as answer")
    assert server.stop()
    assert not server.stop()
    assert not server.running()
    assert server.start()
    assert ask(server, "select answer from kept", "market data") == "42"
    server.stop()


def test_server_settings(place: Path) -> None:
    server = EmbeddedServer(place)
    server.start()
    wanted = {
        "listen_addresses": "",
        "timezone": "UTC",
        "fsync": "on",
        "max_connections": "100",
        "shared_buffers": "256MB",
        # together: no log file is older or longer than a day's worth of its hour
        "log_filename": "server-%H.log",
        "log_rotation_age": "1h",
        "log_truncate_on_rotation": "on",
    }
    shown = {name: ask(server, f"show {name}") for name in wanted}
    server.stop()
    assert shown == wanted


def test_nobody_else_reaches_it(place: Path) -> None:
    server = quick(place)
    server.start()
    assert server.cluster.stat().st_mode & 0o777 == 0o700
    assert server.cluster.stat().st_uid == Account.current().uid != 0
    listening = {c.laddr for c in psutil.Process(main_pid(server)).net_connections(kind="inet")}
    assert listening == set()
    if os.geteuid() == 0:

        def intrude() -> str:
            try:
                return str(psycopg.connect(server.url()).info.server_version)
            except psycopg.OperationalError as error:
                return str(error)

        assert "Permission denied" in as_ordinary_user(intrude)
    server.stop()


def test_the_callers_environment_does_not_count(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGTZ": "Asia/Tokyo", "LC_ALL": "xx_YY.UTF-8"}.items():
        monkeypatch.setenv(name, value)
    server = quick(place)
    server.start()
    monkeypatch.delenv("PGTZ")  # libpq sends this one to any server
    assert ask(server, "show timezone") == "UTC"
    assert ask(server, "show lc_messages") == "C"
    server.stop()


@pytest.mark.parametrize(
    "name",
    [
        "with blanks in it",
        "comma,and;semicolon",
        'it\'s "quoted"',
        "dollar $HOME `id` 100%41",
        "a=b&c?d#e@f:g",
        "Kurse-März-日経",
        "-leading-dash",
        "x" * 120,
        "/".join(["deep" * 10] * 12),
    ],
)
def test_awkward_paths(place: Path, name: str) -> None:
    server = quick(place / name)
    server.start()
    assert ask(server, "select count(*) from pg_database") == "3"
    assert quick(place / name).start() is False
    with psycopg.connect(server.url()) as conn:
        assert conn.info.backend_pid > 0
    assert server.stop()
    assert server.socket_dir == server.cluster or not server.socket_dir.exists()  # nothing is left in /tmp


def test_a_path_that_postgresql_would_cut_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match="longer than 900 bytes"):
        quick(place / "/".join(["d" * 200] * 5)).start()


def test_two_names_of_one_directory(place: Path) -> None:
    """A link with a short name to a long path: both processes must agree on the socket."""
    (place / ("long" * 30)).mkdir()
    (place / "link").symlink_to(place / ("long" * 30))
    by_name, by_link = quick(place / ("long" * 30)), quick(place / "link")
    assert by_name.start()
    assert not by_link.start()
    assert by_link.url() == by_name.url()
    by_link.stop()
    assert not by_name.running()


def test_ordinary_user(place: Path) -> None:
    bindir = reachable_bindir()

    def life() -> tuple[bool, int]:
        server = EmbeddedServer(place, bindir=bindir, settings=QUICK)
        started = server.start()
        owner = server.cluster.stat().st_uid
        server.stop()
        return started, owner

    assert as_ordinary_user(life) == (True, ordinary_user().pw_uid)


# --- crashes


def test_killed_server_recovers_committed_rows(place: Path) -> None:
    server = EmbeddedServer(place, settings={"shared_buffers": "16MB"})  # fsync on, as users have it
    server.start()
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute("create table kept as select generate_series(1, 20000) as n")
    kill_server(server)
    assert not server.running()
    assert server.start()
    assert ask(server, "select count(*) from kept") == "20000"
    server.stop()


def test_sessions_of_a_killed_server_do_not_block_the_next(place: Path) -> None:
    server = quick(place)
    server.start()
    with psycopg.connect(server.url(), autocommit=True) as conn:
        busy = psutil.Process(conn.info.backend_pid)
        conn.pgconn.send_query(b"select count(*) from generate_series(1, 1e12::bigint)")  # never looks up
        kill_server(server)
        assert _lives(busy)
        assert server.start()
        assert not _lives(busy)
        conn.close()
    assert ask(server, "select 1") == "1"
    server.stop()


def test_a_shell_in_the_data_directory_is_left_alone(place: Path) -> None:
    server = quick(place)
    server.start()
    with subprocess.Popen(["sleep", "600"], cwd=server.cluster, **_as_account()) as shell:
        kill_server(server)
        server.start()
        assert shell.poll() is None
        shell.kill()
    server.stop()


def test_stale_pid_file_of_another_program(place: Path) -> None:
    server = quick(place)
    server.start()
    kill_server(server)
    with subprocess.Popen(["sleep", "600"], **_as_account()) as other:  # the same user: a signal would reach it
        pid_file = server.cluster / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        assert not server.running()
        assert not server.stop()
        assert server.start()
        assert main_pid(server) != other.pid
        assert other.poll() is None
        other.kill()
    server.stop()


def test_stale_pid_file_of_another_cluster(place: Path, server: Cluster) -> None:
    """After a reboot the pid may be another PostgreSQL's: it must neither be taken for ours nor be stopped."""
    other = main_pid(server.server)
    mine = quick(place)
    mine.start()
    kill_server(mine)
    pid_file = mine.cluster / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(other), *lines[1:]]) + "\n")
    assert not mine.stop()
    assert mine.start()
    assert ask(mine, "show data_directory") == str(mine.cluster)
    assert psutil.pid_exists(other)
    assert ask(server.server, "select 1") == "1"
    mine.stop()


@pytest.mark.parametrize("content", ["", "garbage\n", "99999999\n/nowhere\n"])
def test_damaged_pid_file(place: Path, content: str) -> None:
    server = quick(place)
    server.start()
    kill_server(server)
    (server.cluster / "postmaster.pid").write_text(content)
    assert server.start()
    server.stop()


def test_waits_through_recovery_and_says_so(place: Path) -> None:
    """A standby that never opens is what a long crash recovery looks like from outside."""
    quick(place).start()
    quick(place).stop()
    signal_file = quick(place).cluster / "standby.signal"
    signal_file.touch()
    _give_to_account(signal_file)
    said: list[str] = []
    recovering = {**QUICK, "hot_standby": "off", "restore_command": "false"}

    hurried = EmbeddedServer(place, settings=recovering, start_limit=1)
    with pytest.raises(UserError, match="not ready after 1 s") as caught:
        hurried.start()
    assert "goes on by itself" in caught.value.hint
    assert hurried.running()

    patient = EmbeddedServer(place, settings=recovering, progress=said.append)
    thread = threading.Thread(target=patient.start)
    thread.start()
    until(lambda: said)
    assert thread.is_alive()
    subprocess.run(
        [patient.binaries.program("pg_ctl"), "-D", patient.cluster, "-W", "promote"],
        check=True,
        stdout=subprocess.DEVNULL,
        **_as_account(),
    )
    thread.join(60)
    assert not thread.is_alive()
    assert "the server is recovering" in said[0]
    assert ask(patient, "select pg_is_in_recovery()") == "False"
    patient.stop()


def test_all_connections_taken_is_still_running(place: Path) -> None:
    server = EmbeddedServer(place, settings={**QUICK, "max_connections": "5", "max_wal_senders": "1"})
    server.start()
    taken = [psycopg.connect(server.url()) for _ in range(5)]
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        psycopg.connect(server.url())
    assert server.start() is False
    for conn in taken:
        conn.close()
    server.stop()


def test_a_lost_socket_is_said(place: Path) -> None:
    server = quick(place)
    server.start()
    (server.socket_dir / ".s.PGSQL.5432").unlink()
    with pytest.raises(UserError, match="its socket is not in") as caught:
        server.start()
    assert "dxy db stop" in caught.value.hint
    assert server.stop()
    assert server.start()
    server.stop()


# --- several starters


def test_concurrent_starters(place: Path) -> None:
    starters = [starter(place) for _ in range(4)]
    answers = sorted(process.communicate(timeout=120)[0].strip() for process in starters)
    assert answers == ["found", "found", "found", "started"]
    assert quick(place).stop()


def test_the_starters_end_does_not_end_the_server(place: Path) -> None:
    """Ctrl-C goes to the whole process group of a terminal: the server must not be in it, so that we can stop it."""
    process = starter(place, "stay")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    server = quick(place)
    pid = main_pid(server)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(30)
    assert ask(server, "select 1") == "1"
    assert main_pid(server) == pid
    process = starter(place, "stay")
    assert process.stdout is not None
    assert process.stdout.readline() == "found\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    assert main_pid(server) == pid
    assert server.stop()


def test_killed_initdb_leaves_nothing_half(place: Path) -> None:
    process = starter(place)
    until(lambda: list(place.glob("pg18.new-*/PG_VERSION")))
    os.killpg(process.pid, signal.SIGKILL)  # starter and initdb
    process.wait(30)
    server = quick(place)
    assert not server.cluster.exists()
    assert server.start()
    assert not list(place.glob("*.new-*"))
    server.stop()


def test_killed_starter_whose_initdb_goes_on(place: Path) -> None:
    """The orphan must not spoil the next starter's cluster when it ends, or cleans up after itself."""
    process = starter(place)
    until(lambda: list(place.glob("pg18.new-*/PG_VERSION")))
    process.kill()  # the starter alone
    process.wait(30)
    server = quick(place)
    assert server.start()
    until(lambda: not any("initdb" in p.name() and str(place) in " ".join(p.cmdline()) for p in _others()))
    assert ask(server, "select 1") == "1"
    server.stop()
    assert server.start()
    server.stop()


def test_stop_and_start_race(place: Path) -> None:
    """A start that meets a server on its way out starts a new one instead of failing."""
    server = quick(place)
    server.start()
    os.kill(main_pid(server), signal.SIGINT)  # not through stop(): no lock is held
    server.start()
    assert ask(server, "select 1") == "1"
    server.stop()


# --- a checkout that others cannot enter


@pytest.fixture
def closed_checkout(place: Path) -> Path:
    """A site-packages with PostgreSQL's programs in a directory of mode 0700, as in a clone under /root."""
    closed = place / "root"
    closed.mkdir(mode=0o700)
    package = quick(place).binaries.bindir.parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        subprocess.run(["cp", "-a", part, closed], check=True)
    return closed


def test_closed_checkout(closed_checkout: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's programs and data move to the shelter, where `nobody` gets at them; a user's stay where they are."""
    shelter = place / "shelter"
    monkeypatch.setattr(embedded_account, "SHELTERS", (shelter,))
    where = shelter if os.geteuid() == 0 else closed_checkout
    bindir = next(closed_checkout.glob("*/pginstall/bin"))

    def server(name: str) -> EmbeddedServer:
        return EmbeddedServer(closed_checkout / name / "var", bindir=bindir, settings=QUICK)

    one, two = server("one"), server("two")
    assert one.start()
    assert two.start()
    assert one.cluster != two.cluster  # keyed by the directory that was asked for
    assert where in one.cluster.parents
    assert where in one.binaries.bindir.parents
    one.ensure_database("mine")
    assert not server("one").start()
    assert server("one").url("mine") == one.url("mine")
    assert ask(server("one"), "select 1", "mine") == "1"
    with pytest.raises(psycopg.OperationalError):
        ask(two, "select 1", "mine")
    assert len(list(where.glob("*/**/bin/initdb"))) == 1  # copied once
    assert server("one").stop()
    assert two.stop()


def test_umask_does_not_matter(place: Path) -> None:
    before = os.umask(0o077)
    try:
        server = quick(place / "new" / "var")
        server.start()
    finally:
        os.umask(before)
    assert server.cluster == place / "new" / "var" / "pg18"
    server.stop()


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _others() -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if p.status() != psutil.STATUS_ZOMBIE and p.pid != os.getpid()]


def _as_account() -> dict[str, Any]:
    account = Account.current()
    return {"user": account.uid, "group": account.gid} if account.drop else {}


def _give_to_account(path: Path) -> None:
    account = Account.current()
    if account.drop:
        os.chown(path, account.uid, account.gid)
