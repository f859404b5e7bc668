"""The SQL lint itself: what the project has is clean, and each kind of bad file is caught by name."""

from pathlib import Path

import pytest

from dxy_pipeline_tests import lint_sql

TABLE = "CREATE TABLE dxy.good (id bigint PRIMARY KEY);\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("schema", "functions", "queries", "checks", "migration"):
        (tmp_path / name).mkdir()
    (tmp_path / "schema" / "good.sql").write_text(TABLE)
    (tmp_path / "queries" / "good.sql").write_text(
        "SELECT d.ts_utc FROM public.data_bars AS d WHERE d.ts_utc >= %(start)s AND d.close > 0;\n"
    )
    return tmp_path


def test_the_projects_own_sql_is_clean(conn) -> None:
    assert [str(finding) for finding in lint_sql.lint(conn)] == []
    assert [str(finding) for finding in lint_sql.lint_live_steps(conn)] == []


def test_a_clean_folder_has_no_findings(conn, folder) -> None:
    assert lint_sql.lint(conn, folder) == []


@pytest.mark.parametrize(
    ("place", "text", "words"),
    [
        ("schema/bad.sql", "CREATE TABLE dxy.bad (id bigint PRIMARY KEY,);\n", "syntax-error"),
        ("schema/bad.sql", "ALTER TABLE public.data_bars ADD COLUMN x text NOT NULL;\n", "adding-required-field"),
        ("schema/bad.sql", "CREATE INDEX bad ON public.data_bars (ts_utc);\n", "require-concurrent-index"),
        ("schema/bad.sql", "ALTER TABLE public.data_bars RENAME COLUMN vol TO volume;\n", "renaming-column"),
        ("schema/bad.sql", "DROP TABLE public.data_bars;\n", "ban-drop-table"),
        (
            "functions/bad.sql",
            "CREATE FUNCTION dxy.bad() RETRNS integer LANGUAGE sql AS $$SELECT 1$$;\n",
            "syntax-error",
        ),
        ("queries/bad.sql", "SELECT d.ts FROM public.data_bars AS d WHERE d.ts_utc = %(ts)s;\n", "d.ts does not exist"),
        ("queries/bad.sql", "SELECT 1 FROM data_bars;\n", 'relation "data_bars" does not exist'),
        ("queries/bad.sql", "SELECT dxy.index_prise(1, 2, 3, 4, 5, 6);\n", "index_prise"),
        ("queries/bad.sql", "SELECT now( FROM public.data_bars;\n", "syntax error"),
        ("queries/bad.sql", "SELECT 1 FROM ({nowhere}) AS b;\n", "nowhere"),
        ("queries/bad.sql", "SELECT ${misspelt_list};\n", "misspelt_list"),
        ("migration/bad.sql", "WITH a AS (SELECT 1 SELECT %(x)s FROM a;\n", "syntax-error"),
    ],
)
def test_a_bad_file_is_caught(conn, folder, place, text, words) -> None:
    (folder / place).write_text(text)
    found = lint_sql.lint(conn, folder)
    assert found, f"nothing found in: {text}"
    assert all(Path(place).name in finding.place for finding in found)
    assert any(words in finding.text for finding in found), found


def test_a_query_is_judged_with_every_part_it_can_have(conn, folder) -> None:
    (folder / "checks" / "bars_1m.sql").write_text("SELECT d.* FROM public.data_bars AS d\n")
    (folder / "checks" / "bars_rollup.sql").write_text("SELECT d.* FROM public.derived_data_bars AS d\n")
    check = folder / "checks" / "some.sql"
    check.write_text("SELECT b.ts_utc FROM ({bars}) AS b WHERE b.close <= 0\n")
    assert lint_sql.lint(conn, folder) == []
    check.write_text("SELECT b.deleted_at FROM ({bars}) AS b\n")  # only roll-ups have it
    assert ["some.sql" in finding.place for finding in lint_sql.lint(conn, folder)] == [True]


def test_the_command_fails_on_a_finding_and_names_it(conn, folder, monkeypatch, capsys) -> None:
    monkeypatch.setattr(lint_sql, "lint", lambda _conn: [lint_sql.Finding("queries/bad.sql", "wrong")])
    assert lint_sql.main() == 1
    assert "queries/bad.sql: wrong" in capsys.readouterr().out
