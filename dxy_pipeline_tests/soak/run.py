"""One soak from start to verdict: services up, faults one after the other, time standing still, everything compared."""

import dataclasses
import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dxy_pipeline import alerts
from dxy_pipeline.checks.watch import MONITORING
from dxy_pipeline_tests.receiver import receiving
from dxy_pipeline_tests.soak import verdict
from dxy_pipeline_tests.soak.desk import Desk
from dxy_pipeline_tests.soak.faults import EACH, TOGETHER, Fault, NotHere, live_runs, wait_for
from dxy_pipeline_tests.soak.plan import END, START, Orders, Plan
from dxy_pipeline_tests.soak.stack import Stack
from dxy_pipeline_tests.soak.verdict import Row
from dxy_pipeline_tests.ui.dagster_ui import free_port

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

LOOKS: Final = 3  # an incident is resolved when so many looks did not see it


def soak(profile: Profile, tell: Progress = lambda _: None) -> list[Row]:
    """Run one soak and return its verdict, line by line; what was started is ended and removed."""
    tell("starting PostgreSQL, both databases, the Dagster services")
    with receiving() as receiver, closing_stack() as stack:
        plan = Plan(stack.clock, stack.orders, profile.calm)
        truth = verdict.feed_truth()
        windows(stack, alerts.Policy(clear_minutes=LOOKS * (END - START).total_seconds() / profile.seconds))
        stack.start(plan, DXY_ALERT_URLS=receiver.url)
        wait_for("the first live run succeeds", lambda: live_runs(stack) >= 1, every=0.3)
        desk = Desk(stack, truth)
        desk.start()
        rows = torment(stack, plan, profile, tell)
        desk.stop()
        settle(stack, plan, profile, tell)
        if profile.calm:
            tell("waiting until incidents are resolved")
            windows(stack, alerts.Policy())
            rows += judged(lambda: verdict.alerts(stack, receiver))
        tell("waiting until every run has ended")
        Orders(rest=True).write(stack.orders)
        rows += judged(lambda: verdict.runs(stack))
        tell(f"comparing; started again: {dict(stack.restarts)}")
        rows.append(Row("late edits by another writer", str(dict(desk.done)), "some of each kind", len(desk.done) == 3))
        with stack.connect() as conn:
            rows += [*verdict.bars(conn, truth, desk.book, plan.final_at), *verdict.records(conn, plan.now())]
        return [*rows, *verdict.memory(stack, profile.least_life), *judged(lambda: [verdict.user_interface(stack)])]


def windows(stack: Stack, policy: alerts.Policy) -> None:
    """Set the windows of incidents: at this pace two looks, a real minute apart, are hours of market time from each other."""
    with stack.connect() as conn:
        policy.store(conn)


def judged(judge: Callable[[], list[Row]]) -> list[Row]:
    """Judge until everything holds, and return the last word when that does not come."""
    rows: list[Row] = []

    def holds() -> bool:
        rows[:] = judge()
        return all(row.passed for row in rows)

    with suppress(AssertionError):
        wait_for("it holds", holds, every=0.5)
    return rows


@contextmanager
def closing_stack() -> Generator[Stack]:
    """Create a stack; what was started is ended and removed."""
    stack = Stack.create(free_port())
    try:
        yield stack
    finally:
        stack.stop()


def torment(stack: Stack, plan: Plan, profile: Profile, tell: Progress) -> list[Row]:
    """Strike with each round while market time runs; after each a live run must succeed again. One line for each fault.

    Endless: time runs through, and rounds go on until it is over. Else each round has its share of the span.
    """
    rows: dict[str, Row] = {}
    for number, faults in enumerate(rounds(plan, profile)):
        legs = 1 if profile.endless else len(profile.rounds)
        if number < legs:
            plan.go_on(START + (number + 1) / legs * (END - START), profile.seconds / legs)
        for row in strike(stack, faults, tell):
            if row.what not in rows or rows[row.what].passed:  # an earlier failure of the same kind stays
                rows[row.what] = row
        time.sleep(profile.pause)
    return list(rows.values())


def rounds(plan: Plan, profile: Profile) -> Iterator[tuple[Fault, ...]]:
    """Yield each round once, and of an endless profile in any order again until the span is over."""
    yield from profile.rounds
    order = random.Random(7)
    while profile.endless:
        for faults in order.sample(profile.rounds, len(profile.rounds)):
            if plan.over:
                return
            yield faults


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
        wait_for("a live run succeeds again", lambda: live_runs(stack, struck) >= 1, every=0.3)
    except AssertionError as failure:
        tell(str(failure))
        return [dataclasses.replace(row, found=f"{row.found}; {failure}", passed=False) for row in rows]
    back = time.time() - struck
    tell(f"works again after {back:.0f} s")
    return [dataclasses.replace(row, found=f"{row.found}; back in {back:.0f} s") for row in rows]


def settle(stack: Stack, plan: Plan, profile: Profile, tell: Progress) -> None:
    """Wait until market time is over and nothing waits to be derived. What does not come shows in the verdict."""
    tell("waiting for the end of market time")
    wait_for("market time is over", lambda: plan.over, profile.seconds + 60, 0.5)
    over = time.time()
    tell("waiting until everything is derived")
    try:
        wait_for("two live runs at the end of time", lambda: live_runs(stack, over) >= 2, every=0.5)
        wait_for("everything touched is derived", lambda: settled(stack, plan), every=0.5)
        wait_for("the monitoring looks at the end of time", lambda: looked(stack) >= plan.final_at, every=0.5)
    except AssertionError as failure:
        tell(str(failure))


def looked(stack: Stack) -> datetime:
    """Return the market time of the monitoring's last look."""
    with stack.connect() as conn:
        return alerts.last_beat(conn, MONITORING) or START


def settled(stack: Stack, plan: Plan) -> bool:
    """Return whether the feed is fetched to the end and no touched minute waits."""
    with stack.connect() as conn:
        waiting = conn.execute(
            "SELECT (SELECT count(*) FROM dxy.touched_range WHERE last_ts < %s),"
            " (SELECT max(fetched_until) FROM dxy.feed_progress)",
            (END,),
        ).fetchone()
    return waiting is not None and waiting[0] == 0 and waiting[1] >= plan.final_at
