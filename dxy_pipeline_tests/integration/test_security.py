"""Least privilege and capture, tried by what must fail: each role of ours and of a desk against each thing."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from dxy_pipeline import bar_reads, bar_store
from dxy_pipeline.checks.engine import run_checks
from dxy_pipeline.core.bars import Bar, Rejected, RejectReason
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.db import schema
from dxy_pipeline.db.session import connect
from dxy_pipeline.resources import MarketDatabase
from dxy_pipeline.sources.protocol import Batch
from dxy_pipeline_tests.bars import MINUTE, RATES, T0, derive, dxy_minutes, put_six, roll_up, scalar
from dxy_pipeline_tests.conftest import NOW
from dxy_pipeline_tests.pg_server import Cluster
from dxy_pipeline_tests.shapes import START, build_shape_p

HOUR = 60 * MINUTE
DENIED = psycopg.errors.InsufficientPrivilege


@pytest.fixture
def as_role(any_db: str, any_conn: psycopg.Connection) -> Iterator[Callable[[str], psycopg.Connection[Any]]]:
    """A function that opens a session of a login role that has just the named group role (or none)."""
    made: list[tuple[sql.Identifier, psycopg.Connection[Any]]] = []

    def login(group: str) -> psycopg.Connection[Any]:
        name = f"u{len(made)}_{any_conn.info.dbname}"
        any_conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        if group:
            any_conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(name)))
        session = psycopg.connect(conninfo.make_conninfo(any_db, user=name), autocommit=True)
        made.append((sql.Identifier(name), session))
        return session

    yield login
    for role, session in made:
        session.close()
        any_conn.execute(sql.SQL("DROP OWNED BY {}").format(role))
        any_conn.execute(sql.SQL("DROP ROLE {}").format(role))


WRITES = [
    "INSERT INTO data_bars (canonical_symbol, timeframe, ts_utc, source) VALUES ('X', '1m', now(), 'ingest')",
    "UPDATE data_bars SET close = 1",
    "DELETE FROM data_bars",
    "TRUNCATE data_bars",
    "UPDATE derived_data_bars SET close = 1",
    "INSERT INTO derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close)"
    " VALUES ('DXY', '5m', now(), 1, 1, 1, 1)",
    "UPDATE core_asset_registry_all SET active = false",
]
OURS = [
    "UPDATE dxy.setting SET value = '{}'",
    "INSERT INTO dxy.setting (key, value) VALUES ('origin', '{\"created_by\": \"demo\"}')",
    "UPDATE dxy.migration_control SET state = 'none'",
    "DELETE FROM dxy.fx_session",
    "DELETE FROM dxy.bar_revision",
    "DELETE FROM dxy.rejected_bar",
    "INSERT INTO dxy.touched_range (target, day, first_ts, last_ts, minutes) VALUES ('1m', now(), now(), now(), 1)",
    "UPDATE dxy.function_digest SET sha256 = ''",
    "UPDATE dxy.migration_lease SET fence = 9",
    "DELETE FROM dxy.migration_audit",
    "CREATE TABLE dxy.mine (a int)",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql RETURN 1",
    "ALTER TABLE data_bars DISABLE TRIGGER dxy_touch_insert",
    "DROP TRIGGER dxy_touch_insert ON data_bars",
    "CREATE TRIGGER mine AFTER INSERT ON data_bars FOR EACH STATEMENT EXECUTE FUNCTION dxy.log_touched()",
    "SELECT calc_dxy_range_derived('2024-06-12Z', '2024-06-13Z')",
    "SELECT dxy.assert_target_writable(now())",
]
READS = ["SELECT * FROM data_bars", "SELECT * FROM derived_data_bars", "SELECT * FROM dxy.touched_range",
         "SELECT * FROM dxy.bar_revision", "SELECT * FROM dxy.migration_control"]  # fmt: skip
CALLS = ["SELECT calc_dxy_range_1m('2024-06-12Z', '2024-06-13Z')",
         "SELECT calc_dxy_rollup_range('5m', '2024-06-12Z', '2024-06-13Z')"]  # fmt: skip


def denied(session: psycopg.Connection[Any], statements: list[str]) -> list[str]:
    """The statements that were refused for want of privilege; another error is a fault."""
    found = []
    for statement in statements:
        try:
            session.execute(statement)  # type: ignore[arg-type]
        except DENIED:
            found.append(statement)
    return found


def test_a_stranger_may_nothing(as_role: Callable[[str], psycopg.Connection[Any]]) -> None:
    everything = [*READS, *CALLS, *WRITES, *OURS]
    assert denied(as_role(""), everything) == everything


def test_the_reader_looks_and_changes_nothing(as_role: Callable[[str], psycopg.Connection[Any]]) -> None:
    reader = as_role("dxy_reader")
    for statement in READS:
        reader.execute(statement)  # type: ignore[arg-type]
    forbidden = [*CALLS, *WRITES, *OURS]
    assert denied(reader, forbidden) == forbidden


def test_the_writer_does_its_work_and_no_more(
    any_conn: psycopg.Connection, as_role: Callable[[str], psycopg.Connection[Any]]
) -> None:
    """The whole of the pipeline runs as dxy_writer: FX in, refused rows, derive, roll up, read, forget."""
    writer = as_role("dxy_writer")
    bars = [Bar(s, T0 + i * MINUTE, *(RATES[s],) * 4) for i in range(5) for s in SYMBOLS]
    bad = Rejected("f:1", "EURUSD", "x", {}, RejectReason.NEGATIVE)
    assert bar_store.write_fx(writer, "ingest", "file", Batch(bars, [bad])).inserted == 30
    assert bar_store.derive(writer, T0, T0 + HOUR).inserted == 5
    for timeframe in ("5m", "1h"):
        bar_store.roll_up(writer, timeframe, T0, T0 + HOUR, NOW)
    assert len(bar_reads.day_figures(writer, "dxy_5m", T0, T0 + HOUR)) == 1
    schema.require_head(writer)
    assert denied(writer, OURS) == OURS
    assert denied(writer, ["TRUNCATE data_bars", *WRITES[4:]]) == ["TRUNCATE data_bars", *WRITES[4:]]
    assert len(dxy_minutes(any_conn)) == 5


# --- capture ------------------------------------------------------------------------------------------------------

CAPTURE = """
    CREATE TEMPORARY TABLE data_bars (LIKE public.data_bars);
    CREATE TEMPORARY TABLE derived_data_bars (LIKE public.derived_data_bars);
    CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql RETURN timestamptz 'epoch';
    CREATE FUNCTION pg_temp.exp(double precision) RETURNS double precision LANGUAGE sql RETURN 1;
    CREATE FUNCTION pg_temp.round(numeric, integer) RETURNS numeric LANGUAGE sql RETURN 77;
    CREATE FUNCTION pg_temp.always(double precision, double precision) RETURNS boolean LANGUAGE sql RETURN true;
    CREATE OPERATOR pg_temp.> (LEFTARG = double precision, RIGHTARG = double precision, FUNCTION = pg_temp.always);
    SET search_path = pg_temp, public, pg_catalog;
"""


def test_a_callers_temporary_objects_capture_nothing(
    any_conn: psycopg.Connection, as_role: Callable[[str], psycopg.Connection[Any]]
) -> None:
    put_six(any_conn, T0, 5)
    writer = as_role("dxy_writer")
    writer.execute(CAPTURE)
    assert derive(writer, T0, T0 + HOUR)["inserted"] == 5
    assert roll_up(writer, "5m", T0, T0 + HOUR, NOW)["inserted"] == 1
    assert scalar(writer, "SELECT count(*) FROM pg_temp.data_bars") == 0
    assert scalar(writer, "SELECT count(*) FROM pg_temp.derived_data_bars") == 0
    assert set(dxy_minutes(any_conn).values()) == {104.12282857}
    writer.execute("INSERT INTO public.data_bars (canonical_symbol, timeframe, ts_utc, close, source)"
                   " VALUES ('EURUSD', '1m', '2024-06-12 10:00Z', 1.1, 'ingest')")  # fmt: skip
    assert scalar(any_conn, "SELECT count(*) FROM dxy.touched_range WHERE first_ts = '2024-06-12 10:00Z'") == 1


def test_a_public_schema_that_everybody_fills_captures_nothing(any_conn: psycopg.Connection) -> None:
    """Before PostgreSQL 15 anybody could create there; some desks still let them."""
    put_six(any_conn, T0, 5)
    any_conn.execute(
        "CREATE FUNCTION public.round(numeric, integer) RETURNS numeric LANGUAGE sql RETURN 77;"
        "CREATE FUNCTION public.date_bin(interval, timestamptz, unknown) RETURNS timestamptz LANGUAGE sql RETURN now();"
        "CREATE TABLE public.setting (key text, value jsonb)".replace(", unknown)", ", text)")
    )
    assert derive(any_conn, T0, T0 + HOUR)["inserted"] == 5
    assert set(dxy_minutes(any_conn).values()) == {104.12282857}


def test_every_function_of_ours_is_pinned(any_conn: psycopg.Connection) -> None:
    """search_path fixed with pg_temp last, or a body parsed at creation; none executable by PUBLIC."""
    rows = any_conn.execute(
        "SELECT p.oid::regprocedure::text, p.proconfig, p.prosqlbody IS NOT NULL, p.prosecdef,"
        " has_function_privilege('public', p.oid, 'EXECUTE'), l.lanname FROM pg_proc AS p JOIN pg_language AS l"
        " ON l.oid = p.prolang WHERE p.pronamespace = 'dxy'::regnamespace OR (p.pronamespace = 'public'::regnamespace"
        " AND p.proname LIKE 'calc\\_dxy\\_%')"
    ).fetchall()
    assert len(rows) > 12
    for name, config, parsed, definer, public, language in rows:
        pinned = "search_path=pg_catalog, pg_temp" in (config or [])
        assert public is False, f"{name} is executable by PUBLIC"
        assert pinned or (not definer and (parsed or language == "sql")), f"{name} is not safe from capture"


# --- a desk with web roles and default privileges -----------------------------------------------------------------

WEB = ("service_role", "anon", "authenticated")


@pytest.fixture(scope="module")
def web_cluster(any_server: Cluster) -> Iterator[Cluster]:
    """A server of its own with the web roles of a hosted desk."""
    cluster = Cluster(any_server.major)
    with psycopg.connect(cluster.url(), autocommit=True) as admin:
        for role in WEB:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    yield cluster
    cluster.close()


DEFAULTS = """
    GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO anon;
"""


@pytest.mark.parametrize("shape", ["E", "P"])
def test_default_privileges_give_web_roles_nothing_of_ours(web_cluster: Cluster, shape: str) -> None:
    url = web_cluster.create(head=False)
    with psycopg.connect(url, autocommit=True) as conn:
        if shape == "P":
            build_shape_p(conn, hours=1)
            conn.execute(
                "UPDATE derived_data_bars SET deleted_at = now() WHERE timeframe = '1m' AND deleted_at IS NULL"
            )
        conn.execute(DEFAULTS)
        schema.upgrade(conn)
        put_six_massive(conn)
    everything = [s for s in (*CALLS, *OURS, *READS, *WRITES) if shape == "E" or "calc_dxy_range_derived" not in s]
    for role in ("anon", "authenticated"):
        with psycopg.connect(conninfo.make_conninfo(url, user=role), autocommit=True) as web:
            assert denied(web, everything) == everything, role
            assert scalar(web, "SELECT has_schema_privilege('dxy', 'USAGE')") is False
    with psycopg.connect(conninfo.make_conninfo(url, user="service_role"), autocommit=True) as service:
        at = START + 600 * MINUTE
        answer = scalar(service, "SELECT calc_dxy_range_1m(%s, %s)", at.isoformat(), (at + HOUR).isoformat())
        assert (answer["success"], answer["inserted"]) == (True, 5)
        assert scalar(service, "SELECT calc_dxy_rollup_range('5m', %s, %s)", at, at + HOUR)["inserted"] == 1
        assert denied(service, OURS[:9]) == OURS[:9]
    web_cluster.drop(url)


def put_six_massive(conn: psycopg.Connection[Any]) -> None:
    at = START + 600 * MINUTE
    bars = [Bar(s, at + i * MINUTE, *(RATES[s],) * 4) for i in range(5) for s in SYMBOLS]
    assert bar_store.write_fx(conn, "massive_api", "massive", Batch(bars)).inserted == 30


def test_row_security_hides_nothing_from_our_roles(web_cluster: Cluster) -> None:
    """P has row level security and no policy for us: a reader would see no rows, and think there are none."""
    url = web_cluster.create(head=False)
    with psycopg.connect(url, autocommit=True) as conn:
        build_shape_p(conn, hours=1)
        conn.execute("UPDATE derived_data_bars SET deleted_at = now() WHERE timeframe = '1m' AND deleted_at IS NULL")
        conn.execute("ALTER TABLE data_bars ENABLE ROW LEVEL SECURITY")
        titles = [title for title, _ in schema.plan(conn).steps]
        schema.upgrade(conn)
        assert schema.plan(conn).steps == []
        assert "add the policy dxy_reader_select to derived_data_bars, for dxy_reader only" in titles
        for role in ("dxy_reader", "dxy_writer"):
            conn.execute(
                sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(sql.Identifier(f"my_{role}"), sql.Identifier(role))
            )
    count = "SELECT count(*) FROM derived_data_bars"
    with psycopg.connect(url) as owner, psycopg.connect(conninfo.make_conninfo(url, user="my_dxy_reader")) as reader:
        assert scalar(reader, count) == scalar(owner, count) > 0
        assert scalar(reader, "SELECT count(*) FROM data_bars") == scalar(owner, "SELECT count(*) FROM data_bars") > 0
    with psycopg.connect(conninfo.make_conninfo(url, user="my_dxy_writer"), autocommit=True) as writer:
        put_six_massive(writer)  # a bigserial id and row security stand in the way
        at = START + 600 * MINUTE
        assert bar_store.derive(writer, at, at + HOUR).inserted == 5
    with psycopg.connect(conninfo.make_conninfo(url, user="anon"), autocommit=True) as web:
        assert denied(web, READS[:2]) == READS[:2]
    with MarketDatabase(url_override=url).read("checks") as as_reader:
        results = run_checks(as_reader, START + 660 * MINUTE)
        assert [result.description for result in results if not result.evaluated] == []
    with psycopg.connect(url, autocommit=True) as conn:  # a policy that hides rows: the look is refused, not empty
        conn.execute("DROP POLICY dxy_reader_select ON derived_data_bars")
        conn.execute("CREATE POLICY hours_only ON derived_data_bars FOR SELECT TO dxy_reader USING (timeframe = '1h')")
    with MarketDatabase(url_override=url).read("checks") as as_reader:
        blind = {r.key for r in run_checks(as_reader, START + 660 * MINUTE) if not r.evaluated}
        assert "dxy_5m.price_band" in blind
    web_cluster.drop(url)


WHO = "SELECT current_user::text, current_setting('application_name')"


def test_each_component_gives_up_the_rights_it_does_not_need(any_db: str) -> None:
    """The login is a superuser, as on the embedded server."""
    market = MarketDatabase(url_override=any_db)
    with market.connect("dxy_1m") as writer, market.read("monitoring") as reader:
        assert writer.execute(WHO).fetchone() == ("dxy_writer", "dxy_pipeline:dxy_1m")
        assert reader.execute(WHO).fetchone() == ("dxy_reader", "dxy_pipeline:monitoring")
        assert denied(writer, OURS) == OURS
        assert denied(reader, READS) == []


def test_a_login_without_the_role_keeps_its_own_rights(as_role: Callable[[str], psycopg.Connection[Any]]) -> None:
    login = as_role("dxy_reader")
    url = conninfo.make_conninfo(login.info.dsn, host=login.info.host, user=login.info.user)
    with connect(url, application_name="t", autocommit=True, role="dxy_writer") as conn:
        assert scalar(conn, "SELECT current_user = session_user")
        assert denied(conn, WRITES) == WRITES
    with connect(url, application_name="t", autocommit=True, role="dxy_reader") as conn:
        assert scalar(conn, "SELECT current_user::text") == "dxy_reader"


def test_before_the_first_upgrade_there_is_no_role_to_work_as(any_empty_db: str) -> None:
    with connect(any_empty_db, application_name="t", autocommit=True, role="dxy_reader") as conn:
        assert scalar(conn, "SELECT current_user = session_user")


def test_behind_a_pooler_the_role_holds_for_each_transaction(db: str) -> None:
    with connect(db, application_name="t", autocommit=True, pooler=True, role="dxy_writer") as conn:
        with conn.transaction():
            assert scalar(conn, "SELECT current_user::text") == "dxy_writer"
        assert scalar(conn, "SELECT current_user = session_user")  # nothing stays in the server's session
