"""Every variable is read, checked with a one-line error, and never shows a secret."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dxy_pipeline import settings as settings_module
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings, default_data_dir, redact
from dxy_pipeline_tests.ordinary_user import as_ordinary_user

BASE = {"DXY_DATA_DIR": "/data/dxy"}


def test_defaults() -> None:
    settings = Settings.from_env(BASE)
    assert settings.data_dir == Path("/data/dxy")
    assert settings.dagster_home == Path("/data/dxy/dagster_home")
    assert (settings.host, settings.port, settings.fx_source) == ("127.0.0.1", 3000, "simulated")
    assert (settings.database_url, settings.direct_url, settings.dagster_pg_url) == ("", "", "")
    assert settings.pooler is None
    assert settings.alert_urls == ()


def test_values_are_read() -> None:
    settings = Settings.from_env(
        {
            "DXY_DATA_DIR": " /d ",
            "DATABASE_URL": "postgresql+psycopg://u:p@h/db",
            "DIRECT_URL": "host=h password=p",
            "DXY_REPLICA_URL": "postgres://r/db",
            "DXY_DAGSTER_PG_URL": "postgresql://d/dagster",
            "DAGSTER_HOME": "/home/dagster",
            "DXY_PORT": "4000",
            "DXY_HOST": "0.0.0.0",
            "DXY_FX_SOURCE": "Massive",
            "MASSIVE_API_KEY": "k",
            "DXY_ALERT_URLS": "slack://a mailto://b",
            "DXY_POOLER": "yes",
            "DXY_PG_BINDIR": "/pg/bin",
            "DXY_STATEMENT_TIMEOUT_S": "2.5",
            "DXY_LOCK_TIMEOUT_S": "0",
        }
    )
    assert settings.data_dir == Path("/d")
    assert settings.database_url == "postgresql+psycopg://u:p@h/db"
    assert settings.dagster_pg_url == "postgresql://d/dagster"
    assert settings.dagster_home == Path("/home/dagster")
    assert (settings.host, settings.port, settings.fx_source) == ("0.0.0.0", 4000, "massive")
    assert settings.alert_urls == ("slack://a", "mailto://b")
    assert settings.pooler is True
    assert settings.pg_bindir == Path("/pg/bin")
    assert (settings.statement_timeout_s, settings.lock_timeout_s) == (2.5, 0.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DXY_PORT", "0"),
        ("DXY_PORT", "65536"),
        ("DXY_PORT", "-1"),
        ("DXY_PORT", "http"),
        ("DXY_PORT", "²"),
        ("DXY_DATA_DIR", "var"),
        ("DXY_DATA_DIR", "./var"),
        ("DAGSTER_HOME", "home"),
        ("DXY_PG_BINDIR", "bin"),
        ("DXY_FX_SOURCE", "reuters"),
        ("DXY_POOLER", "maybe"),
        ("DXY_STATEMENT_TIMEOUT_S", "soon"),
        ("DXY_STATEMENT_TIMEOUT_S", "-1"),
        ("DXY_STATEMENT_TIMEOUT_S", "nan"),
        ("DXY_LOCK_TIMEOUT_S", "1e9"),
        ("DATABASE_URL", "localhost"),
        ("DATABASE_URL", "mysql://u:sesame@h/db"),
        ("DXY_DAGSTER_PG_URL", "sqlite:///sesame"),
        *(
            (name, f"postgresql://u:sesame{c}x@h/db")
            for c in "@/?#[ %"
            for name in ("DATABASE_URL", "DXY_DAGSTER_PG_URL")
        ),
        ("DIRECT_URL", "postgresql://u:sesame/db"),
        ("DXY_REPLICA_URL", "postgresql://u:p@h:sesame/db"),
    ],
)
def test_a_mistake_names_the_variable_and_the_remedy(name: str, value: str) -> None:
    with pytest.raises(UserError, match=name) as caught:
        Settings.from_env({**BASE, name: value})
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert "sesame" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///db",
        "postgresql://u@/db?host=/run/pg&port=5433",
        "postgresql://u:p%40%2F%25@[::1]:5432/db?options=-c%20search_path%3Da",
        "postgresql+psycopg2://u:x:y!$&'()*+,;=~@h1:5432,h2:5433/db",
        "postgresql://u@%2Frun%2Fpg/db?user=a@b",
        "host=h password='a@b/c' dbname=d",
    ],
)
def test_every_clear_address_is_taken(url: str) -> None:
    assert Settings.from_env({**BASE, "DATABASE_URL": url}).database_url == url


def test_blank_is_unset() -> None:
    assert Settings.from_env({**BASE, "DXY_PORT": " ", "DATABASE_URL": "", "DXY_POOLER": ""}) == Settings.from_env(BASE)


def test_repr_shows_no_secret() -> None:
    shown = repr(
        Settings.from_env(
            {
                **BASE,
                "DATABASE_URL": "postgresql://u:sesame@h/db",
                "DIRECT_URL": "host=h password='sesame 2' user=u",
                "MASSIVE_API_KEY": "sesame",
                "DXY_ALERT_URLS": "slack://sesame/a",
            }
        )
    )
    assert "sesame" not in shown
    assert "postgresql://u:***@h/db" in shown
    assert "port=3000" in shown


@pytest.mark.parametrize(
    ("url", "pooler", "expected"),
    [
        ("postgresql://h:6543/db", "", True),
        ("postgresql://h:6432/db", "", True),
        ("postgresql://h:5432/db", "", False),
        ("postgresql://h/db", "", False),
        ("postgresql://h/db", "1", True),
        ("postgresql://h:6543/db", "0", False),
        ("host=h port=6543", "", False),
    ],
)
def test_pooler(url: str, pooler: str, expected: bool) -> None:
    settings = Settings.from_env({**BASE, "DATABASE_URL": url, "DXY_POOLER": pooler})
    assert settings.behind_pooler(url) is expected


def test_the_pooler_setting_is_about_database_url_alone() -> None:
    settings = Settings.from_env({**BASE, "DATABASE_URL": "postgresql://h/db", "DXY_POOLER": "1"})
    assert not settings.behind_pooler("postgresql://direct/db")


# --- the data directory


def test_default_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "checkout" / "dxy_pipeline"
    package.mkdir(parents=True)
    monkeypatch.setattr(settings_module, "__file__", str(package / "settings.py"))
    assert default_data_dir({"XDG_DATA_HOME": "/xdg"}) == Path("/xdg/dxy_pipeline")
    assert default_data_dir({"XDG_DATA_HOME": "relative"}) == Path.home() / ".local/share/dxy_pipeline"
    for name in ("pyproject.toml", "workspace.yaml"):
        (tmp_path / "checkout" / name).touch()
    assert default_data_dir({"XDG_DATA_HOME": "/xdg"}) == tmp_path / "checkout" / "var"


def test_make_data_dir(place: Path) -> None:
    settings = Settings.from_env({"DXY_DATA_DIR": str(place / "a" / "b")})
    assert settings.make_data_dir().is_dir()
    (place / "a" / "file").touch()
    with pytest.raises(UserError, match="cannot create the data directory"):
        Settings.from_env({"DXY_DATA_DIR": str(place / "a" / "file" / "c")}).make_data_dir()


def test_unwritable_data_dir(place: Path) -> None:
    place.chmod(0o555)
    for directory in (place, place / "new"):
        settings = Settings.from_env({"DXY_DATA_DIR": str(directory)})
        with pytest.raises(UserError, match=str(directory)) as caught:
            as_ordinary_user(settings.make_data_dir)
        assert "DXY_DATA_DIR" in caught.value.hint


# --- redaction


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:p@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://u:p@ss@h/db", "postgresql://u:***@h/db"),
        ("postgresql+psycopg2://u:p@h/db", "postgresql+psycopg2://u:***@h/db"),
        ("postgresql://:p@h/db", "postgresql://:***@h/db"),
        ("postgresql://u@h:5432/db", "postgresql://u@h:5432/db"),
        ("postgresql://u@/db?host=/tmp&password=p&port=1", "postgresql://u@/db?host=/tmp&password=***&port=1"),
        ("host=h password=p user=u", "host=h password=*** user=u"),
        (r"password = 'it\'s p' user=u", "password = *** user=u"),
        ("PGPASSWORD=p dxy", "PGPASSWORD=*** dxy"),
        ("GET https://x/v2?apiKey=p&limit=1", "GET https://x/v2?apiKey=***&limit=1"),
        ("two: http://a:p@b/ and http://c:p@d/", "two: http://a:***@b/ and http://c:***@d/"),
        ("nothing to hide: 12:30 a@b", "nothing to hide: 12:30 a@b"),
    ],
)
def test_redact(text: str, expected: str) -> None:
    assert redact(text) == expected


@given(st.text(min_size=1))
def test_no_password_survives(password: str) -> None:
    written = quote(password, safe="")
    url = f"postgresql://user:{written}@example.org:5432/market"
    assert redact(f"cannot reach {url} (try again)") == (
        "cannot reach postgresql://user:***@example.org:5432/market (try again)"
    )
    quoted = re.sub(r"(['\\])", r"\\\1", password)
    assert redact(f"host=h password='{quoted}' port=1") == "host=h password=*** port=1"
