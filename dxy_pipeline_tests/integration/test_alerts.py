"""Incidents and their messages: told once whoever looks and however often it restarts, retried, and never a secret."""

import json
import logging
import socket
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from typer.testing import CliRunner

from dxy_pipeline import alerts
from dxy_pipeline.alerts.case import Cause
from dxy_pipeline.alerts.delivery import send
from dxy_pipeline.checks.watch import MONITORING, look
from dxy_pipeline.checks.watchdog import Watchdog
from dxy_pipeline.cli import app
from dxy_pipeline.core.clock import FixedClock
from dxy_pipeline_tests.conftest import NOW
from dxy_pipeline_tests.receiver import SECRET, receiving

MINUTE = timedelta(minutes=1)
FEED = Cause("feed:EURUSD", "EURUSD feed is silent", {"fx_1m.freshness": "WARN"}, live=True)
DRIFT = Cause("dxy minutes", "stored DXY minutes are wrong", {"dxy_1m.drift": "ERROR"})


def step(conn: psycopg.Connection, now: datetime, *causes: Cause, labels: tuple[str, ...] = ()) -> list[str]:
    return [f"{turn.cause} {turn.state}" for turn in alerts.advance(conn, causes, now, labels=labels)]


def walk(conn: psycopg.Connection, start: datetime, minutes: int, *causes: Cause) -> list[str]:
    return [turn for minute in range(minutes) for turn in step(conn, start + minute * MINUTE, *causes)]


def waiting(conn: psycopg.Connection) -> list[tuple[Any, ...]]:
    return conn.execute(
        "SELECT d.event, d.attempts, d.last_error FROM dxy.alert_delivery AS d WHERE d.delivered_at IS NULL"
        " ORDER BY d.event"
    ).fetchall()


@contextmanager
def never_ending(manner: str) -> Generator[str]:
    """A service that takes a message and never ends its answer; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def answer(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            peer.recv(65536)
            if manner == "drip":
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not over.wait(0.1):
                if manner == "drip":
                    peer.sendall(b"x")

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"json://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        over.set()
        listener.close()


class TestIncidents:
    def test_fires_after_its_window_and_resolves_after_staying_away(self, conn: psycopg.Connection) -> None:
        assert walk(conn, NOW, 5, FEED) == []
        assert step(conn, NOW + 5 * MINUTE, FEED) == ["feed:EURUSD firing"]
        assert walk(conn, NOW + 6 * MINUTE, 30, FEED) == []
        assert step(conn, NOW + 37 * MINUTE) == []
        assert step(conn, NOW + 38 * MINUTE) == ["feed:EURUSD resolved"]
        assert walk(conn, NOW + 39 * MINUTE, 5) == []

    def test_the_windows_are_settings_of_the_database(
        self, db: str, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", db)
        shown = CliRunner().invoke(app, ["alerts", "windows", "--json"])
        assert json.loads(shown.output) == {"live_minutes": 5, "other_minutes": 2, "clear_minutes": 3, "flaps": 1}
        assert CliRunner().invoke(app, ["alerts", "windows", "--live", "9", "--clear", "2"]).exit_code == 0
        assert walk(conn, NOW, 9, FEED) == []
        assert step(conn, NOW + 9 * MINUTE, FEED) == ["feed:EURUSD firing"]
        assert walk(conn, NOW + 10 * MINUTE, 2) == ["feed:EURUSD resolved"]
        changed = CliRunner().invoke(app, ["alerts", "windows", "--flaps", "0", "--json"])
        assert json.loads(changed.output) == {"live_minutes": 9, "other_minutes": 2, "clear_minutes": 2, "flaps": 0}
        assert CliRunner().invoke(app, ["alerts", "windows", "--clear", "0"]).exit_code == 2
        back = CliRunner().invoke(app, ["alerts", "windows", "--defaults", "--other", "4", "--json"])
        assert json.loads(back.output) == {"live_minutes": 5, "other_minutes": 4, "clear_minutes": 3, "flaps": 1}

    def test_what_goes_away_before_its_window_is_told_to_nobody(self, conn: psycopg.Connection) -> None:
        assert walk(conn, NOW, 4, FEED) == []
        assert walk(conn, NOW + 4 * MINUTE, 5) == ["feed:EURUSD dismissed"]
        assert conn.execute("SELECT count(*) FROM dxy.alert_delivery").fetchone() == (0,)

    @pytest.mark.parametrize(("seen", "fires"), [
        ("sssssss", True), ("ssss-ss", True), ("s-sssss", True), ("s--s--s--s--s--s--s", False),
        ("s-s-s-s-s-s-s-s-s-s", False), ("ss-ss-ss-ss-ss-ss-ss", False), ("s-----s", False), ("sss...............s", False),
        ("s..s..s..s", True),
    ])  # fmt: skip
    def test_only_what_lasts_fires(self, conn: psycopg.Connection, seen: str, fires: bool) -> None:
        """Each letter a minute: s seen, - looked and not seen, . nobody looked. One look of a window may miss it."""
        turns = []
        for minute, what in enumerate(seen):
            if what != ".":
                turns += step(conn, NOW + minute * MINUTE, *([FEED] if what == "s" else []))
        assert ("feed:EURUSD firing" in turns) is fires

    def test_a_short_recovery_does_not_resolve(self, conn: psycopg.Connection) -> None:
        walk(conn, NOW, 6, FEED)
        assert step(conn, NOW + 7 * MINUTE) == []
        assert walk(conn, NOW + 8 * MINUTE, 5, FEED) == []

    def test_a_wrong_value_needs_no_open_market(self, conn: psycopg.Connection) -> None:
        saturday = datetime(2024, 6, 15, 12, tzinfo=UTC)
        assert walk(conn, saturday, 3, DRIFT) == ["dxy minutes firing"]

    def test_the_week_end_neither_ripens_nor_resolves_a_feed(self, conn: psycopg.Connection) -> None:
        friday = datetime(2024, 6, 14, 20, 50, tzinfo=UTC)  # ten minutes before the close
        assert walk(conn, friday, 6, FEED) == ["feed:EURUSD firing"]
        weekend = [friday + timedelta(hours=h) for h in (1, 12, 40)]
        assert [turn for at in weekend for turn in step(conn, at)] == []
        assert step(conn, datetime(2024, 6, 16, 21, 5, tzinfo=UTC)) == ["feed:EURUSD resolved"]

    def test_two_causes_are_two_incidents_and_a_second_time_is_a_new_one(self, conn: psycopg.Connection) -> None:
        assert walk(conn, NOW, 6, FEED, DRIFT) == ["dxy minutes firing", "feed:EURUSD firing"]
        walk(conn, NOW + 10 * MINUTE, 5)
        assert walk(conn, NOW + 60 * MINUTE, 6, FEED) == ["feed:EURUSD firing"]
        assert conn.execute("SELECT count(*) FROM dxy.incident WHERE cause = 'feed:EURUSD'").fetchone() == (2,)

    def test_the_gap_of_an_outage_that_was_told_is_not_told_again(self, conn: psycopg.Connection) -> None:
        walk(conn, NOW, 10, FEED)
        gap = Cause("feed:EURUSD", "gap", {"fx_1m.gaps": "WARN"}, spans=[(NOW - 6 * MINUTE, NOW + 9 * MINUTE)])
        assert walk(conn, NOW + 10 * MINUTE, 90, gap) == ["feed:EURUSD resolved"]

    def test_a_gap_nobody_was_told_of_is_told_once(self, conn: psycopg.Connection) -> None:
        old = NOW - timedelta(hours=20)
        gap = Cause("feed:EURUSD", "gap", {"fx_1m.gaps": "WARN"}, spans=[(old, old + 30 * MINUTE)])
        assert walk(conn, NOW, 60, gap) == ["feed:EURUSD firing"]

    def test_two_lookers_at_once_open_and_tell_one(self, db: str, conn: psycopg.Connection) -> None:
        walk(conn, NOW, 5, FEED)
        turns: list[str] = []

        def other() -> None:
            with psycopg.connect(db, autocommit=True) as mine:
                turns.extend(step(mine, NOW + 6 * MINUTE, FEED, labels=("json 1",)))

        threads = [threading.Thread(target=other) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert turns == ["feed:EURUSD firing"]
        assert conn.execute("SELECT count(*) FROM dxy.alert_delivery").fetchone() == (1,)


class TestDelivery:
    def test_one_message_for_each_event_over_restarts(self, db: str) -> None:
        with receiving() as receiver:
            to = alerts.targets([receiver.url])
            for minute in range(30):  # every look from a new connection, as after a restart
                now = NOW + minute * MINUTE
                with psycopg.connect(db, autocommit=True) as mine:
                    alerts.advance(mine, [FEED] if minute < 15 else [], now, labels=[t.label for t in to])
                    alerts.deliver(mine, to, now)
        assert receiver.titles == ["DXY firing: feed:EURUSD (WARN)", "DXY resolved: feed:EURUSD (WARN)"]
        assert "EURUSD feed is silent" in receiver.bodies[0]

    def test_a_failing_service_is_tried_again_and_shown_meanwhile(self, conn: psycopg.Connection) -> None:
        with receiving() as receiver:
            receiver.failing = 4
            to = alerts.targets([receiver.url])
            labels = tuple(t.label for t in to)
            for minute in range(3):
                step(conn, NOW + minute * MINUTE, DRIFT, labels=labels)
            assert alerts.deliver(conn, to, NOW + 2 * MINUTE).failed == 1
            assert waiting(conn) == [("firing", 1, "refused with HTTP status 503")]
            assert alerts.deliver(conn, to, NOW + 2 * MINUTE) == alerts.delivery.Sent()  # not due yet
            assert alerts.deliver(conn, to, NOW + 3 * MINUTE).failed == 1
            assert alerts.deliver(conn, to, NOW + 5 * MINUTE).delivered == 1
            assert waiting(conn) == []
        assert (receiver.requests, receiver.titles) == (5, ["DXY firing: dxy minutes (ERROR)"])

    def test_resolved_never_arrives_before_firing(self, conn: psycopg.Connection) -> None:
        with receiving() as receiver:
            receiver.failing = 2
            to = alerts.targets([receiver.url])
            for minute in range(3):
                step(conn, NOW + minute * MINUTE, DRIFT, labels=(to[0].label,))
            alerts.deliver(conn, to, NOW + 2 * MINUTE)
            step(conn, NOW + 5 * MINUTE, labels=(to[0].label,))
            assert [row[0] for row in waiting(conn)] == ["firing", "resolved"]
            alerts.deliver(conn, to, NOW + 10 * MINUTE)
        assert [title.split(":")[0] for title in receiver.titles] == ["DXY firing", "DXY resolved"]

    @pytest.mark.parametrize("url", [f"json://user:{SECRET}@127.0.0.1:1/{SECRET}", f"nonsense-{SECRET}", "json://"])
    def test_no_secret_in_database_or_log(
        self, conn: psycopg.Connection, url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            to = alerts.targets([url])
            for minute in range(3):
                step(conn, NOW + minute * MINUTE, DRIFT, labels=(to[0].label,))
            assert alerts.deliver(conn, to, NOW + 3 * MINUTE).failed == 1
        stored = conn.execute("SELECT string_agg(d::text, ' ') FROM dxy.alert_delivery AS d").fetchone()
        assert stored
        assert waiting(conn)[0][2] in {"cannot be reached", "not a URL that apprise can read"}
        out = capfd.readouterr()
        for text in (stored[0], caplog.text, out.out, out.err, repr(to)):
            assert SECRET not in text

    def test_a_dead_target_does_not_hold_up_the_other(self, conn: psycopg.Connection) -> None:
        with receiving() as receiver:
            to = alerts.targets(["json://127.0.0.1:1/", receiver.url])
            labels = tuple(t.label for t in to)
            for minute in range(3):
                step(conn, NOW + minute * MINUTE, DRIFT, labels=labels)
            sent = alerts.deliver(conn, to, NOW + 3 * MINUTE)
        assert (sent.delivered, sent.failed) == (1, 1)

    def test_messages_for_a_target_of_the_past_expire_and_are_shown(self, conn: psycopg.Connection) -> None:
        with receiving() as receiver:
            to = alerts.targets([receiver.url])
            for minute in range(3):
                step(conn, NOW + minute * MINUTE, DRIFT, labels=("json of the past", to[0].label))
            assert alerts.deliver(conn, [], NOW + timedelta(hours=23)) == alerts.delivery.Sent()
            later = NOW + timedelta(hours=25)
            assert alerts.deliver(conn, to, later) == alerts.delivery.Sent(delivered=1, expired=1)
            step(conn, later, labels=("json of the past",))
            assert alerts.deliver(conn, to, later + timedelta(hours=25)).expired == 1
        (row,) = alerts.recent(conn, with_closed=True)
        assert (row["delivered"], row["undelivered"], row["expired"]) == (1, 0, 2)
        assert alerts.deliver(conn, alerts.targets(["json://127.0.0.1:1/"]), later) == alerts.delivery.Sent()

    def test_a_known_target_that_was_long_away_is_tried_first(self, conn: psycopg.Connection) -> None:
        with receiving() as receiver:
            to = alerts.targets([receiver.url])
            for minute in range(3):
                step(conn, NOW + minute * MINUTE, DRIFT, labels=(to[0].label,))
            assert alerts.deliver(conn, to, NOW + timedelta(days=9)) == alerts.delivery.Sent(delivered=1)

    @pytest.mark.parametrize("manner", ["hang", "drip"])
    def test_a_service_that_never_ends_is_given_up_at_the_deadline(self, conn: psycopg.Connection, manner: str) -> None:
        """Real sockets: one accepts and says nothing, one sends a byte of its answer a tenth of a second for ever."""
        with never_ending(manner) as url:
            began = time.monotonic()
            assert send(url, "t", "b", deadline_s=3) in {"not accepted within 3 seconds", "not accepted by the service"}
            assert time.monotonic() - began < 5
            assert not [p for p in psutil.Process().children(recursive=True) if "messenger" in " ".join(p.cmdline())]

    def test_no_lock_is_held_while_a_message_is_sent(
        self, db: str, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(alerts.delivery, "DEADLINE_S", 3.0)
        with never_ending("drip") as url:
            to = alerts.targets([url])
            for minute in range(3):
                step(conn, NOW + minute * MINUTE, DRIFT, labels=(to[0].label,))
            with psycopg.connect(db, autocommit=True, application_name="sender") as mine:
                sender = threading.Thread(target=alerts.deliver, args=(mine, to, NOW + 2 * MINUTE))
                sender.start()
                while waiting(conn)[0][1] == 0:
                    time.sleep(0.05)
                states = conn.execute("SELECT a.state FROM pg_stat_activity AS a WHERE a.application_name = 'sender'")
                assert states.fetchall() == [("idle",)], "no transaction is open"
                assert step(conn, NOW + 5 * MINUTE) == ["dxy minutes resolved"]
                assert alerts.deliver(conn, to, NOW + 2 * MINUTE) == alerts.delivery.Sent(), "nobody else sends it too"
                sender.join()
            assert waiting(conn) == [("firing", 1, "not accepted within 3 seconds")]

    def test_a_target_that_fails_is_left_for_this_look(self, conn: psycopg.Connection) -> None:
        to = alerts.targets(["json://127.0.0.1:1/"])
        for minute in range(6):
            step(conn, NOW + minute * MINUTE, DRIFT, FEED, labels=(to[0].label,))
        assert alerts.deliver(conn, to, NOW + 6 * MINUTE).failed == 1

    def test_old_incidents_go_with_their_messages(self, conn: psycopg.Connection) -> None:
        walk(conn, NOW, 3, DRIFT)
        step(conn, NOW + 10 * MINUTE, labels=("json 1",))
        for minute in range(3):
            step(conn, NOW + (20 + minute) * MINUTE, DRIFT, labels=("json 1",))
        conn.execute("SET ROLE dxy_writer")
        assert alerts.prune(conn, NOW + 10 * MINUTE) == 0
        assert alerts.prune(conn, NOW + timedelta(days=400)) == 1, "one is open still"
        assert [row[0] for row in waiting(conn)] == ["firing"]


class TestWatching:
    @pytest.fixture
    def memory(self, tmp_path: Path) -> Path:
        return tmp_path / "data" / "watchdog.json"

    def test_a_look_without_the_right_to_write_still_evaluates(self, db: str, conn: psycopg.Connection) -> None:
        with closing(psycopg.connect(db, autocommit=True)) as reader:
            reader.execute("SET ROLE dxy_reader")
            found = look(reader, reader, NOW)
        assert found.results
        assert "permission denied" in found.problem

    def test_the_writer_role_may_keep_incidents(self, conn: psycopg.Connection) -> None:
        conn.execute("SET ROLE dxy_writer")
        alerts.beat(conn, MONITORING, NOW)
        assert walk(conn, NOW, 3, DRIFT) == ["dxy minutes firing"]
        assert alerts.deliver(conn, alerts.targets(["json://127.0.0.1:1/"]), NOW) == alerts.delivery.Sent()

    def test_the_watchdog_leaves_a_living_monitoring_alone(
        self, db: str, conn: psycopg.Connection, memory: Path
    ) -> None:
        alerts.beat(conn, MONITORING, NOW - MINUTE)
        dog = Watchdog(lambda: psycopg.connect(db, autocommit=True), FixedClock(NOW), memory)
        assert dog.step() == "the monitoring is alive, 0 waiting messages sent"
        assert alerts.last_beat(conn, "watchdog") == NOW

    def test_the_watchdog_tells_of_a_dead_scheduler_once(self, db: str, conn: psycopg.Connection, memory: Path) -> None:
        alerts.beat(conn, MONITORING, NOW)
        with receiving() as receiver:
            for minute in range(1, 20):
                clock = FixedClock(NOW + minute * MINUTE)
                line = Watchdog(lambda: psycopg.connect(db, autocommit=True), clock, memory, [receiver.url]).step()
                assert ("alive" in line) is (minute < 3)
        firing = [title for title in receiver.titles if "scheduler" in title]
        assert firing == ["DXY firing: scheduler (ERROR)"]
        assert "monitoring since 2024-06-12 12:00 UTC" in receiver.bodies[receiver.titles.index(firing[0])]

    def test_the_watchdog_tells_of_a_database_that_is_away_over_restarts(
        self, db: str, conn: psycopg.Connection, memory: Path
    ) -> None:
        """A new watchdog for each look, as from cron: one message when it fires, one when it is over."""
        alerts.beat(conn, MONITORING, NOW)
        reachable = False

        def connect() -> psycopg.Connection:
            if not reachable:
                raise psycopg.OperationalError("connection refused")
            return psycopg.connect(db, autocommit=True)

        with receiving() as receiver:

            def step() -> str:
                return Watchdog(connect, FixedClock(NOW), memory, [receiver.url]).step()

            lines = [step() for _ in range(2)]
            assert receiver.titles == []
            lines += [step() for _ in range(3)]
            reachable = True
            step()
            step()
        assert lines[-1] == "the database cannot be reached (5 times in a row): connection refused"
        assert receiver.titles == ["DXY firing: database (ERROR)", "DXY resolved: database"]
        assert SECRET not in memory.read_text()

    def test_what_the_watchdog_could_not_send_waits_in_order(self, memory: Path) -> None:
        def away() -> psycopg.Connection:
            raise psycopg.OperationalError("connection refused")

        with receiving() as receiver:
            receiver.failing = 4
            for _ in range(5):
                Watchdog(away, FixedClock(NOW), memory, [receiver.url, "json://127.0.0.1:1/"]).step()
            assert receiver.titles == ["DXY firing: database (ERROR)"]
            Watchdog(away, FixedClock(NOW), memory, [receiver.url]).step()
        assert json.loads(memory.read_text())["waiting"] == [], "a target that is gone is waited for no longer"

    def test_a_memory_that_cannot_be_read_or_written_stops_nobody(self, memory: Path) -> None:
        def away() -> psycopg.Connection:
            raise psycopg.OperationalError("connection refused")

        memory.parent.mkdir(parents=True)
        memory.write_text("nonsense")
        assert "1 times in a row" in Watchdog(away, FixedClock(NOW), memory).step()
        below_a_file = memory / "memory.json"
        line = Watchdog(away, FixedClock(NOW), below_a_file).step()
        assert line.endswith("cannot be remembered: File exists (memory.json)")
