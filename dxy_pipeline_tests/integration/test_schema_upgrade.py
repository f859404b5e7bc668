"""`dxy db plan` and `dxy db upgrade` on the shapes E, S and P, as any owner, after a crash, beside another upgrade."""

import itertools
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from dxy_pipeline.db import schema, versions
from dxy_pipeline.db.shape import inspect
from dxy_pipeline.errors import UserError
from dxy_pipeline_tests.bars import derive, dxy_minutes, scalar
from dxy_pipeline_tests.pg_server import Cluster
from dxy_pipeline_tests.shapes import START, Built, build_shape_p, build_shape_s

DAY = START.replace(hour=3) - START
CATALOG = """
    SELECT array_agg(line ORDER BY line COLLATE "C") FROM (
        SELECT format('relation %s %s owner %s acl %s rls %s', c.oid::regclass, c.relkind, c.relowner::regrole,
            (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(c.relacl) AS a), c.relrowsecurity)
        FROM pg_class AS c WHERE c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'dxy'))
        UNION ALL
        SELECT format('column %s.%s %s %s %s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
            a.attnotnull, pg_get_expr(d.adbin, d.adrelid))
        FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid IN (SELECT oid FROM pg_class WHERE relnamespace IN
            (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'dxy')))
        UNION ALL
        SELECT format('constraint %s %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated)
        FROM pg_constraint WHERE connamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'dxy'))
            AND contype <> 'n'
        UNION ALL
        SELECT format('index %s %s', pg_get_indexdef(indexrelid), indisvalid) FROM pg_index WHERE indrelid IN
            (SELECT oid FROM pg_class WHERE relnamespace IN
                (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'dxy')))
        UNION ALL
        SELECT format('trigger %s %s', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL
        SELECT format('function %s %s %s %s', oid::regprocedure, proowner::regrole, md5(pg_get_functiondef(oid)),
            (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(proacl) AS a))
        FROM pg_proc WHERE pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'dxy'))
        UNION ALL
        SELECT format('schema %s %s %s', nspname, nspowner::regrole, nspacl) FROM pg_namespace
        WHERE nspname IN ('public', 'dxy')
        UNION ALL
        SELECT format('policy %s %s %s', polrelid::regclass, polname, polroles::regrole[]) FROM pg_policy
    ) AS l (line)"""
ROWS = """
    SELECT md5(string_agg(row, '' ORDER BY row COLLATE "C")) FROM (
        SELECT d::text || d.xmin || d.ctid FROM public.data_bars AS d
        UNION ALL SELECT d::text || d.xmin || d.ctid FROM public.derived_data_bars AS d
        UNION ALL SELECT r::text || r.xmin || r.ctid FROM public.core_asset_registry_all AS r) AS rows (row)"""


def open_db(url: str, **options: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, **options)


def without_legacy(conn: psycopg.Connection) -> None:
    conn.execute(
        "UPDATE derived_data_bars SET deleted_at = now() WHERE canonical_symbol = 'DXY' AND timeframe = '1m'"
        " AND deleted_at IS NULL"
    )


def build(conn: psycopg.Connection, shape: str) -> Built | None:
    if shape == "E":
        return None
    return build_shape_s(conn, hours=1) if shape == "S" else build_shape_p(conn, hours=1)


@pytest.fixture(params=["E", "S", "P"])
def shape(request: pytest.FixtureRequest) -> str:
    return request.param


# --- plan ---------------------------------------------------------------------------------------------------------


def test_plan_changes_nothing_and_needs_no_write(any_empty_db: str, shape: str) -> None:
    with open_db(any_empty_db) as conn:
        built = build(conn, shape)
        before = (scalar(conn, CATALOG), scalar(conn, ROWS) if built else None)
        roles = scalar(conn, "SELECT array_agg(rolname ORDER BY 1) FROM pg_roles")
        with open_db(any_empty_db, options="-c default_transaction_read_only=on") as reading:
            found = schema.plan(reading)
        assert (found.shape, found.refused, found.revision) == (shape, [], None)
        assert found.legacy_active_rows == (built.legacy_active if built else 0)
        assert any("schema version 0001" in title for title, _ in found.steps)
        assert bool(found.waits_for_migration) is bool(built)
        assert (scalar(conn, CATALOG), scalar(conn, ROWS) if built else None) == before
        assert scalar(conn, "SELECT array_agg(rolname ORDER BY 1) FROM pg_roles") == roles


def test_plan_after_the_upgrade_has_nothing_to_do(empty_db: str, shape: str) -> None:
    with open_db(empty_db) as conn:
        build(conn, shape)
        schema.upgrade(conn)
        after = schema.plan(conn)
        assert (after.steps, after.refused, after.revision) == ([], [], after.head)


REGISTRY_ROWS = (
    "SELECT jsonb_object_agg(r.canonical_symbol, to_jsonb(r) - 'updated_at' - 'created_at')"
    " FROM public.core_asset_registry_all AS r"
)
# What of a catalog's line is new → words of the plan that must announce it; {0} is the object.
ANNOUNCED = (
    (
        r"relation (public\.)?(data_bars|derived_data_bars|core_asset_registry_all) r owner",
        "create data_bars, |hand |grants: ",
    ),
    (r"relation (public\.)?data_bars_id_seq S ", "grants: .*its sequence"),
    (r"trigger CREATE TRIGGER dxy_touch", "log touched minutes by triggers on data_bars"),
    (r"column (?:public\.)?(\w+)\.(\w+)", r"add .*\b{1}\b.* to {0}"),
    (r"constraint (?:public\.)?\w+ (\S+)", r"CHECK {0}"),
    (r"function (?:public\.)?(calc_\w+)\(", r"function file {0}"),
    (r"function dxy\.", r"function file "),
    (r"schema (?:public|dxy) ", r"hand .* to .*, who gets CREATE on the schemas|create the schema dxy|grants: "),
    (r"policy (?:public\.)?(\w+) (\w+)", r"add the policy {1} to {0}"),
    (r"(?:relation|column|constraint|index|trigger) .*\bdxy\.", "schema version"),
)


def unannounced(lines: set[str], words: list[str]) -> list[str]:
    """Lines of the catalog that no step of the plan spoke of."""
    said, left = "\n".join(words), []
    for line in lines:
        ours = re.match(r"(relation|column|constraint) dxy\.|(trigger|index) .* ON dxy\.", line)
        rules = ANNOUNCED[-1:] if ours else ANNOUNCED
        rule = next(((m, rule) for pattern, rule in rules if (m := re.match(pattern, line))), None)
        if rule is None or not re.search(rule[1].format(*(g for g in rule[0].groups() if g)), said):
            left.append(line)
    return left


@pytest.mark.parametrize("legacy", [False, True], ids=["no legacy rows", "legacy rows"])
def test_the_plan_says_all_that_the_upgrade_does(any_empty_db: str, shape: str, legacy: bool) -> None:
    """Catalog, roles and registry before and after, against the steps: nothing is changed that was not announced."""
    with open_db(any_empty_db) as conn:
        built = build(conn, shape)
        if built and not legacy:
            without_legacy(conn)
            conn.execute("DELETE FROM data_bars WHERE canonical_symbol = 'DXY'")
        before = set(scalar(conn, CATALOG))
        registry = scalar(conn, REGISTRY_ROWS) if built else {}
        found = schema.plan(conn)
        done: list[str] = []
        schema.upgrade(conn, done.append)
        after = set(scalar(conn, CATALOG))
        words = [title for title, _ in found.steps]
        assert shape == "E" or unannounced(after - before, words) == []
        assert set(done) <= set(words), "the upgrade noted what the plan did not list"
        now = scalar(conn, REGISTRY_ROWS)
        added = sorted(now.keys() - registry.keys())
        changed = {key for row in registry for key in now[row] if registry[row].get(key) != now[row][key]}
        assert changed <= {"description", "metadata"}
        listed = [title for title in words if title.startswith("registry: ")]
        assert bool(listed) is bool(added or changed)
        assert all(symbol in " ".join(listed) for symbol in added)
        assert schema.plan(conn).steps == []


def test_a_desks_registry_gets_no_pairs_and_keeps_its_values(any_empty_db: str) -> None:
    """The seed asks for the row of DXY only; its upsert sets description and metadata, and the plan says so."""
    with open_db(any_empty_db) as conn:
        build_shape_s(conn, hours=1)
        without_legacy(conn)
        conn.execute("UPDATE core_asset_registry_all SET description = 'the desk wrote this'")
        before = scalar(conn, REGISTRY_ROWS)
        words = [title for title, _ in schema.plan(conn).steps]
        expected = "registry: set the description (now 'the desk wrote this') and our keys of the metadata of DXY"
        assert expected in words
        schema.upgrade(conn)
        after = scalar(conn, REGISTRY_ROWS)
        assert after.keys() == before.keys() == {"EURUSD", "DXY"}
        assert after["EURUSD"] == before["EURUSD"]
        assert (after["DXY"]["test_active"], after["DXY"]["metadata"]["desk"]) == (False, "note")


def test_a_foreign_key_brings_the_pairs_in_but_not_as_active(empty_db: str) -> None:
    with open_db(empty_db) as conn:
        build_shape_p(conn, hours=1)
        without_legacy(conn)
        conn.execute("DELETE FROM data_bars WHERE canonical_symbol = 'USDSEK'")
        conn.execute("DELETE FROM core_asset_registry_all WHERE canonical_symbol = 'USDSEK'")
        assert "registry: add USDSEK" in [title for title, _ in schema.plan(conn).steps]
        schema.upgrade(conn)
        row = "SELECT active OR test_active FROM core_asset_registry_all WHERE canonical_symbol = 'USDSEK'"
        assert scalar(conn, row) is False


@pytest.mark.parametrize("name", ["S", "P"])
def test_the_plan_counts_a_desks_own_minutes(any_empty_db: str, name: str) -> None:
    with open_db(any_empty_db) as conn:
        build(conn, name)
        without_legacy(conn)
        conn.execute(
            "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
            " SELECT 'DXY', '1m', %s + g * interval '1 minute', 1, 1, 1, 1, 0, 'ingest' FROM generate_series(0, 3) AS g",
            (START,),
        )
        said = "24 DXY minutes in data_bars are not of this project's making: a backfill of their range replaces 4 by"
        for _ in range(2):
            assert any(line.startswith(said) and "leaves 20" in line for line in schema.plan(conn).notes)
            schema.upgrade(conn)
        derive(conn, START, START + DAY)
        (line,) = schema.plan(conn).notes
        assert line.startswith("20 DXY minutes")
        assert "replaces 0 by" in line


def test_lost_grants_are_seen_and_mended(conn: psycopg.Connection) -> None:
    function = "calc_dxy_range_1m(timestamptz, timestamptz, integer)"
    losses = {  # a grant is cleared, then set again with all others
        "REVOKE SELECT ON data_bars FROM dxy_reader": ["restore", "grants:"],
        f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC": ["restore", "grants:"],
        "ALTER FUNCTION dxy.index_price OWNER TO CURRENT_USER": ["hand"],
    }
    for loss, mending in losses.items():
        conn.execute(loss)  # type: ignore[arg-type]
        steps = [title.split()[0] for title, _ in schema.plan(conn).steps]
        assert steps == mending, loss
        schema.upgrade(conn)
        assert schema.plan(conn).steps == []


def test_plan_names_each_lock(empty_db: str) -> None:
    with open_db(empty_db) as conn:
        build_shape_s(conn, hours=1)
        locks = dict(schema.plan(conn).waits_for_migration)
    assert locks["widen the CHECK data_bars_source_check by 'synthetic'"] == "ACCESS EXCLUSIVE for an instant"
    assert "reads and writes go on" in locks["validate the CHECK data_bars_source_check"]


# --- upgrade ------------------------------------------------------------------------------------------------------


def test_a_second_upgrade_writes_nothing(any_empty_db: str, shape: str) -> None:
    with open_db(any_empty_db) as conn:
        build(conn, shape)
        schema.upgrade(conn)
        own = (
            "SELECT array_agg(format('%s %s', k.tbl, k.xmin)) FROM ("
            + " UNION ALL ".join(
                f"SELECT '{name}' AS tbl, xmin FROM {name}"
                for name in ("dxy.setting", "dxy.function_digest", "dxy.migration_control", "dxy.deployed_object")
            )
            + " UNION ALL SELECT 'session', max(xmin::text::bigint)::text::xid FROM dxy.fx_session) AS k"
        )
        before = (scalar(conn, CATALOG), scalar(conn, ROWS), scalar(conn, own))
        schema.upgrade(conn)
        assert (scalar(conn, CATALOG), scalar(conn, ROWS), scalar(conn, own)) == before


def test_version_by_version_ends_where_one_upgrade_does(any_empty_db: str, any_db: str) -> None:
    revisions = [s.revision for s in versions.scripts().walk_revisions()]
    with open_db(any_empty_db) as conn, open_db(any_db) as head:
        conn.execute("CREATE SCHEMA dxy")
        for revision in reversed(revisions):
            versions.run(conn, empty=True, target=revision)
        schema.upgrade(conn)
        assert scalar(conn, CATALOG) == scalar(head, CATALOG)
        assert scalar(conn, "SELECT array_agg(version_num) FROM dxy.dxy_alembic_version") == [revisions[0]]
        assert scalar(conn, "SELECT to_regclass('public.alembic_version')") is None  # dagster-postgres owns that name


def test_notes_of_unverifiable_minutes_come_along(any_empty_db: str) -> None:
    """Up to version 0003 each was a row of its own."""
    minutes = "generate_series('2024-01-01 23:50+00'::timestamptz, '2024-01-02 00:10+00', '5 minutes')"
    with open_db(any_empty_db) as conn:
        conn.execute("CREATE SCHEMA dxy")
        versions.run(conn, empty=True, target="0003")
        conn.execute(f"INSERT INTO dxy.unverifiable_minute (ts_utc) SELECT m FROM {minutes} AS m")
        schema.upgrade(conn)
        assert scalar(conn, "SELECT array_agg(u.day::text ORDER BY u.day) FROM dxy.unverifiable_day AS u") == [
            "2024-01-01", "2024-01-02",
        ]  # fmt: skip
        noted = (
            "SELECT array_agg(m) FROM generate_series('2024-01-01 23:00+00'::timestamptz, '2024-01-02 01:00+00', '1 minute')"
            " AS m WHERE dxy.is_unverifiable(m)"
        )
        assert scalar(conn, noted) == scalar(conn, f"SELECT array_agg(m) FROM {minutes} AS m")


@pytest.mark.parametrize("name", ["S", "P"])
def test_legacy_rows_make_the_tables_wait(any_empty_db: str, name: str) -> None:
    """Ledger and functions only: the desk's tables keep columns, constraints, triggers and every row version."""
    public = (
        "SELECT array_agg(l) FROM unnest(%s::text[]) AS l"
        " WHERE l ~ '^trigger .* ON public' OR (l ~ '^(column|constraint|index) ' AND l !~ 'dxy[.]')"
    )
    with open_db(any_empty_db) as conn:
        built = build(conn, name)
        assert built
        assert built.legacy_active > 100
        before, rows = set(scalar(conn, public, scalar(conn, CATALOG))), scalar(conn, ROWS)
        schema.upgrade(conn)
        assert set(scalar(conn, public, scalar(conn, CATALOG))) ^ before == set()
        assert scalar(conn, ROWS) == rows
        assert inspect(conn).migration_state == "legacy"
        answer = derive(conn, built.start, built.end)
        assert answer["success"] is False
        assert 'state legacy: DXY 1m still belongs to derived_data_bars; next: "dxy migrate prepare"' in answer["error"]
        roll_up = scalar(conn, "SELECT calc_dxy_rollup_range('5m', %s, %s)", built.start, built.end)
        assert 'belong to the desk\'s aggregator until "dxy migrate cutover"' in roll_up["error"]


@pytest.mark.parametrize("name", ["S", "P"])
def test_without_legacy_rows_the_database_is_free_at_once(any_empty_db: str, name: str) -> None:
    with open_db(any_empty_db) as conn:
        built = build(conn, name)
        assert built
        conn.execute("DELETE FROM data_bars WHERE canonical_symbol = 'DXY'")
        without_legacy(conn)
        prices = {c.name: c.type for c in inspect(conn).tables["data_bars"].columns.values()}
        fx = (
            "SELECT md5(string_agg((to_jsonb(d) - '{raw,created_at,updated_at}'::text[])::text, ''"
            " ORDER BY ts_utc, canonical_symbol)) FROM data_bars AS d WHERE canonical_symbol <> 'DXY'"
        )
        before = scalar(conn, fx)
        assert schema.upgrade(conn).shape == name
        db = inspect(conn)
        assert db.migration_state == "none"
        assert {
            n: t for n, t in prices.items() if n in db.tables["data_bars"].columns
        } == prices  # none changed its type
        assert db.tables["data_bars"].columns.keys() >= {"raw", "created_at", "updated_at"}
        assert all(check.validated for check in db.tables["data_bars"].checks)
        answer = derive(conn, built.start, built.end)
        assert (answer["success"], answer["inserted"]) == (True, 3 * 59)
        assert scalar(conn, fx) == before
        metadata = scalar(conn, "SELECT metadata FROM core_asset_registry_all WHERE canonical_symbol = 'DXY'")
        assert metadata["data_location"] == "data_bars"
        if name == "S":
            assert metadata["desk"] == "note"
        for timeframe in ("5m", "1h"):
            call = "SELECT calc_dxy_rollup_range(%s, %s, %s)"
            assert scalar(conn, call, timeframe, built.start, built.end)["success"] is True
            assert scalar(conn, call, timeframe, built.start, built.end)["inserted"] == 0


@pytest.mark.parametrize("state", ["prepared", "dual_write", "verified"])
def test_an_upgrade_in_mid_migration_leaves_the_registry_with_legacy(empty_db: str, state: str) -> None:
    with open_db(empty_db) as conn:
        build_shape_s(conn, hours=1)
        schema.upgrade(conn)
        conn.execute("UPDATE dxy.migration_control SET state = %s", (state,))
        schema.upgrade(conn)
        location = "SELECT metadata ->> 'data_location' FROM core_asset_registry_all WHERE canonical_symbol = 'DXY'"
        assert scalar(conn, location) == "derived_data_bars"


def test_a_check_of_another_name_is_widened(empty_db: str) -> None:
    with open_db(empty_db) as conn:
        build_shape_s(conn, hours=1, check_name='"odd name"')
        without_legacy(conn)
        schema.upgrade(conn)
        (check,) = inspect(conn).tables["data_bars"].checks
        assert (check.name, check.validated) == ("odd name", True)
        add = "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, source) VALUES ('X', '1m', now(), %s)"
        conn.execute(add, ("synthetic",))
        with pytest.raises(psycopg.errors.CheckViolation):
            conn.execute(add, ("nonsense",))


def test_a_check_that_old_rows_break_stays_not_valid(empty_db: str) -> None:
    with open_db(empty_db) as conn:
        build_shape_s(conn, hours=1)
        without_legacy(conn)
        conn.execute("ALTER TABLE data_bars DROP CONSTRAINT data_bars_source_check")
        conn.execute("UPDATE data_bars SET source = 'massive' WHERE canonical_symbol = 'EURUSD'")
        conn.execute("ALTER TABLE data_bars ADD CONSTRAINT c CHECK (source IN ('massive_api', 'ingest')) NOT VALID")
        notes: list[str] = []
        schema.upgrade(conn, notes.append)
        assert any("stays NOT VALID" in note for note in notes)
        (check,) = inspect(conn).tables["data_bars"].checks
        assert (check.validated, "'synthetic'" in check.expression) == (False, True)
        schema.upgrade(conn)


def test_an_invalid_index_is_built_anew(any_empty_db: str) -> None:
    with open_db(any_empty_db) as conn:
        build_shape_s(conn, hours=1)
        without_legacy(conn)
        conn.execute("DROP INDEX data_bars_unique_idx")
        conn.execute("INSERT INTO data_bars SELECT * FROM data_bars LIMIT 1")
        make = (
            "CREATE UNIQUE INDEX CONCURRENTLY data_bars_unique_idx ON data_bars (canonical_symbol, timeframe, ts_utc)"
        )
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute(make)
        assert ["holds two rows with one" in reason for reason in schema.plan(conn).refused] == [True]
        conn.execute(
            "DELETE FROM data_bars AS d WHERE EXISTS (SELECT FROM data_bars AS o WHERE (o.canonical_symbol,"
            " o.timeframe, o.ts_utc) = (d.canonical_symbol, d.timeframe, d.ts_utc) AND o.ctid < d.ctid)"
        )
        assert any("anew, the one there is invalid" in title for title, _ in schema.plan(conn).steps)
        conn.execute("SET lock_timeout = '7s'")
        schema.upgrade(conn)
        index = inspect(conn).tables["data_bars"].key_index()
        assert index
        assert (index.name, index.valid) == ("data_bars_unique_idx", True)
        assert scalar(conn, "SHOW lock_timeout") == "7s"  # the caller's own setting is back


# --- refusals -----------------------------------------------------------------------------------------------------

REFUSED = [
    ("ALTER TABLE data_bars ALTER ts_utc TYPE timestamp", "data_bars.ts_utc is timestamp without time zone"),
    ("ALTER TABLE data_bars ALTER close TYPE numeric(12,4)", "data_bars.close is numeric(12,4)"),
    ("ALTER TABLE data_bars ALTER close TYPE numeric(11,8)", "4 digits before them"),
    ("ALTER TABLE data_bars ALTER close TYPE real", "data_bars.close is real"),
    ("ALTER TABLE data_bars ADD raw json", "data_bars.raw is json; needed: jsonb"),
    ("ALTER TABLE data_bars DROP vwap", "data_bars lacks the column vwap"),
    (
        "ALTER TABLE data_bars ADD desk text DEFAULT '' NOT NULL; ALTER TABLE data_bars ALTER desk DROP DEFAULT",
        "data_bars.desk is NOT NULL without a default",
    ),
    (
        "ALTER TABLE core_asset_registry_all ADD desk text DEFAULT '' NOT NULL;"
        " ALTER TABLE core_asset_registry_all ALTER desk DROP DEFAULT",
        "core_asset_registry_all.desk is NOT NULL",
    ),
    (
        "ALTER TABLE core_asset_registry_all DROP CONSTRAINT core_asset_registry_all_pkey",
        "no valid unique index on canonical_symbol",
    ),
    ("DROP TABLE core_asset_registry_all", "table public.core_asset_registry_all is missing"),
    ("ALTER TABLE data_bars ADD CONSTRAINT a CHECK (canonical_symbol <> 'DXY') NOT VALID", "the CHECK a refuses"),
    ("ALTER TABLE derived_data_bars ADD CONSTRAINT a CHECK (timeframe <> '1h')", "the CHECK a refuses"),
    ("DROP INDEX derived_data_bars_key", "derived_data_bars has no valid unique index"),
    (
        "DROP INDEX data_bars_unique_idx; CREATE UNIQUE INDEX data_bars_unique_idx ON data_bars (ts_utc, timeframe,"
        " canonical_symbol)",
        "is not what its name says",
    ),
    (
        "DROP INDEX data_bars_unique_idx; CREATE UNIQUE INDEX data_bars_unique_idx ON data_bars"
        " (canonical_symbol, timeframe, ts_utc) WHERE close > 0",
        "is not what its name says",
    ),
    (
        "DROP INDEX data_bars_unique_idx; CREATE INDEX data_bars_unique_idx ON core_asset_registry_all (asset_class)",
        "name data_bars_unique_idx is taken",
    ),
    ("ALTER TABLE data_bars RENAME TO bars; CREATE VIEW data_bars AS SELECT * FROM bars", "is not an ordinary table"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_what_cannot_be_served_is_refused_with_the_reason(empty_db: str, change: str, words: str) -> None:
    with open_db(empty_db) as conn:
        build_shape_s(conn, hours=1)
        without_legacy(conn)
        conn.execute(change)  # type: ignore[arg-type]
        before = scalar(conn, CATALOG)
        reasons = schema.plan(conn).refused
        assert any(words in reason for reason in reasons), reasons
        with pytest.raises(UserError) as error:
            schema.upgrade(conn)
        assert reasons[0] in str(error.value)
        assert error.value.hint == 'see "dxy db plan" for the whole list'
        assert scalar(conn, CATALOG) == before


def test_the_derived_key_may_stand_in_any_order(empty_db: str) -> None:
    with open_db(empty_db) as conn:
        build_shape_s(conn, hours=1, natives=False)
        without_legacy(conn)
        conn.execute("DROP INDEX derived_data_bars_key")
        conn.execute(
            "CREATE UNIQUE INDEX k ON derived_data_bars (ts_utc, timeframe, canonical_symbol) WHERE deleted_at IS NULL"
        )
        assert schema.upgrade(conn).refused == []


def test_a_newer_database_is_refused(conn: psycopg.Connection) -> None:
    conn.execute("UPDATE dxy.dxy_alembic_version SET version_num = '9999'")
    assert schema.plan(conn).refused == ["the database is at schema version 9999, newer than this code"]
    with pytest.raises(UserError, match="newer than this code"):
        schema.upgrade(conn)
    with pytest.raises(UserError, match="newer than this code") as error:
        schema.require_head(conn)
    assert error.value.hint == "install the newer version of dxy_pipeline"


def test_require_head_says_what_to_run(empty_db: str) -> None:
    with open_db(empty_db) as conn:
        with pytest.raises(UserError, match="has no schema of this project") as error:
            schema.require_head(conn)
        assert error.value.hint == 'run "dxy db upgrade" first'
        schema.upgrade(conn)
        schema.require_head(conn)
        conn.execute("UPDATE dxy.dxy_alembic_version SET version_num = '0001'")
        with pytest.raises(UserError, match="at schema version 0001"):
            schema.require_head(conn)


# --- crashes and company ------------------------------------------------------------------------------------------


class Crashing(psycopg.Connection[Any]):
    """A connection that dies at its n-th statement, whoever sends it."""

    left = -1

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            self.close()
        return super().cursor(*args, **kwargs)


@pytest.mark.parametrize("name", ["E", "S", "P"])
def test_an_upgrade_that_dies_anywhere_is_simply_run_again(
    server: Cluster, new_database: Callable[..., str], name: str
) -> None:
    def prepared() -> str:
        url = new_database(server, head=False)
        with open_db(url) as conn:
            build(conn, name)
            if name != "E":
                without_legacy(conn)
        return url

    whole = prepared()
    with open_db(whole) as conn:
        schema.upgrade(conn)
        expected = scalar(conn, CATALOG)
    url, deaths = prepared(), 0
    for statement in itertools.count(2, 23):
        crashing = Crashing.connect(url, autocommit=True)
        crashing.left = statement
        try:
            schema.upgrade(crashing)
            break
        except Exception:  # whatever layer meets the closed connection first
            if not crashing.closed:
                raise
            deaths += 1
    assert deaths >= 4
    with open_db(url) as conn:
        schema.upgrade(conn)
        assert scalar(conn, CATALOG) == expected
        assert schema.plan(conn).steps == []


def test_upgrades_at_the_same_moment_take_turns(any_empty_db: str, any_db: str) -> None:
    start = threading.Barrier(4)

    def run(_: int) -> list[str]:
        with open_db(any_empty_db) as conn:
            start.wait(30)
            return schema.upgrade(conn).refused

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(run, range(4))) == [[], [], [], []]
    with open_db(any_empty_db) as conn, open_db(any_db) as head:
        assert scalar(conn, CATALOG) == scalar(head, CATALOG)


def test_an_upgrade_does_not_wait_for_ever_for_another(db: str) -> None:
    with open_db(db) as other, open_db(db, options="-c lock_timeout=100ms") as conn:
        other.execute("SELECT pg_advisory_lock(7411, -1)")
        with pytest.raises(UserError, match=r"another upgrade of database .* is under way"):
            schema.upgrade(conn)


def test_ddl_waits_briefly_for_a_busy_table_and_says_so(empty_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader with an open transaction must not have the desk queue behind our ALTER."""
    monkeypatch.setattr("dxy_pipeline.db.widen.stop_after_attempt", lambda _: lambda state: state.attempt_number >= 2)
    with open_db(empty_db) as conn, psycopg.connect(empty_db) as reader:
        build_shape_s(conn, hours=1)
        without_legacy(conn)
        reader.execute("SELECT count(*) FROM data_bars")
        with pytest.raises(UserError, match="could not get the lock for: add raw, created_at, updated_at") as error:
            schema.upgrade(conn)
        assert "pg_stat_activity" in str(error.value.hint)
        reader.rollback()
        schema.upgrade(conn)
        assert schema.plan(conn).steps == []


# --- who upgrades -------------------------------------------------------------------------------------------------

ROLES = ("dxy_owner", "dxy_writer", "dxy_reader", "desk", "clerk", "stranger")


@pytest.fixture(scope="module")
def bare_cluster(any_server: Cluster) -> Iterator[Cluster]:
    """A server of its own, whose roles nobody has made yet."""
    cluster = Cluster(any_server.major)
    yield cluster
    cluster.close()


@pytest.fixture
def bare(bare_cluster: Cluster) -> Iterator[Callable[..., str]]:
    """A function that makes roles and a database owned by `desk`: its URL for a user."""
    urls: list[str] = []

    def make(*statements: str) -> Callable[[str], str]:
        url = bare_cluster.create(head=False)
        urls.append(url)
        name = conninfo.conninfo_to_dict(url)["dbname"]
        with open_db(bare_cluster.url()) as admin:
            for statement in statements:
                admin.execute(statement)  # type: ignore[arg-type]
            admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO desk").format(sql.Identifier(str(name))))
        return lambda user: conninfo.make_conninfo(url, user=user)

    yield make
    for url in urls:
        bare_cluster.drop(url)
    with open_db(bare_cluster.url()) as admin:
        for role in ROLES:
            admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def works_for(conn: psycopg.Connection, built: Built | None) -> bool:
    """Upgrade twice, derive, and see that nobody else may."""
    schema.upgrade(conn)
    schema.upgrade(conn)
    if built is None:
        return derive(conn, START, START + DAY)["success"]
    return derive(conn, built.start, built.end)["inserted"] > 0


@pytest.mark.parametrize("name", ["E", "S", "P"])
@pytest.mark.parametrize("attribute", ["NOCREATEROLE", "CREATEROLE"])
def test_an_owner_who_is_no_superuser(bare: Callable[..., Any], attribute: str, name: str) -> None:
    url = bare(f"CREATE ROLE desk LOGIN {attribute}")
    with open_db(url("desk")) as conn:
        built = build(conn, name)
        if built:
            without_legacy(conn)
        asks = any("may not create roles" in line for line in schema.plan(conn).notes)
        assert asks is (attribute == "NOCREATEROLE")
        assert works_for(conn, built)
        roles = scalar(conn, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'dxy\\_%%' AND %s", True)
        assert roles == (3 if attribute == "CREATEROLE" else 0)
        owner = scalar(conn, "SELECT tableowner FROM pg_tables WHERE tablename = 'data_bars'")
        assert owner == ("dxy_owner" if name == "E" and attribute == "CREATEROLE" else "desk")
        function_owner = "SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'calc_dxy_range_1m'"
        assert scalar(conn, function_owner) == owner
        anyone = (
            "SELECT has_function_privilege('public', oid, 'EXECUTE') FROM pg_proc WHERE proname = 'calc_dxy_range_1m'"
        )
        assert scalar(conn, anyone) is False


def test_roles_that_an_administrator_made_are_granted_but_not_taken(bare: Callable[..., Any]) -> None:
    url = bare("CREATE ROLE desk LOGIN", *(f"CREATE ROLE {role} NOLOGIN" for role in ROLES[:3]))
    with open_db(url("desk")) as conn:
        assert works_for(conn, None)
        assert scalar(conn, "SELECT tableowner FROM pg_tables WHERE tablename = 'data_bars'") == "desk"
        assert scalar(conn, "SELECT has_table_privilege('dxy_writer', 'data_bars', 'SELECT')") is True
        assert scalar(conn, "SELECT has_table_privilege('dxy_reader', 'dxy.touched_range', 'SELECT')") is True


def test_a_member_of_the_owner_may_upgrade(bare: Callable[..., Any]) -> None:
    url = bare("CREATE ROLE desk LOGIN", "CREATE ROLE clerk LOGIN", "GRANT desk TO clerk")
    with open_db(url("desk")) as conn:
        built = build_shape_p(conn, hours=1)
        without_legacy(conn)
    with open_db(url("clerk")) as conn:
        assert works_for(conn, built)
        function_owner = "SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'calc_dxy_range_1m'"
        assert scalar(conn, function_owner) == "desk"
        assert len(dxy_minutes(conn)) > 100


def test_missing_privileges_are_named(bare: Callable[..., Any]) -> None:
    url = bare("CREATE ROLE desk LOGIN", "CREATE ROLE stranger LOGIN")
    with open_db(url("desk")) as conn:
        build_shape_s(conn, hours=1)
        conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO stranger")
    with open_db(url("stranger")) as conn:
        reasons = schema.plan(conn).refused
        name = conn.info.dbname
        assert f"user stranger may not create a schema here; grant CREATE on database {name}" in reasons
        assert f"user stranger may not create functions here; grant CREATE on schema public of {name}" in reasons
        assert "user stranger is not a member of desk, who owns public.data_bars; connect as desk" in reasons
        with pytest.raises(UserError, match=r"may not create a schema here.* more"):
            schema.upgrade(conn)


def test_tables_of_two_owners_are_refused(bare: Callable[..., Any]) -> None:
    url = bare("CREATE ROLE desk LOGIN", "CREATE ROLE clerk LOGIN")
    with open_db(url("postgres")) as conn:
        build_shape_s(conn, hours=1)
        conn.execute("ALTER TABLE data_bars OWNER TO desk; ALTER TABLE derived_data_bars OWNER TO clerk")
        assert any("belongs to clerk and data_bars to desk" in reason for reason in schema.plan(conn).refused)


def test_forced_row_security_is_refused(bare: Callable[..., Any]) -> None:
    url = bare("CREATE ROLE desk LOGIN")
    with open_db(url("desk")) as conn:
        build_shape_p(conn, hours=1)
        conn.execute("ALTER TABLE derived_data_bars FORCE ROW LEVEL SECURITY")
        assert any("forces row level security on its owner desk" in reason for reason in schema.plan(conn).refused)
