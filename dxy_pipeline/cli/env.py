"""`dxy env`: what `dagster dev` and the `dg` tools need in their environment. Thin: it is `services`."""

import shlex

import typer

from dxy_pipeline.cli.output import emit, note
from dxy_pipeline.services import Services
from dxy_pipeline.settings import Settings

app = typer.Typer()


@app.command()
def env(as_json: bool = typer.Option(False, "--json", help="Print the variables as JSON.")) -> None:
    """Start PostgreSQL and print the variables for Dagster's own tools: eval "$(dxy env)", then dagster dev or dg.

    DATABASE_URL stands there in full, password included, if you set one.
    """
    variables = Services(Settings.from_env(), progress=note).environment()
    if as_json:
        emit(variables, as_json=True)
        return
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
