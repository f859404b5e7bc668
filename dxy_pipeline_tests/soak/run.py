"""One soak from start to verdict: services up, faults one after the other, time standing still, everything compared."""

import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psycopg

from dxy_pipeline_tests.receiver import receiving
from dxy_pipeline_tests.soak import verdict
from dxy_pipeline_tests.soak.desk import Desk
from dxy_pipeline_tests.soak.faults import EACH, TOGETHER, Fault, NotHere, live_runs, wait_for
from dxy_pipeline_tests.soak.plan import END, Plan
from dxy_pipeline_tests.soak.stack import Stack, graphql
from dxy_pipeline_tests.soak.verdict import Row
from dxy_pipeline_tests.ui.dagster_ui import free_port

BOOT_S: Final = 10.0
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Profile:
    """How long market time runs, what strikes together, how long to pause, how long memory must be looked at."""

    seconds: float
    rounds: tuple[tuple[Fault, ...], ...]
    pause: float
    least_life: float
    endless: bool  # faults go on until the span is over
    calm: float = 0  # the pace of market time behind the span; alerts are judged where it goes on


SHORT: Final = Profile(seconds=50, rounds=TOGETHER, pause=0, least_life=10, endless=False)
LONG: Final = Profile(seconds=20 * 60, rounds=EACH, pause=12, least_life=60, endless=True, calm=4)


def soak(profile: Profile, tell: Progress = lambda _: None) -> list[Row]:
    """Run one soak and return its verdict, line by line; what was started is ended and removed."""
    tell("starting PostgreSQL, both databases, the Dagster services")
    with receiving() as receiver, closing_stack() as stack:
        plan = Plan(profile.seconds, time.time() + BOOT_S, stack.orders, profile.calm)
        truth = verdict.feed_truth()
        stack.start(plan, DXY_ALERT_URLS=receiver.url)
        wait_for("the first live run succeeds", lambda: live_runs(stack) >= 1, 240, 0.3)
        desk = Desk(stack, truth)
        desk.start()
        rows = torment(stack, plan, profile, tell)
        desk.stop()
        settle(stack, plan, tell)
        tell(f"comparing; started again: {dict(stack.restarts)}")
        rows.append(Row("late edits by another writer", str(dict(desk.done)), "some of each kind", len(desk.done) == 3))
        with stack.connect() as conn:
            rows += [*verdict.bars(conn, truth, desk.book, plan.final_at), *verdict.records(conn)]
            rows += verdict.alerts(conn, receiver) if profile.calm else []
        rows += [*verdict.runs(stack), *verdict.memory(stack, profile.least_life)]
        rows.append(Row("UI answers", "yes" if answers(stack) else "no", "yes", answers(stack)))
        return rows


@contextmanager
def closing_stack() -> Iterator[Stack]:
    """Create a stack; what was started is ended and removed."""
    stack = Stack.create(free_port())
    try:
        yield stack
    finally:
        stack.stop()


def torment(stack: Stack, plan: Plan, profile: Profile, tell: Progress) -> list[Row]:
    """Strike with each round at least once; after each a live run must succeed again. One line for each fault."""
    rows: dict[str, Row] = {}
    order = random.Random(7)
    todo: Sequence[tuple[Fault, ...]] = profile.rounds
    while True:
        for faults in todo:
            for row in strike(stack, faults, tell):
                if row.what not in rows or rows[row.what].passed:  # an earlier failure of the same kind stays
                    rows[row.what] = row
            time.sleep(profile.pause)
            if plan.over and todo is not profile.rounds:
                return list(rows.values())
        if not profile.endless or plan.over:
            return list(rows.values())
        todo = order.sample(profile.rounds, len(profile.rounds))


def strike(stack: Stack, faults: tuple[Fault, ...], tell: Progress) -> list[Row]:
    """Strike with some faults at once and wait until the pipeline works again."""
    rows = []
    for fault in faults:
        try:
            rows.append(Row(fault.name, fault.strike(stack), "recovers by itself", True))
        except NotHere as reason:
            rows.append(Row(fault.name, str(reason), "where possible", True))
        except AssertionError as failure:
            rows.append(Row(fault.name, str(failure), "strikes", False))
        tell(f"{fault.name}: {rows[-1].found}")
    struck = time.time()
    try:
        wait_for("a live run succeeds again", lambda: live_runs(stack, struck) >= 1, 240, 0.3)
    except AssertionError as failure:
        tell(str(failure))
        return [dataclasses.replace(row, found=f"{row.found}; {failure}", passed=False) for row in rows]
    back = time.time() - struck
    tell(f"works again after {back:.0f} s")
    return [dataclasses.replace(row, found=f"{row.found}; back in {back:.0f} s") for row in rows]


def settle(stack: Stack, plan: Plan, tell: Progress) -> None:
    """Wait until market time stands still and nothing waits to be derived. What does not come shows in the verdict."""
    tell("waiting for the end of market time")
    wait_for("market time is over", lambda: plan.over, plan.seconds + 60, 0.5)
    over = time.time()
    tell("waiting until everything is derived")
    try:
        wait_for("two live runs at the end of time", lambda: live_runs(stack, over) >= 2, 240, 0.5)
        wait_for("everything touched is derived", lambda: settled(stack, plan), 240, 0.5)
        if plan.calm:
            tell("waiting until incidents are resolved")
            wait_for("no incident is open", lambda: quiet(stack), 300, 1)
    except AssertionError as failure:
        tell(str(failure))


def settled(stack: Stack, plan: Plan) -> bool:
    """Return whether the feed is fetched to the end, no touched minute waits, and no check row is left planned."""
    with stack.connect() as conn:
        waiting = conn.execute(
            "SELECT (SELECT count(*) FROM dxy.touched_range WHERE last_ts < %s),"
            " (SELECT max(fetched_until) FROM dxy.feed_progress)",
            (END,),
        ).fetchone()
    fetched = waiting is not None and waiting[0] == 0 and waiting[1] >= plan.final_at
    return fetched and all(row.passed for row in verdict.runs(stack))


def quiet(stack: Stack) -> bool:
    """Return whether no incident is open and no message waits."""
    with stack.connect() as conn:
        row = conn.execute(
            "SELECT (SELECT count(*) FROM dxy.incident WHERE resolved_at IS NULL AND state <> 'dismissed'),"
            " (SELECT count(*) FROM dxy.alert_delivery WHERE delivered_at IS NULL)"
        ).fetchone()
    return row == (0, 0)


def answers(stack: Stack) -> bool:
    """Return whether the webserver answers a question."""
    with suppress(OSError, psycopg.Error):
        return graphql(stack, "{version}")["version"] != ""
    return False
