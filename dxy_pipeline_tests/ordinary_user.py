"""Run a piece of a test as an ordinary user: what root may do proves nothing about what a user may do."""

import os
import pickle
import pwd
import traceback
from collections.abc import Callable
from typing import Final, TypeVar

from dxy_pipeline.errors import UserError

T = TypeVar("T")

_CANDIDATES: Final = ("daemon", "games", "bin")


def ordinary_user() -> pwd.struct_passwd:
    """Return the user that `as_ordinary_user` runs as: ourselves, or a system user when we are root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in _CANDIDATES if name in known)


def as_ordinary_user(work: Callable[[], T]) -> T:
    """Return `work()` done by an ordinary user; when we are root, in a forked child that has become one.

    A fork, not a new interpreter: that user may not be allowed to reach ours. UserError is raised here again.
    """
    if os.geteuid() != 0:
        return work()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            user = ordinary_user()
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            answer = ("done", work())
        except UserError as error:
            answer = ("refused", (str(error), error.hint))
        except BaseException:
            answer = ("broken", traceback.format_exc())
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        kind, value = pickle.load(pipe)
    os.waitpid(pid, 0)
    if kind == "refused":
        raise UserError(value[0], hint=value[1])
    assert kind == "done", value
    return value
