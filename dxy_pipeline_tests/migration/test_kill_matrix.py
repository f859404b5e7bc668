"""Kill matrix: the worker is SIGKILLed, or its backend terminated, at every named step of every phase.

Then the same command again: the final state equals that of a run that nothing disturbed.
"""

import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import steps
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline_tests.migration.support import OPTIONS, PATH, Stage, Staged, fingerprint

NOTHING = "SELECT 1"
NEW_BARS = """
INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source, ingested_at, created_at)
SELECT 'DXY', '1m', t.ts, 1, 1, 1, 70, 0, 'synthetic', t.ts, t.ts
FROM generate_series('2024-07-01 00:01+00'::timestamptz, {}) AS t (ts)
"""
# data_bars has taken writes on three more days that legacy has not seen, and a minute was deleted there
RETIRED_WRITES = (
    NEW_BARS.format("'2024-07-03 00:01+00', '1 day'")
    + "; DELETE FROM public.data_bars WHERE canonical_symbol = 'DXY' AND ts_utc = '2024-06-10 01:05+00'"
)
# more minutes than one batch of a repair that only data_bars has, and one that differs
DAMAGE = (
    "BEGIN; SET LOCAL dxy.mirror = 'on';"
    + NEW_BARS.format("'2024-07-01 18:20+00', '1 minute'")
    + "; UPDATE public.data_bars SET close = 5 WHERE canonical_symbol = 'DXY' AND ts_utc = '2024-06-10 01:05+00'; COMMIT"
)
BROKEN = "DROP TRIGGER dxy_mirror_insert ON public.data_bars"


@dataclass(frozen=True)
class Scenario:
    """A command: the steps it goes through (with how often, where it is not once), where it starts, what is there."""

    family: str
    state: str
    command: Callable[[Migration], Any]
    shape: str = "P"
    times: dict[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    before: str = NOTHING
    prepared_halfway: bool = False

    @property
    def reached(self) -> dict[str, int]:
        """Every step with the number of times it is reached."""
        listed = (step for step in steps.STEPS[self.family] if step.partition(".")[2] not in self.left_out)
        return {step: self.times.get(step.partition(".")[2], 1) for step in listed}


def roll_back(migration: Migration) -> Any:
    return migration.rollback()


BASE = {
    "prepare": Scenario(
        "prepare", "legacy", lambda m: m.prepare(accept_native=True, options=OPTIONS), times={"widening": 4}
    ),
    "dual-write": Scenario("dual-write", "prepared", lambda m: m.dual_write(readers_moved=True)),
    "backfill": Scenario("backfill", "dual_write", lambda m: m.backfill(), times={"batch!": 2, "committed": 2}),
    "verify": Scenario("verify", "backfilled", lambda m: m.verify()),
    "repair": Scenario(
        "repair",
        "backfilled",
        lambda m: m.verify(repair=True, extra="copy"),
        times={"batch!": 2, "committed": 2},
        before=DAMAGE,
    ),
    "restore": Scenario("restore", "cut_over", lambda m: m.dual_write(readers_moved=True), before=BROKEN),
    "cutover": Scenario("cutover", "verified", lambda m: m.cutover()),
    "retire": Scenario("retire", "cut_over", lambda m: m.retire(), times={"batch!": 2, "committed": 2}),
    "rollback": Scenario(
        "rollback", "retired", roll_back, times={"unretire!": 4, "undo!": 4}, before=RETIRED_WRITES
    ),
    "abandon": Scenario("abandon", "legacy", roll_back, prepared_halfway=True),
}  # fmt: skip
SHAPES = {f"S {name}": replace(one, shape="S") for name, one in BASE.items() if name != "prepare"}
SHAPES["S prepare"] = replace(BASE["prepare"], shape="S", times={"widening": 6})
_EARLIER = ("reopened!", "unretire!", "opened!")
BACK = {
    "rollback from prepared": Scenario(
        "rollback", "prepared", roll_back, left_out=(*_EARLIER, "proved", "readers!", "muted!", "undo!")
    ),
    "rollback from dual_write": Scenario("rollback", "dual_write", roll_back, left_out=(*_EARLIER, "readers!")),
    "rollback from backfilled": Scenario(
        "rollback", "backfilled", roll_back, left_out=(*_EARLIER, "readers!"), times={"undo!": 3}
    ),
    "rollback from verified": Scenario("rollback", "verified", roll_back, left_out=_EARLIER, times={"undo!": 3}),
    "rollback from cut_over": Scenario("rollback", "cut_over", roll_back, left_out=_EARLIER, times={"undo!": 3}),
}
# The second shape's rows go the same ways; what writes legacy itself is looked at every time.
DEEP = set(SHAPES) - {"S retire", "S rollback", "S repair"}
SCENARIOS = {**BASE, **SHAPES, **BACK}
_undisturbed: dict[tuple[int, str], dict[str, Any]] = {}


def cases(names: Iterable[str]) -> list[Any]:
    """One case for each time that a step is reached: a run that is cut off after its first batches goes on from another
    place than one that has none behind it."""
    return [
        pytest.param(
            name,
            step,
            nth,
            id=f"{name}: {step}" + (f" ({nth})" if nth > 1 else ""),
            marks=[pytest.mark.deep] if name in DEEP else [],
        )
        for name in names
        for step, times in SCENARIOS[name].reached.items()
        for nth in range(1, times + 1)
    ]


@contextlib.contextmanager
def staged(stage: Stage, scenario: Scenario) -> Iterator[Staged]:
    """A database in which the scenario can begin."""
    with stage.at(scenario.shape, scenario.state) as db:
        if scenario.prepared_halfway:
            steps.install(At("prepare.registry", 1, lambda _: (_ for _ in ()).throw(KeyboardInterrupt)))
            with pytest.raises(KeyboardInterrupt):
                BASE["prepare"].command(db.migration)
            steps.install(None)
        db.conn.execute(scenario.before)
        yield db


def expected(stage: Stage, name: str) -> dict[str, Any]:
    """The state after a run that nothing disturbed, with every step seen on the way."""
    key = (id(stage), name)
    if key not in _undisturbed:
        scenario = SCENARIOS[name]
        seen: Counter[str] = Counter()
        with staged(stage, scenario) as db:
            steps.install(lambda step, _: seen.update([step]))
            scenario.command(db.migration)
            steps.install(None)
            own = {step: n for step, n in seen.items() if step.startswith(f"{scenario.family}.")}
            assert own == scenario.reached, "a listed step was not reached, or one is not listed"
            _undisturbed[key] = fingerprint(db.conn)
    return _undisturbed[key]


class At:
    """A hook that does `work` the nth time a step is reached."""

    def __init__(self, step: str, nth: int, work: Callable[[psycopg.Connection[Any]], Any]) -> None:
        self.step, self.left, self.work = step, nth, work

    def __call__(self, name: str, worker: psycopg.Connection[Any]) -> None:
        self.left -= name == self.step
        if name == self.step and self.left == 0:
            self.work(worker)


def test_every_phase_has_a_case_in_both_shapes_and_a_way_back_from_every_state() -> None:
    assert set(BASE) == set(steps.STEPS)
    assert {name.removeprefix("S ") for name in SHAPES} == set(BASE)
    ways = {one.state for one in SCENARIOS.values() if one.family == "rollback"}
    assert ways == set(PATH) - {"legacy"}


def test_every_step_in_the_code_is_listed_and_every_listed_one_is_in_the_code() -> None:
    folder = Path(steps.__file__).parent
    found = {m for file in folder.glob("*.py") for m in re.findall(r'\.at\("([a-z.!-]+)"\)', file.read_text())}
    assert found == set(steps.ALL)


@pytest.mark.parametrize(("name", "step", "nth"), cases(SCENARIOS))
def test_sigkill_of_the_worker(stage: Stage, name: str, step: str, nth: int) -> None:
    wanted = expected(stage, name)
    command = SCENARIOS[name].command
    with staged(stage, SCENARIOS[name]) as db:
        pid = os.fork()
        if pid == 0:
            try:
                steps.install(At(step, nth, lambda _: os.kill(os.getpid(), signal.SIGKILL)))
                command(db.migration)
            finally:
                os._exit(7)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "the step was not reached"
        assert os.WTERMSIG(status) == signal.SIGKILL
        command_until_done(command, db.migration)
        assert fingerprint(db.conn) == wanted


@pytest.mark.parametrize(("name", "step", "nth"), cases(BASE))
def test_termination_of_the_backend(stage: Stage, name: str, step: str, nth: int) -> None:
    wanted = expected(stage, name)
    command = SCENARIOS[name].command
    with staged(stage, SCENARIOS[name]) as db:
        hits: list[int] = []

        def terminate(worker: psycopg.Connection[Any]) -> None:
            hits.append(worker.info.backend_pid)
            db.conn.execute("SELECT pg_terminate_backend(%s, 5000)", (worker.info.backend_pid,))

        steps.install(At(step, nth, terminate))
        try:
            command(db.migration)
        except (UserError, psycopg.OperationalError):
            pass
        else:
            assert step.endswith(".done"), "the run went on over a dead connection"
        steps.install(None)
        assert hits
        command_until_done(command, db.migration)
        assert fingerprint(db.conn) == wanted


def command_until_done(command: Callable[[Migration], Any], migration: Migration) -> None:
    """Run the same command again, as an operator would; a state that is already reached is said, not repeated."""
    deadline = time.monotonic() + 10
    while True:
        try:
            command(migration)
            return
        except UserError as error:
            done = " needs the state" in str(error)  # the kill came after the commit that finished it
            if done:
                return
            if "is being run by" not in str(error) or time.monotonic() > deadline:
                raise
