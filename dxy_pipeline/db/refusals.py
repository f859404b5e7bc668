"""What a database's refusal means to a user: psycopg errors to one line and a hint.

Belongs here: words. Does not belong here: connecting, retrying. A message never carries a password.
"""

import re
from typing import Final

import psycopg
from psycopg import errors
from psycopg_pool import PoolTimeout

from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import redact

_URL_HINT: Final = "check DATABASE_URL; `dxy db start` runs the embedded server instead"

# By class: the server's own words follow, its hint does not.
_BY_CLASS: Final[tuple[tuple[type[psycopg.Error], str, str], ...]] = (
    (
        errors.InsufficientPrivilege,
        "no permission",
        "connect as a role that was granted dxy_writer (or dxy_reader to read)",
    ),
    (errors.UndefinedTable, "a table is missing", "run `dxy db plan`, then `dxy db upgrade`"),
    (errors.UndefinedFunction, "a function is missing", "run `dxy db plan`, then `dxy db upgrade`"),
    (errors.InvalidSchemaName, "a schema is missing", "run `dxy db plan`, then `dxy db upgrade`"),
    (errors.UndefinedColumn, "a column is missing", "run `dxy db plan`, then `dxy db upgrade`"),
    (errors.InvalidCatalogName, "no such database", "create it, or name an existing one in DATABASE_URL"),
    (errors.InvalidPassword, "wrong user or password", "check the user and the password in DATABASE_URL"),
    (errors.InvalidAuthorizationSpecification, "the server refuses this user", "check the user in DATABASE_URL"),
    (errors.DiskFull, "the database server's disk is full", "free space there; nothing was half-written"),
    (errors.LockNotAvailable, "another session holds a lock", "try again, or raise DXY_LOCK_TIMEOUT_S"),
    (errors.QueryCanceled, "the statement was cancelled", "take a shorter range, or raise DXY_STATEMENT_TIMEOUT_S"),
    (
        errors.ReadOnlySqlTransaction,
        "the database is read-only",
        "this is a replica: point DATABASE_URL at the primary",
    ),
    (errors.TooManyConnections, "the server has no free connection", "close other clients or try again"),
    (errors.CannotConnectNow, "the server is starting up or shutting down", "wait a moment and try again"),
    (errors.AdminShutdown, "the server ended the connection", "it was restarted or stopped; try again"),
)

# A refused connection has no error class of its own before the session exists: the text is all there is.
_BY_TEXT: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "unsupported startup parameter",
        "a transaction pooler answers there, and this needs a session of its own",
        "set DIRECT_URL to the database's direct address",
    ),
    (r"database .* does not exist", "no such database", "create it, or name an existing one in DATABASE_URL"),
    (r"role .* does not exist", "no such user", "check the user in DATABASE_URL"),
    ("password authentication failed", "wrong user or password", "check the user and the password in DATABASE_URL"),
    ("no password supplied", "the server asks for a password", "put it into DATABASE_URL or PGPASSWORD"),
    ("peer authentication failed", "the server refuses this user", "check the user in DATABASE_URL"),
    ("no pg_hba.conf entry", "the server refuses this user or host", "ask for an entry in its pg_hba.conf"),
    ("no space left on device", "the database server's disk is full", "free space there and try again"),
    ("too many clients", "the server has no free connection", "close other clients or try again"),
    ("remaining connection slots", "the server has no free connection", "close other clients or try again"),
    ("the database system is", "the server is starting up or shutting down", "wait a moment and try again"),
    (r"socket .*permission denied", "the server belongs to another user", "run this as the user who started it"),
    ("translate host name", "the server's host name is unknown", _URL_HINT),
    ("resolve", "the server's host name is unknown", _URL_HINT),
    ("no such file or directory", "no server runs there", _URL_HINT),
    ("refused", "no server answers there", _URL_HINT),
    ("timeout", "the server does not answer", _URL_HINT),
    ("timed out", "the server does not answer", _URL_HINT),
    ("ssl", "no encrypted connection could be made", "check sslmode in DATABASE_URL"),
)


def explain(error: psycopg.Error) -> UserError | None:
    """Return the UserError for `error`, or None when it is no user's matter (a bug of ours)."""
    detail = one_line(error)
    for kind, meaning, hint in _BY_CLASS:
        if isinstance(error, kind):
            return UserError(f"{meaning}: {detail}", hint=hint)
    if "file too large" in str(error).lower():  # PostgreSQL has no error class for a file size limit
        return UserError(f"the database server's disk is full: {detail}", hint="raise its limit (ulimit -f, quota)")
    if isinstance(error, PoolTimeout):
        return UserError(f"no connection to the database: {detail}", hint=_URL_HINT)
    if not isinstance(error, psycopg.OperationalError):
        return None
    lowered = str(error).lower()
    for text, meaning, hint in _BY_TEXT:
        if re.search(text, lowered):
            return UserError(f"{meaning}: {detail}", hint=hint)
    return UserError(f"the database cannot be used: {detail}", hint=_URL_HINT)


def one_line(error: psycopg.Error) -> str:
    """Return the gist of `error` on one line, passwords hidden: the last address tried stands for all of them."""
    text = error.diag.message_primary or str(error)
    lines = [line.strip(" -\t") for line in text.splitlines() if line.strip()]
    attempts = [line for line in lines if line.startswith("host:") or "failed:" in line]
    return redact((attempts or lines or [type(error).__name__])[-1])
