"""Secrets are planted in every setting that may hold one; then the real things run, and nothing they leave shows one.

Looked at: terminal output with `--debug`, every file written, every row of the market database and of Dagster's
storage (its compressed snapshots unpacked), what the webserver tells, the arguments of every process on the machine.
Each place is shown to have been reached: a search that could find nothing proves nothing.
"""

import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pytest
from psycopg import sql

from dxy_pipeline import alerts
from dxy_pipeline.alerts.case import Cause
from dxy_pipeline.cli import main
from dxy_pipeline.db import schema
from dxy_pipeline.db.embedded import EmbeddedServer
from dxy_pipeline_tests.bars import scalar
from dxy_pipeline_tests.massive_server import MassiveServer
from dxy_pipeline_tests.pg_server import Cluster
from dxy_pipeline_tests.receiver import Receiver, receiving
from dxy_pipeline_tests.shapes import build_shape_s
from dxy_pipeline_tests.ui.dagster_ui import Up, wait_for

PLANTED = "PLANTED"  # begins each secret; what follows says where it came from
MARKET, STORAGE, KEY, TOKEN = f"{PLANTED}-market/pw", f"{PLANTED}-storage/pw", f"{PLANTED}-key", f"{PLANTED}-token"


def with_password(url: str, password: str) -> str:
    """Put a password into the URL of a server that trusts us anyway."""
    scheme, _, rest = url.partition("://")
    user, _, place = rest.partition("@")
    return f"{scheme}://{user}:{quote(password, safe='')}@{place}"


@contextmanager
def onlooking() -> Iterator[set[str]]:
    """Be another user of the machine, who reads every process's arguments all the time: what was seen."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            seen.update(" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(10)


def clean(where: str, text: str) -> None:
    """Fail when a secret stands in `text`, and show its surroundings."""
    place = text.find(PLANTED)
    assert place < 0, f"{where}: …{text[max(place - 200, 0) : place + 60]}…"


def clean_files(root: Path) -> int:
    """Search every file under `root`; returns how many were read."""
    found = [path for path in root.rglob("*") if path.is_file()]
    for path in found:
        clean(str(path), path.read_bytes().decode("utf-8", errors="replace"))
    return len(found)


def clean_database(conn: psycopg.Connection) -> set[str]:
    """Search every column of every row of every table; returns the tables that had any."""
    tables = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
    ).fetchall()
    filled = set()
    for schema_name, name in tables:
        table = sql.Identifier(schema_name, name)
        for (row,) in conn.execute(
            sql.SQL("SELECT t::text FROM {} AS t WHERE t::text LIKE {}").format(table, sql.Literal(f"%{PLANTED}%"))
        ).fetchall():
            clean(f"{schema_name}.{name}", row)
        if conn.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(table)).fetchone():
            filled.add(name)
    if "snapshots" in filled:
        for (body,) in conn.execute("SELECT snapshot_body FROM snapshots").fetchall():
            clean("snapshots", zlib.decompress(body).decode())
    return filled


@dataclass
class Places:
    """Two databases, a feed that quotes the key in its refusals, a receiver of alerts; and the settings that name them."""

    market: str
    storage: str
    feed: MassiveServer
    receiver: Receiver

    @property
    def dead_target(self) -> str:
        return f"json://{TOKEN}:{TOKEN}@127.0.0.1:1/{TOKEN}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": with_password(self.market, MARKET),
            "DIRECT_URL": with_password(self.market, MARKET),
            "DXY_REPLICA_URL": with_password(self.market, MARKET),
            "DXY_DAGSTER_PG_URL": with_password(self.storage, STORAGE),
            "DXY_FX_SOURCE": "massive",
            "MASSIVE_API_KEY": KEY,
            "DXY_MASSIVE_BASE_URL": self.feed.url,
            "DXY_ALERT_URLS": f"json://{TOKEN}:{TOKEN}@127.0.0.1:{self.receiver.port}/{TOKEN} {self.dead_target}",
        }


@pytest.fixture
def places(db: str, empty_db: str) -> Iterator[Places]:
    with MassiveServer() as feed, receiving() as receiver:
        feed.mood, feed.key = "403", KEY
        yield Places(db, empty_db, feed, receiver)


ALL_OF_INSTANCE = "{instance{info} version}"
RANGE = "mutation($p: ExecutionParams!){launchRun(executionParams: $p){__typename}}"


def launch(up: Up, job: str, day: str) -> None:
    selector = {"repositoryLocationName": "dxy_pipeline", "repositoryName": "__repository__", "jobName": job}
    tags = [{"key": "dagster/partition", "value": day}]
    said = up.ask(RANGE, p={"selector": selector, "executionMetadata": {"tags": tags}})
    assert said["launchRun"]["__typename"] == "LaunchRunSuccess", said


def queue_an_alert(conn: psycopg.Connection, urls: list[str]) -> None:
    """An incident that has fired just now: the monitoring's first look has something to send."""
    labels = [target.label for target in alerts.targets(urls)]
    cause = Cause("dxy minutes", "stored DXY minutes are wrong", {"dxy_1m.drift": "ERROR"})
    now = datetime.now(UTC)
    for minutes in (4, 2, 0):
        alerts.advance(conn, [cause], now - timedelta(minutes=minutes), labels=labels)


@pytest.mark.services
@pytest.mark.timeout(400)
def test_the_services_show_none(places: Places, server: Cluster, place: Path) -> None:
    """Webserver and daemon on a desk's databases: a refused live fetch, a failing run by hand, alerts that fail."""
    with psycopg.connect(places.market, autocommit=True) as conn, onlooking() as arguments:
        queue_an_alert(conn, places.environment["DXY_ALERT_URLS"].split())
        up = Up.start(place / "data", **places.environment)
        try:
            launch(up, "materialize_range", "2024-06-12")
            failed = wait_for("the run by hand fails", lambda: [r for r in up.runs() if r["status"] == "FAILURE"])
            wait_for(
                "a live run has met the refusal",
                lambda: scalar(conn, "SELECT detail FROM dxy.feed_progress WHERE feed = 'massive'"),
            )
            attempts = "SELECT count(*) FROM dxy.alert_delivery WHERE attempts > 0"
            wait_for("both alerts were tried", lambda: scalar(conn, attempts) == 2)
            clean("what the webserver tells", str(up.ask(ALL_OF_INSTANCE)) + str(up.runs()))
        finally:
            up.stop()
        refusal = scalar(conn, "SELECT detail FROM dxy.feed_progress")
        assert "***" in refusal, "the feed quoted the key"
        assert {call.authorization for call in places.feed.calls} == {f"Bearer {KEY}"}
        assert any("DXY firing" in title for title in places.receiver.titles)
        assert scalar(conn, "SELECT last_error FROM dxy.alert_delivery WHERE delivered_at IS NULL")
        assert {"alert_delivery", "incident", "feed_progress", "heartbeat"} <= clean_database(conn)
    with psycopg.connect(places.storage, autocommit=True) as conn:
        filled = clean_database(conn)
        assert {"event_logs", "runs", "run_tags", "job_ticks", "snapshots"} <= filled
        said = scalar(conn, "SELECT string_agg(event, ' ') FROM event_logs WHERE run_id = %s", failed[0]["runId"])
        assert "the Massive plan does not include" in said
    assert clean_files(place) > 5
    clean_files(server.root)
    for line in arguments:
        clean("the arguments of a process", line)
    for program in ("dagster-daemon", "dagster-webserver", "grpc"):
        assert any(program in line for line in arguments), f"{program} was not seen"


Cli = Callable[..., str]


@pytest.fixture
def dxy(places: Places, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: Path) -> Cli:
    """A function that runs `dxy --debug …` in this process with the planted settings: all that it printed."""

    def run(*args: str, **environment: str) -> str:
        planted = {**places.environment, "DXY_DATA_DIR": str(place / "data"), **environment}
        for name, value in planted.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["dxy", "--debug", *args])
        capfd.readouterr()
        with suppress(SystemExit):
            main()
        printed = "".join(capfd.readouterr())
        clean(f"dxy {' '.join(args)}", printed)
        return printed

    return run


DAY = ("--from", "2024-06-12", "--to", "2024-06-13")
COMMANDS = [
    ("status",),
    ("db", "url"),
    ("db", "plan"),
    ("db", "upgrade"),
    ("checks", "run"),
    ("alerts", "list"),
    ("alerts", "test"),
    ("watchdog", "--once"),
    ("backfill", *DAY),
    ("load", "massive", *DAY),
    ("migrate", "plan"),
    ("migrate", "status"),
    ("migrate", "prepare"),
    ("migrate", "rollback"),
]


def test_no_command_prints_one(dxy: Cli, places: Places, db: str) -> None:
    printed = {command: dxy(*command) for command in COMMANDS}
    assert ":***@" in printed["db", "url"]
    assert "apiKey=***" in printed["load", "massive", *DAY]
    assert "Traceback" in printed["load", "massive", *DAY], "--debug shows where it comes from"
    assert "cannot be reached" in printed["alerts", "test"]
    with psycopg.connect(db, autocommit=True) as conn:
        clean_database(conn)


# Passwords as people write them, unescaped ones too: then no parser agrees on where the password ends.
WRONG = {
    "unreachable": f"postgresql://u:{PLANTED}@127.0.0.1:1/d",
    "unknown host": f"postgresql://u:{PLANTED}@nowhere.invalid/d",
    "no number for a port": f"postgresql://u:{PLANTED}@h:port/d",
    "with a slash": f"postgresql://u:{PLANTED}/{PLANTED}@127.0.0.1:1/d",
    "with a hash": f"postgresql://u:{PLANTED}#{PLANTED}@127.0.0.1:1/d",
    "with a question mark": f"postgresql://u:{PLANTED}?{PLANTED}@127.0.0.1:1/d",
    "with an at sign": f"postgresql://u:{PLANTED}@{PLANTED}@127.0.0.1:1/d",
    "with a colon": f"postgresql://u:{PLANTED}:x@127.0.0.1:1/d",
    "with a bracket": f"postgresql://u:{PLANTED}[x@127.0.0.1:1/d",
    "with a percent sign": f"postgresql://u:{PLANTED}%zz@127.0.0.1:1/d",
    "with a blank": f"postgresql://u:{PLANTED} {PLANTED}@127.0.0.1:1/d",
    "as keywords": f"host=127.0.0.1 port=1 user=u password={PLANTED}",
    "as broken keywords": f"host=127.0.0.1 port=1 user=u password='{PLANTED}",
    "another database": f"mysql://u:{PLANTED}@h/d",
    "as a parameter": f"postgresql://u@127.0.0.1:1/d?password={PLANTED}&sslmode=nonsense",
}


@pytest.mark.parametrize("case", WRONG)
def test_no_refused_address_prints_one(dxy: Cli, case: str) -> None:
    url = {"DATABASE_URL": WRONG[case], "DIRECT_URL": WRONG[case], "DXY_REPLICA_URL": WRONG[case]}
    for command in (("status",), ("db", "plan"), ("db", "url"), ("migrate", "plan"), ("watchdog", "--once")):
        assert dxy(*command, **url).strip()


@pytest.mark.parametrize("case", ["unreachable", "with an at sign", "as a parameter"])
def test_no_refused_storage_prints_one(case: str, tmp_path: Path) -> None:
    """Dagster itself opens its storage: the message of a process that could not is checked from outside."""
    code = "from dagster import DagsterInstance; DagsterInstance.get().get_runs_count()"
    (tmp_path / "dagster.yaml").write_text((Path(__file__).parents[2] / "dagster.yaml").read_text())
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "DXY_DAGSTER_PG_URL": WRONG[case]}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode
    clean(case, done.stdout + done.stderr)


def test_a_migrations_programs_show_none(server: Cluster, empty_db: str, dxy: Cli, place: Path) -> None:
    """`prepare` dumps and restores with programs of PostgreSQL: what they are called with is for everybody to see."""
    with psycopg.connect(empty_db, autocommit=True) as conn:
        build_shape_s(conn)
        schema.upgrade(conn)
    url = with_password(empty_db, MARKET)
    try:
        with onlooking() as arguments:
            printed = dxy("migrate", "prepare", "--accept-native", "--json", DATABASE_URL=url, DIRECT_URL=url)
    finally:
        EmbeddedServer(place / "data").stop()
    assert "Traceback" not in printed, printed
    for line in arguments:
        clean("the arguments of a process", line)
    assert any("pg_dump" in line for line in arguments)
    assert any("pg_restore" in line for line in arguments)
    with psycopg.connect(empty_db, autocommit=True) as conn:
        assert {"migration_audit", "migration_backup"} <= clean_database(conn)
    for path in (place / "data").rglob("*.log"):
        clean(str(path), path.read_text(errors="replace"))


def test_the_search_finds_what_is_there(conn: psycopg.Connection, tmp_path: Path) -> None:
    conn.execute("INSERT INTO dxy.heartbeat (name, beat_at, detail) VALUES ('x', now(), %s)", (f"a {KEY} b",))
    with pytest.raises(AssertionError, match=r"dxy\.heartbeat.*a PLANTED-key"):
        clean_database(conn)
    (tmp_path / "log").write_text(MARKET)
    with pytest.raises(AssertionError, match="log"):
        clean_files(tmp_path)
    with onlooking() as arguments, subprocess.Popen([sys.executable, "-c", "input()", TOKEN], stdin=subprocess.PIPE):
        wait_for("the argument is seen", lambda: any(TOKEN in line for line in list(arguments)), every=0.05)
