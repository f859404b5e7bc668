"""Sixty minutes without EURUSD, lived through minute by minute: one firing, one resolved, delivered for real."""

from datetime import timedelta

import psycopg
import pytest

from dxy_pipeline import alerts
from dxy_pipeline.checks.watch import look
from dxy_pipeline_tests.faults.conftest import NOW, alive, conceal, derive, reveal
from dxy_pipeline_tests.faults.faults import MINUTE, drop_fx
from dxy_pipeline_tests.receiver import receiving

BEGIN, END = NOW - timedelta(minutes=90, seconds=30), NOW - timedelta(minutes=30, seconds=30)


@pytest.mark.timeout(600)
def test_an_hour_without_eurusd_is_one_alert(live: psycopg.Connection) -> None:
    drop_fx(live, ("EURUSD",), BEGIN, END)
    derive(live, BEGIN - timedelta(hours=1), NOW)
    conceal(live, BEGIN - timedelta(hours=1))
    told: list[tuple[str, str]] = []
    with receiving() as receiver:
        at = BEGIN - 2 * MINUTE
        while at < NOW:
            alive(live, at)
            reveal(live, at)
            for turn in look(live, live, at, [receiver.url]).changed:
                told.append((turn.cause, f"{turn.state} after {(at - BEGIN) / MINUTE:.0f} minutes"))
            alerts.deliver(live, alerts.targets([receiver.url]), at)
            at += 2 * MINUTE
    assert told == [("feed:EURUSD", "firing after 10 minutes"), ("feed:EURUSD", "resolved after 66 minutes")]
    assert receiver.titles == ["DXY firing: feed:EURUSD (ERROR)", "DXY resolved: feed:EURUSD (ERROR)"]
    assert "EURUSD feed is silent since" in receiver.bodies[0]
