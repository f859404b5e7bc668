"""Every environment variable of the project, read and checked in one place.

Belongs here: the name, default, meaning and validation of each variable, and the one function that hides passwords.
Does not belong here: opening connections, creating directories, anything that another layer decides from the values.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from dxy_pipeline.errors import UserError

FX_SOURCES: Final = ("simulated", "files", "external", "massive")
POOLER_PORTS: Final = frozenset({6432, 6543})  # PgBouncer's and Supavisor's usual transaction-pooling ports

_URL_PASSWORD = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://[^:/@\s?#]*):\S+@")
_KEY_PASSWORD = re.compile(
    r"(?P<key>\w*(?:password|passwd|api_?key|token|secret)\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE
)
# A URL on which every parser agrees. Where a password holds an unescaped special character each takes another part of it
# for host, port or parameter, and quotes that part when it cannot be used.
_HOST: Final = r"(?:\[[^@\]\s]*\]|[^@/?#\[\]\s:,]*)(?::\d*)?"
_CLEAR_URL: Final = re.compile(
    r"[A-Za-z][\w+]*://(?:(?:[^@/?#\[\]\s%]|%[0-9a-fA-F]{2})*@)?"
    rf"{_HOST}(?:,{_HOST})*(?:/[^@?#\s]*)?(?:\?[^=&\s]+=[^&\s]*(?:&[^=&\s]+=[^&\s]*)*)?"
)
_SECRET_FIELDS: Final = frozenset({"massive_api_key", "alert_urls"})


def redact(text: str) -> str:
    """Return `text` with the password of every URL or `password=…` in it replaced by `***`.

    Works on a bare URL, on a libpq keyword string and on an error message that quotes either.
    """
    return _KEY_PASSWORD.sub(r"\g<key>***", _URL_PASSWORD.sub(r"\g<scheme>:***@", text))


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one process. Build it with `Settings.from_env()`; tests pass a mapping of their own."""

    data_dir: Path
    """DXY_DATA_DIR: absolute path for all we write: server, logs, Dagster home, files of the demo.

    Default: `var` in a source checkout, else `$XDG_DATA_HOME/dxy_pipeline` (`~/.local/share/dxy_pipeline`).
    """

    database_url: str = ""
    """DATABASE_URL: the market database (may be a transaction pooler). Empty: the embedded server is used."""

    direct_url: str = ""
    """DIRECT_URL: the same database without a pooler, for DDL and long work. Default: DATABASE_URL."""

    replica_url: str = ""
    """DXY_REPLICA_URL: a read replica for the checks. Default: DATABASE_URL."""

    pooler: bool | None = None
    """DXY_POOLER: 1 when DATABASE_URL is a transaction pooler, 0 when not. Default: judged by its port."""

    dagster_home: Path = Path()
    """DAGSTER_HOME: the folder with Dagster's `dagster.yaml`. Default: `<data_dir>/dagster_home`."""

    dagster_pg_url: str = ""
    """DXY_DAGSTER_PG_URL: Dagster's own storage; never derived from DATABASE_URL. Default: the embedded server."""

    pg_bindir: Path | None = None
    """DXY_PG_BINDIR: folder with `postgres` and `initdb` for the embedded server. Default: package, then system."""

    port: int = 3000
    """DXY_PORT: port of the Dagster webserver."""

    host: str = "127.0.0.1"
    """DXY_HOST: address of the Dagster webserver. It has no login: keep it on loopback or behind a proxy."""

    fx_source: str = "simulated"
    """DXY_FX_SOURCE: where FX minutes come from: simulated, files, external (another writer) or massive."""

    fx_files: Path = Path()
    """DXY_FX_FILES: absolute path pattern of the files of the source `files`. Default: `<data_dir>/fx/*`."""

    fx_files_format: str = "csv"
    """DXY_FX_FILES_FORMAT: csv, parquet, histdata, dukascopy or metatrader5."""

    fx_files_clock: str = ""
    """DXY_FX_FILES_CLOCK: the clock of their times: utc, hours from UTC, ny+7, a zone. Default: the format's own."""

    massive_api_key: str = field(default="", repr=False)
    """MASSIVE_API_KEY: key of the Massive market-data API."""

    massive_base_url: str = "https://api.massive.com"
    """DXY_MASSIVE_BASE_URL: address of the Massive API (a proxy, or a local stub in tests)."""

    massive_calls_per_minute: int = 0
    """DXY_MASSIVE_CALLS_PER_MINUTE: what the plan allows (5 on the free one, too few for live); 0 is no limit."""

    alert_urls: tuple[str, ...] = field(default=(), repr=False)
    """DXY_ALERT_URLS: apprise URLs for alerts, separated by blanks."""

    statement_timeout_s: float = 60.0
    """DXY_STATEMENT_TIMEOUT_S: longest statement in seconds on the market database; 0 is none."""

    lock_timeout_s: float = 5.0
    """DXY_LOCK_TIMEOUT_S: longest wait for a lock in seconds; 0 is none."""

    idle_in_transaction_timeout_s: float = 60.0
    """DXY_IDLE_TIMEOUT_S: seconds an open transaction may stand idle before the server ends it; 0 is none."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Read the environment (or `env`). Raises UserError that names the variable and what it may be."""
        env = os.environ if env is None else env
        data_dir = _path(env, "DXY_DATA_DIR") or default_data_dir(env)
        return cls(
            data_dir=data_dir,
            database_url=_database_url(env, "DATABASE_URL"),
            direct_url=_database_url(env, "DIRECT_URL"),
            replica_url=_database_url(env, "DXY_REPLICA_URL"),
            pooler=_flag(env, "DXY_POOLER"),
            dagster_home=_path(env, "DAGSTER_HOME") or data_dir / "dagster_home",
            dagster_pg_url=_database_url(env, "DXY_DAGSTER_PG_URL"),
            pg_bindir=_path(env, "DXY_PG_BINDIR"),
            port=_port(env),
            host=env.get("DXY_HOST", "").strip() or "127.0.0.1",
            fx_source=_choice(env, "DXY_FX_SOURCE", FX_SOURCES),
            fx_files=_path(env, "DXY_FX_FILES") or data_dir / "fx" / "*",
            fx_files_format=env.get("DXY_FX_FILES_FORMAT", "").strip().lower() or "csv",
            fx_files_clock=env.get("DXY_FX_FILES_CLOCK", "").strip(),
            massive_api_key=env.get("MASSIVE_API_KEY", "").strip(),
            massive_base_url=env.get("DXY_MASSIVE_BASE_URL", "").strip() or "https://api.massive.com",
            massive_calls_per_minute=_whole(env, "DXY_MASSIVE_CALLS_PER_MINUTE", 0),
            alert_urls=tuple(env.get("DXY_ALERT_URLS", "").split()),
            statement_timeout_s=_seconds(env, "DXY_STATEMENT_TIMEOUT_S", 60.0),
            lock_timeout_s=_seconds(env, "DXY_LOCK_TIMEOUT_S", 5.0),
            idle_in_transaction_timeout_s=_seconds(env, "DXY_IDLE_TIMEOUT_S", 60.0),
        )

    def behind_pooler(self, url: str) -> bool:
        """Whether `url` leads to a transaction pooler: DXY_POOLER for DATABASE_URL if set, else a pooler's port."""
        if self.pooler is not None and url and url == self.database_url:
            return self.pooler
        try:
            return urlsplit(url).port in POOLER_PORTS
        except ValueError:
            return False

    def make_data_dir(self) -> Path:
        """Create the data directory if it is not there and return it; raises UserError when we may not write to it."""
        hint = "set DXY_DATA_DIR to a directory of your own"
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot create the data directory {self.data_dir}: {error.strerror}", hint=hint) from error
        if not os.access(self.data_dir, os.W_OK | os.X_OK):
            raise UserError(f"no permission to write to the data directory {self.data_dir}", hint=hint)
        return self.data_dir

    def __repr__(self) -> str:
        """All settings but the secrets; the passwords of URLs are hidden."""
        shown = (f for f in fields(self) if f.name not in _SECRET_FIELDS)
        return f"Settings({', '.join(f'{f.name}={redact(repr(getattr(self, f.name)))}' for f in shown)})"


def default_data_dir(env: Mapping[str, str]) -> Path:
    """Return `<checkout>/var` when the package runs from a source checkout, else the XDG data directory."""
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "workspace.yaml").is_file():
        return checkout / "var"
    xdg = env.get("XDG_DATA_HOME", "")  # the XDG rules: a relative path there is to be ignored
    return (Path(xdg) if xdg.startswith("/") else Path.home() / ".local" / "share") / "dxy_pipeline"


def _path(env: Mapping[str, str], name: str) -> Path | None:
    text = env.get(name, "").strip()
    if not text:
        return None
    path = Path(text).expanduser()
    if not path.is_absolute():
        # A relative path would mean another place in each process: Dagster starts its own from other directories.
        raise UserError(f"{name} must be an absolute path, not {text!r}", hint=f"for example {name}={path.absolute()}")
    return path


def _database_url(env: Mapping[str, str], name: str) -> str:
    text = env.get(name, "").strip()
    if text and "://" not in text and "=" not in text:
        raise UserError(
            f"{name} is not a PostgreSQL URL", hint=f"for example {name}=postgresql://user@host:5432/dbname"
        )
    scheme = text.partition("://")[0].partition("+")[0] if "://" in text.partition("=")[0] else ""
    if scheme not in {"", "postgresql", "postgres"}:
        raise UserError(f"{name} is a {scheme} URL; only PostgreSQL is supported", hint="it starts with postgresql://")
    if scheme and not _CLEAR_URL.fullmatch(text):
        raise UserError(
            f"{name} cannot be read: a special character in it is not escaped, or its port is not a number",
            hint="write special characters of the password as %XX: @ is %40, / is %2F, : is %3A, # is %23, ? is %3F",
        )
    return text


def _port(env: Mapping[str, str]) -> int:
    text = env.get("DXY_PORT", "").strip() or "3000"
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise UserError(f"DXY_PORT must be a number from 1 to 65535, not {text!r}", hint="for example DXY_PORT=3000")
    return int(text)


def _whole(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{name} must be a whole number, not {text!r}", hint=f"for example {name}=5")
    return int(text)


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise UserError(f"{name} must be seconds from 0 to 86400, not {text!r}", hint=f"for example {name}={default:g}")
    return value


def _flag(env: Mapping[str, str], name: str) -> bool | None:
    text = env.get(name, "").strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    if text:
        raise UserError(f"{name} must be 1 or 0, not {text!r}", hint=f"for example {name}=1")
    return None


def _choice(env: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    text = env.get(name, "").strip().lower() or allowed[0]
    if text not in allowed:
        raise UserError(
            f"{name} must be one of {', '.join(allowed)}, not {text!r}", hint=f"for example {name}={allowed[0]}"
        )
    return text
