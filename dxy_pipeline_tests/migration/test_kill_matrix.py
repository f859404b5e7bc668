"""Kill matrix: the worker is SIGKILLed, or its backend terminated, at every named step of every phase.

Then the same command again: the final state equals that of a run that nothing disturbed.
"""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dxy_pipeline.errors import UserError
from dxy_pipeline.migration import steps
from dxy_pipeline.migration.engine import Migration
from dxy_pipeline_tests.migration.support import OPTIONS, Stage, fingerprint

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
_undisturbed: dict[tuple[int, str], dict[str, Any]] = {}
CASES = [(phase, step) for phase, listed in steps.STEPS.items() for step in listed]


def expected(stage: Stage, phase: str) -> dict[str, Any]:
    """The state after a run that nothing disturbed, with every step of the phase seen on the way."""
    key = (id(stage), phase)
    if key not in _undisturbed:
        state, command = PHASES[phase]
        seen: set[str] = set()
        with stage.at("P", state) as db:
            steps.install(lambda step, _: seen.add(step))
            command(db.migration)
            steps.install(None)
            own = {step for step in seen if step.startswith(f"{phase}.")}
            assert own == set(steps.STEPS[phase]), "a listed step was not reached, or one is not listed"
            _undisturbed[key] = fingerprint(db.conn)
    return _undisturbed[key]


def test_every_phase_has_a_case() -> None:
    assert set(PHASES) == set(steps.STEPS)


def test_every_step_in_the_code_is_listed_and_every_listed_one_is_in_the_code() -> None:
    folder = Path(steps.__file__).parent
    found = {m for file in folder.glob("*.py") for m in re.findall(r'\.at\("([a-z.!-]+)"\)', file.read_text())}
    assert found == set(steps.ALL)


@pytest.mark.parametrize(("phase", "step"), CASES, ids=[step for _, step in CASES])
def test_sigkill_of_the_worker(stage: Stage, phase: str, step: str) -> None:
    wanted = expected(stage, phase)
    state, command = PHASES[phase]
    with stage.at("P", state) as db:
        pid = os.fork()
        if pid == 0:
            try:
                steps.install(lambda name, _: os.kill(os.getpid(), signal.SIGKILL) if name == step else None)
                command(db.migration)
            finally:
                os._exit(7)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "the step was not reached"
        assert os.WTERMSIG(status) == signal.SIGKILL
        command_until_done(command, db.migration, phase)
        assert fingerprint(db.conn) == wanted


@pytest.mark.parametrize(("phase", "step"), CASES, ids=[step for _, step in CASES])
def test_termination_of_the_backend(stage: Stage, phase: str, step: str) -> None:
    wanted = expected(stage, phase)
    state, command = PHASES[phase]
    with stage.at("P", state) as db:
        hits = []

        def terminate(name: str, worker: psycopg.Connection[Any]) -> None:
            if name == step and not hits:
                hits.append(name)
                db.conn.execute("SELECT pg_terminate_backend(%s, 5000)", (worker.info.backend_pid,))

        steps.install(terminate)
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
