"""`python -m dxy_pipeline_tests.lint_sql` (part of `make lint`): every SQL file is read by a program that knows SQL.

- DDL files (schema, functions, and migration files that define things): squawk, by .squawk.toml.
- The statements that an upgrade runs on a desk's live tables, as they are composed for a database that lacks
  everything: squawk, each by itself, the concurrent ones outside a transaction.
- Queries: PREPARE on a real server at the schema's head, so that a wrong column or function name is found, too.
- Queries of the migration speak of views and columns that `prepare` makes in the shape of the desk's tables: here their
  grammar is read by squawk, their names are proved by the migration's own tests.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import psycopg

from dxy_pipeline.checks.config import CHECKS
from dxy_pipeline.db import widen
from dxy_pipeline.db.constants import sql_constants
from dxy_pipeline.db.shape import inspect
from dxy_pipeline.sql import trusted
from dxy_pipeline_tests.pg_server import Cluster

CONFIG = Path(__file__).resolve().parent.parent / ".squawk.toml"
SQL = Path(str(files("dxy_pipeline.sql")))
_DDL = re.compile(r"\s*(?:--[^\n]*\n\s*)*(CREATE|ALTER|DROP|GRANT|REVOKE|DO)\b", re.IGNORECASE)
_PARAMETER = re.compile(r"%\((\w+)\)s")
_PART = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")
# Parts that are no file of the same name: the alternatives with which a query is composed.
PARTS: Mapping[str, tuple[str, ...]] = {
    "bars": ("@bars_1m", "@bars_rollup"),
    "extra_columns": ("", ", provider_ticker"),
    "extra_values": ("", ", 'C:' || j.symbol"),
    "raw": ("d.raw", "NULL::jsonb"),  # a desk's data_bars may lack the column
}
# Names that are filled from the database's own shape, with what they may be.
SAMPLES: Mapping[str, str] = {
    "table": "data_bars",
    "absent": "array_remove(ARRAY[CASE WHEN d.raw IS NULL THEN 'raw' END], NULL)",
    **{
        name: text
        for column in ("open", "high", "low", "close", "vol", "vwap", "trade_count")
        for kind in ["bigint" if column == "trade_count" else "double precision"]
        for name, text in (
            (column, kind),
            (f"own_{column}", kind),
            (f"target_{column}", kind),
            (f"legacy_{column}", f"l.{column}::{kind}"),
            (f"bars_{column}", f"d.{column}::{kind}"),
        )
    },
}
# Thresholds reach the server as numbers; every other parameter's type is what the query makes of it.
_TYPES: Mapping[str, str] = {
    name: {int: "integer", float: "double precision"}[type(value)]
    for config in CHECKS
    for name, value in config.thresholds.items()
    if type(value) in {int, float}
}
MIGRATION = "migration"
# A desk's table may lack all of this: what an upgrade then does to the live table is linted, too.
NARROW = """
ALTER TABLE public.data_bars DROP COLUMN raw, DROP COLUMN created_at, DROP COLUMN updated_at;
DROP INDEX IF EXISTS public.data_bars_unique_idx;
ALTER TABLE public.data_bars DROP CONSTRAINT data_bars_source_check,
    ADD CONSTRAINT data_bars_source_check CHECK (source IN ('massive_api', 'ingest'));
ALTER TABLE public.derived_data_bars DROP COLUMN raw, DROP COLUMN source_candles, DROP COLUMN quality_score;
ALTER TABLE public.core_asset_registry_all DROP COLUMN metadata;
"""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, with where it is."""

    place: str
    text: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.place}: {self.text}"


def rendered(path: Path) -> str:
    """Return the file's text with the project's constants put in; an unknown name stays, for the parser to find."""
    known = {**SAMPLES, **sql_constants()}
    return re.sub(r"\$\{(\w+)\}", lambda match: known.get(match[1], match[1]), path.read_text(encoding="utf-8"))


def is_ddl(text: str) -> bool:
    """Return whether the first statement defines something."""
    return _DDL.match(text) is not None


def squawk(texts: Mapping[str, str], *options: str) -> list[Finding]:
    """Return what squawk finds in SQL texts that are known by a name."""
    with tempfile.TemporaryDirectory() as directory:
        places = {}
        for number, (name, text) in enumerate(sorted(texts.items())):
            place = Path(directory, f"{number:04}.sql")
            place.write_text(text, encoding="utf-8")
            places[place.name] = name
        if not places:
            return []
        program = Path(sys.executable).parent / "squawk"
        command = [str(program), "--config", str(CONFIG), "--reporter", "gcc", *options]
        done = subprocess.run(
            [*command, *sorted(str(Path(directory, place)) for place in places)],
            capture_output=True,
            text=True,
            check=False,
        )
    lines = [line for line in done.stdout.splitlines() if ".sql:" in line]
    if done.returncode and not lines:
        raise RuntimeError(f"squawk failed: {done.stderr.strip() or done.stdout.strip()}")
    found = (re.match(r".*?(\d{4}\.sql):(\d+):\d+: (.*)", line) for line in lines)
    return [Finding(f"{places[m[1]]}:{m[2]}", m[3]) for m in found if m]


def compositions(path: Path, text: str) -> Iterator[str]:
    """Yield the statements that a query with `{parts}` becomes. Raises KeyError for a part that is unknown."""
    parts = list(dict.fromkeys(_PART.findall(text)))
    if not parts:
        yield text.replace("{{", "{").replace("}}", "}")
        return
    choices = {part: _texts(path, part) for part in parts}
    for number in range(max(map(len, choices.values()))):
        chosen = {part: texts[number % len(texts)] for part, texts in choices.items()}
        yield from compositions(path, _PART.sub(lambda match, chosen=chosen: chosen[match[1]], text))


def _texts(path: Path, part: str) -> list[str]:
    named = PARTS.get(part, (f"@{part}",))
    places = [path.with_name(f"{name[1:]}.sql") for name in named if name.startswith("@")]
    if missing := [place.name for place in places if not place.exists()]:
        raise KeyError(f"the part {{{part}}} is not known: no {missing[0]} beside it, none in PARTS")
    return [rendered(path.with_name(f"{name[1:]}.sql")) if name.startswith("@") else name for name in named]


def prepare(conn: psycopg.Connection, statement: str) -> str | None:
    """Let the server parse and plan a query; return what it says against it, None when it is sound."""
    names = list(dict.fromkeys(_PARAMETER.findall(statement)))
    types = ", ".join(_TYPES.get(name, "unknown") for name in names)
    plain = _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", statement).replace("%%", "%")
    try:
        with conn.transaction(force_rollback=True):
            head = f"PREPARE linted{f' ({types})' if types else ''} AS "
            conn.execute(trusted(head + plain.strip().rstrip(";")), prepare=False)
            conn.execute("DEALLOCATE linted")
    except psycopg.errors.IndeterminateDatatype:
        return None  # parsed; the type of a parameter comes with its value
    except psycopg.Error as error:
        return str(error).splitlines()[0]
    return None


def lint_queries(conn: psycopg.Connection, queries: Mapping[Path, str]) -> Iterator[Finding]:
    """Yield what is wrong with queries; a file that is only a part of others is judged where it is used."""
    used = {name for text in queries.values() for part in _PART.findall(text) for name in _files_of(part)}
    for path, text in sorted(queries.items()):
        if path.stem in used and path.parent.name == "checks":
            continue
        try:
            statements = list(compositions(path, text))
        except KeyError as error:
            yield Finding(_name(path), str(error.args[0]))
            continue
        for statement in statements:
            if fault := prepare(conn, statement):
                yield Finding(_name(path), fault)


def _files_of(part: str) -> list[str]:
    return [name[1:] for name in PARTS.get(part, (f"@{part}",)) if name.startswith("@")]


def _name(path: Path) -> str:
    return str(path.relative_to(SQL)) if path.is_relative_to(SQL) else path.name


def lint_live_steps(conn: psycopg.Connection) -> Iterator[Finding]:
    """Yield what squawk says of the statements for a live table that lacks everything; the database is made such."""
    conn.execute(trusted(NARROW))
    steps = widen.steps(conn, inspect(conn))
    if len(steps) < 5:
        yield Finding("db/widen.py", f"only {len(steps)} steps for a table that lacks everything")
    for concurrent in (False, True):
        texts = {
            f"db/widen.py, {s.title}": f"{s.statement.as_string(conn)};" for s in steps if s.concurrent is concurrent
        }
        options = ("--no-assume-in-transaction",) if concurrent else ("--assume-in-transaction",)
        # the one constraint that is dropped comes back wider in the same ALTER: tested with rows it must refuse
        excluded = [*tomllib.loads(CONFIG.read_text())["excluded_rules"], "ban-drop-constraint"]
        yield from squawk(texts, *options, "--exclude", ",".join(excluded))


def lint(conn: psycopg.Connection, folder: Path = SQL) -> list[Finding]:
    """Return every finding in the SQL files under `folder`, judged on a database at the schema's head."""
    texts = {path: rendered(path) for path in sorted(folder.rglob("*.sql"))}
    ddl = {path: text for path, text in texts.items() if is_ddl(text)}
    queries = {path: text for path, text in texts.items() if path not in ddl}
    grammar = {path: text for path, text in queries.items() if path.parent.name == MIGRATION}
    conn.execute("SET search_path = ''")  # a query that leans on the caller's path is a finding
    conn.execute("ALTER TABLE public.data_bars ADD COLUMN IF NOT EXISTS provider_ticker text")  # some desks have it
    return [
        *squawk({_name(path): text for path, text in ddl.items()}),
        *squawk({_name(path): _PARAMETER.sub("$1", text) for path, text in grammar.items()}),
        *lint_queries(conn, {path: text for path, text in queries.items() if path not in grammar}),
    ]


def main() -> int:
    """Lint everything; print findings and return the exit code."""
    cluster = Cluster(18)
    try:
        with psycopg.connect(cluster.create(head=True), autocommit=True) as conn:
            found = [*lint(conn), *lint_live_steps(conn)]
    finally:
        cluster.close()
    for finding in found:
        print(finding)
    print(f"SQL: {len(list(SQL.rglob('*.sql')))} files, {len(found)} finding(s)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
