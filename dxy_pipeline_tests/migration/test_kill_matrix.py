"""Kill matrix: the worker is SIGKILLed, or its backend terminated, at every named step of every phase.

Then the same command again: the final state equals that of a run that nothing disturbed.
"""

import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import steps
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline_tests.migration.support import OPTIONS, Stage, Staged, fingerprint

# phase -> the state it starts from, and the command
PHASES: dict[str, tuple[str, Callable[[Migration], Any]]] = {
    "prepare": ("legacy", lambda m: m.prepare(accept_native=True, options=OPTIONS)),
    "dual-write": ("prepared", lambda m: m.dual_write(readers_moved=True)),
    "backfill": ("dual_write", lambda m: m.backfill()),
    "verify": ("backfilled", lambda m: m.verify()),
    "cutover": ("verified", lambda m: m.cutover()),
    "retire": ("cut_over", lambda m: m.retire()),
    "rollback": ("retired", lambda m: m.rollback()),
}
# How often a step of a batch is reached with the tests' days in batches of two; every other step once. A run that is
# cut off after its first batches goes on from another place than one that has none behind it.
BATCHES = {
    "backfill.batch!": 2,
    "backfill.committed": 2,
    "retire.batch!": 2,
    "retire.committed": 2,
    "rollback.unretire!": 4,
    "rollback.undo!": 4,
}
_undisturbed: dict[tuple[int, str], dict[str, Any]] = {}
CASES = [
    pytest.param(phase, step, nth, id=step if nth == 1 else f"{step}-{nth}")
    for phase, listed in steps.STEPS.items()
    for step in listed
    for nth in range(1, BATCHES.get(step, 1) + 1)
]


@contextlib.contextmanager
def staged(stage: Stage, phase: str) -> Iterator[Staged]:
    """A database before the phase. Before the rollback data_bars has taken writes that legacy has not seen."""
    with stage.at("P", PHASES[phase][0]) as db:
        if phase == "rollback":
            for day in range(1, 4):
                db.conn.execute(
                    "INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source,"
                    " ingested_at, created_at) VALUES ('DXY', '1m', %s, 1, 1, 1, 70, 0, 'synthetic', %s, %s)",
                    (*[f"2024-07-0{day} 00:01:00+00"] * 3,),
                )
            db.conn.execute(
                "DELETE FROM public.data_bars WHERE canonical_symbol = 'DXY' AND ts_utc = '2024-06-10 01:05+00'"
            )
        yield db


def expected(stage: Stage, phase: str) -> dict[str, Any]:
    """The state after a run that nothing disturbed, with every step of the phase seen on the way."""
    key = (id(stage), phase)
    if key not in _undisturbed:
        seen: Counter[str] = Counter()
        with staged(stage, phase) as db:
            steps.install(lambda step, _: seen.update([step]))
            PHASES[phase][1](db.migration)
            steps.install(None)
            own = {step: n for step, n in seen.items() if step.startswith(f"{phase}.")}
            listed = {step: BATCHES.get(step, 1) for step in steps.STEPS[phase]}
            assert own == listed, "a listed step was not reached, or one is not listed"
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


def test_every_phase_has_a_case() -> None:
    assert set(PHASES) == set(steps.STEPS)
    assert set(BATCHES) < set(steps.ALL)


def test_every_step_in_the_code_is_listed_and_every_listed_one_is_in_the_code() -> None:
    folder = Path(steps.__file__).parent
    found = {m for file in folder.glob("*.py") for m in re.findall(r'\.at\("([a-z.!-]+)"\)', file.read_text())}
    assert found == set(steps.ALL)


@pytest.mark.parametrize(("phase", "step", "nth"), CASES)
def test_sigkill_of_the_worker(stage: Stage, phase: str, step: str, nth: int) -> None:
    wanted = expected(stage, phase)
    command = PHASES[phase][1]
    with staged(stage, phase) as db:
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
        command_until_done(command, db.migration, phase)
        assert fingerprint(db.conn) == wanted


@pytest.mark.parametrize(("phase", "step", "nth"), CASES)
def test_termination_of_the_backend(stage: Stage, phase: str, step: str, nth: int) -> None:
    wanted = expected(stage, phase)
    command = PHASES[phase][1]
    with staged(stage, phase) as db:
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
        command_until_done(command, db.migration, phase)
        assert fingerprint(db.conn) == wanted


def command_until_done(command: Callable[[Migration], Any], migration: Migration, phase: str) -> None:
    """Run the same command again, as an operator would; a state that is already reached is said, not repeated."""
    deadline = time.monotonic() + 10
    while True:
        try:
            command(migration)
            return
        except UserError as error:
            done = f"{phase} needs the state" in str(error)  # the kill came after the commit that finished it
            if done:
                return
            if "is being run by" not in str(error) or time.monotonic() > deadline:
                raise
