"""Managed servers: an owner who is no superuser, writers with few rights, a transaction pooler in between."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import conninfo, sql

from dxy_pipeline.errors import UserError
from dxy_pipeline_tests.migration.support import PATH, Stage, build, content, desk_columns, enter, mirror_differs
from dxy_pipeline_tests.pg_server import Cluster
from dxy_pipeline_tests.pooler import Pooler

KEY = "canonical_symbol = 'DXY' AND timeframe = '1m' AND ts_utc"
COLUMNS = "(canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)"
WRITES = {
    "derived_data_bars": (
        f"INSERT INTO public.derived_data_bars {COLUMNS} VALUES ('DXY', '1m', '2024-07-01 00:00+00', 1, 1, 1, 1, 0, 'dxy')",
        f"UPDATE public.derived_data_bars SET close = 2 WHERE {KEY} = '2024-06-10 01:00+00' AND deleted_at IS NULL",
        f"UPDATE public.derived_data_bars SET deleted_at = now() WHERE {KEY} = '2024-06-10 01:01+00' AND deleted_at IS NULL",
        f"DELETE FROM public.derived_data_bars WHERE {KEY} = '2024-06-10 01:02+00' AND deleted_at IS NULL",
    ),
    "data_bars": (
        f"INSERT INTO public.data_bars {COLUMNS} VALUES ('DXY', '1m', '2024-07-01 00:01+00', 1, 1, 1, 1, 0, 'synthetic')",
        f"UPDATE public.data_bars SET close = 3 WHERE {KEY} = '2024-06-10 01:03+00'",
        f"DELETE FROM public.data_bars WHERE {KEY} = '2024-06-10 01:04+00'",
    ),
}


@pytest.fixture
def role(any_stage: Stage) -> Iterator[Callable[[str], None]]:
    """A function that makes a login role, dropped afterwards with what it owns."""
    made: list[str] = []

    def create(name: str) -> None:
        with psycopg.connect(any_stage.cluster.url(), autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        made.append(name)

    yield create
    with psycopg.connect(any_stage.cluster.url(), autocommit=True) as admin:
        for name in made:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.mark.parametrize("shape", ["S", "P"])
def test_the_whole_migration_as_an_owner_who_is_no_superuser(
    any_stage: Stage, any_server: Cluster, role: Callable[[str], None], shape: str
) -> None:
    role("mig_owner")
    url = any_server.create(head=False)
    try:
        name = str(conninfo.conninfo_to_dict(url)["dbname"])
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO mig_owner").format(sql.Identifier(name)))
        owner = conninfo.make_conninfo(url, user="mig_owner", options="-c TimeZone=UTC")
        with psycopg.connect(owner, autocommit=True) as conn:
            build(conn, shape)
            columns, before = desk_columns(conn), content(conn)
            migration = any_stage.migration(owner)
            assert migration.plan()["in the way"] == []
            for place in PATH[1:]:
                enter(migration, place)
            migration.rollback()
            assert content(conn, columns) == before
    finally:
        any_server.drop(url)


@pytest.mark.parametrize("table", WRITES)
def test_a_writer_with_rights_on_one_table_only_is_mirrored_too(
    any_stage: Stage, role: Callable[[str], None], table: str
) -> None:
    """Row security is on in shape P: the mirror must neither be hindered by it nor leave a row out silently."""
    role("mig_writer")
    with any_stage.at("P", "cut_over") as db:
        db.conn.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON public.{table} TO mig_writer")
        db.conn.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO mig_writer")
        db.conn.execute("CREATE POLICY w ON public.derived_data_bars TO mig_writer USING (true) WITH CHECK (true)")
        with psycopg.connect(conninfo.make_conninfo(db.url, user="mig_writer"), autocommit=True) as writer:
            for statement in WRITES[table]:
                assert writer.execute(statement).rowcount == 1
                assert mirror_differs(db.conn) == 0, statement
        db.conn.execute("DROP OWNED BY mig_writer")


def test_writers_behind_a_transaction_pooler_are_mirrored_and_leave_nothing(any_stage: Stage) -> None:
    """The day's lock and the loop guard hold for a transaction: the next client of the session finds neither."""
    with any_stage.at("P", "cut_over") as db:
        pooler = Pooler(db.url)
        try:
            with psycopg.connect(pooler.url, autocommit=True, prepare_threshold=None) as writer:
                for statement in (*WRITES["derived_data_bars"], *WRITES["data_bars"]):
                    assert writer.execute(statement).rowcount == 1
                    assert mirror_differs(db.conn) == 0, statement
                for _ in range(2):
                    left = writer.execute(
                        "SELECT coalesce(current_setting('dxy.mirror', true), ''), (SELECT count(*) FROM pg_locks"
                        " WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
                    ).fetchone()
                    assert left == ("", 0)
            with pytest.raises(UserError, match="a transaction pooler answers there") as caught:
                any_stage.migration(pooler.url).status()
            assert "DIRECT_URL" in caught.value.hint
            db.migration.rollback()
        finally:
            pooler.close()
