"""The files of deploy/ against what they speak of: programs, settings, the instance they are a copy of."""

import configparser
import dataclasses
import re
import shlex
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster_celery.cli import get_config_value_from_yaml
from typer.testing import CliRunner

from dxy_pipeline.cli import app
from dxy_pipeline.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "deploy"
UNITS = sorted(DEPLOY.rglob("*.service"))
HARDENING = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "CapabilityBoundingSet": "",
    "SystemCallFilter": "@system-service",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
}


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(path)
    return parser


def documented_settings() -> set[str]:
    """The variables that settings.py documents, each at the start of its field's docstring."""
    text = (CHECKOUT / "dxy_pipeline" / "settings.py").read_text()
    names = set(re.findall(r'^    """([A-Z][A-Z_]+):', text, re.MULTILINE))
    assert len(names) == len(dataclasses.fields(Settings))
    return names


def test_there_is_a_unit_for_each_service() -> None:
    assert {path.name for path in UNITS} == {
        "dxy-daemon.service",
        "dxy-webserver.service",
        "dxy-webserver-readonly.service",
        "dxy-watchdog.service",
        "dxy-worker.service",
    }


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_a_program_that_exists_and_is_shut_in(path: Path) -> None:
    service = unit(path)["Service"]
    program, *arguments = service["ExecStart"].split()
    programs = {point.name for point in entry_points(group="console_scripts")}
    assert Path(program).parent == Path("/opt/dxy_pipeline/.venv/bin")
    assert Path(program).name in programs
    for argument in arguments:
        if argument.startswith("/opt/dxy_pipeline/"):
            assert (CHECKOUT / argument.removeprefix("/opt/dxy_pipeline/")).is_file()
    if Path(program).name == "dxy":
        assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0
    for name, value in HARDENING.items():
        assert service[name] == value, name
    assert service["User"] == "dxy"
    assert service["Restart"] == "always"
    assert "MemoryMax" in service


HOMES = [path for path in UNITS if path.name != "dxy-watchdog.service"]


@pytest.mark.parametrize("path", HOMES, ids=lambda path: path.name)
def test_the_first_start_makes_the_dagster_home(path: Path, tmp_path: Path) -> None:
    """Without dagster.yaml there Dagster would keep its records in SQLite, forget the retention, and not say so."""
    home = tmp_path / "state" / "dagster_home"
    _, shell, script = shlex.split(unit(path)["Service"]["ExecStartPre"].replace("/opt/dxy_pipeline", str(CHECKOUT)))
    prepare = ["/bin/sh", shell, script]
    for _ in range(2):  # a start, and a start again
        subprocess.run(prepare, env={"DAGSTER_HOME": str(home), "PATH": "/usr/bin:/bin"}, check=True)
    found = yaml.safe_load((home / "dagster.yaml").read_text())
    assert found["storage"]["custom"]["class"] == "PipelineStorage"
    assert set(found["retention"]) == {"schedule", "sensor"}
    assert found.get("run_launcher", {}).get("class") == ("CeleryRunLauncher" if "worker" in path.name else None)
    (home / "dagster.yaml").write_text("mine: true\n")
    subprocess.run(prepare, env={"DAGSTER_HOME": str(home), "PATH": "/usr/bin:/bin"}, check=True)
    assert (home / "dagster.yaml").read_text() == "mine: true\n"


def test_the_documented_install_names_files_and_targets_that_exist() -> None:
    text = (CHECKOUT / "docs" / "operations.md").read_text()
    commands = re.search(r"   ```bash\n(   useradd.*?)   ```", text, re.DOTALL)[1].splitlines()  # type: ignore[index]
    assert len(commands) == 5
    for source in re.findall(r"deploy/\S+", "\n".join(commands)):
        assert list(CHECKOUT.glob(source)), source
    dry = subprocess.run(["make", "-n", "-C", str(CHECKOUT), "install"], capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr
    service = unit(DEPLOY / "systemd" / "dxy-daemon.service")["Service"]
    assert service["EnvironmentFile"] in commands[3]
    assert f"--home-dir /var/lib/{service['StateDirectory']}" in commands[0]


def test_no_webserver_listens_beyond_loopback() -> None:
    commands = [unit(path)["Service"]["ExecStart"] for path in UNITS]
    servers = [command for command in commands if "dagster-webserver" in command]
    assert len(servers) == 2
    assert all("-h 127.0.0.1" in command for command in servers)


def test_the_environment_example_names_only_settings_that_exist_and_no_secret() -> None:
    text = (DEPLOY / "systemd" / "dxy.env.example").read_text()
    lines = re.findall(r"^#?([A-Z][A-Z_]+)=(.*)$", text, re.MULTILINE)
    assert {name for name, _ in lines} <= documented_settings()
    values = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
    settings = Settings.from_env(values)
    assert settings.dagster_pg_url.startswith("postgresql+psycopg2://")
    assert settings.database_url != settings.dagster_pg_url
    for _, value in lines:
        assert "://" not in value or "CHANGE_ME" in value


def test_the_celery_instance_is_the_projects_with_another_launcher() -> None:
    ours: dict[str, Any] = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())
    celery: dict[str, Any] = yaml.safe_load((DEPLOY / "celery" / "dagster.yaml").read_text())
    launcher = celery.pop("run_launcher")
    assert celery == ours
    assert launcher["class"] == "CeleryRunLauncher"


def test_the_worker_reads_its_broker_from_its_file() -> None:
    read = get_config_value_from_yaml(str(DEPLOY / "celery" / "worker.yaml"))
    launcher = yaml.safe_load((DEPLOY / "celery" / "dagster.yaml").read_text())["run_launcher"]["config"]
    assert read["broker"] == read["backend"] == {"env": "DXY_CELERY_BROKER_URL"}
    assert read["broker"] == launcher["broker"]
    assert read["config_source"]["task_track_started"] is launcher["config_source"]["task_track_started"] is True


def test_the_kubernetes_page_speaks_of_things_that_exist() -> None:
    text = (DEPLOY / "kubernetes.md").read_text()
    assert set(re.findall(r"\b(?:DXY|MASSIVE|DATABASE)_[A-Z_]+", text)) <= documented_settings()
    values = yaml.safe_load(re.search(r"## values.yaml\n\n```yaml\n(.*?)```", text, re.DOTALL)[1])  # type: ignore[index]
    # trap: SQLAlchemy 2.1 takes a plain postgresql:// for psycopg 3, and dagster-postgres' first NOTIFY fails
    assert values["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"
    watchdog = yaml.safe_load(re.search(r"```yaml\n(apiVersion.*?)```", text, re.DOTALL)[1])  # type: ignore[index]
    _, *command = watchdog["spec"]["template"]["spec"]["containers"][0]["command"]
    assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0
    arguments = values["dagster-user-deployments"]["deployments"][0]["dagsterApiGrpcArgs"]
    assert arguments == ["-m", "dxy_pipeline.definitions"]
