"""`dxy up`: everything on this machine until Ctrl-C. Thin: the processes are `services`."""

import json
import signal
import time
from types import FrameType

import typer

from dxy_pipeline.cli.output import note
from dxy_pipeline.errors import UserError
from dxy_pipeline.services import Services
from dxy_pipeline.settings import Settings

app = typer.Typer()


@app.command()
def up(
    as_json: bool = typer.Option(False, "--json", help="Print the readiness line as JSON."),
) -> None:
    """Run PostgreSQL, the Dagster UI and its daemon until Ctrl-C; new bars appear each minute."""
    services = Services(Settings.from_env(), progress=note)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        services.start()
        ready = {"ready": services.url, "source": services.settings.fx_source, "logs": str(services.logs)}
        print(json.dumps(ready) if as_json else f"ready: {services.url}  (Ctrl-C stops everything)", flush=True)
        while (dead := services.watch()) is None:
            time.sleep(1)
        raise UserError(f"{dead} ended by itself", hint=f"see {services.logs / f'{dead}.log'}")
    except KeyboardInterrupt:
        note("stopping")
    finally:
        # A second Ctrl-C must not leave half of it running.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        services.stop()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
