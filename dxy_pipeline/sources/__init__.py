"""Where FX minutes come from: one protocol, and the choice of a source by the settings.

Formats, clients and simulations live in their own modules; storing what they give is the bar store's work.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from dxy_pipeline.core.clock import Clock
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.errors import UserError
from dxy_pipeline.settings import Settings
from dxy_pipeline.sources.protocol import Batch, FxSource

# How long a failing request is tried again: live, the next minute comes anyway; a long history is worth the wait.
LIVE_PATIENCE_S, HISTORY_PATIENCE_S = 25.0, 120.0


class ExternalSource:
    """Marks that another worker writes the FX bars: yields nothing; the pipeline observes and validates them."""

    name = "external"
    feed = "external"

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> Iterator[Batch]:
        """Yield nothing."""
        return iter(())


def source_from_settings(settings: Settings, clock: Clock, *, live: bool = False) -> FxSource:
    """Return the source that the settings name. `live` (every minute) gives up sooner, and refuses a plan too slow.

    Raises UserError for settings that cannot work, such as `massive` without a key. Nothing is opened or called yet.
    """
    # imported here: each pulls a library that the other sources do not need
    if settings.fx_source == "simulated":
        from dxy_pipeline.sources.simulated import SimulatedSource  # noqa: PLC0415

        return SimulatedSource(clock)
    if settings.fx_source == "files":
        from dxy_pipeline.sources.files import FolderSource  # noqa: PLC0415
        from dxy_pipeline.sources.reading import FileOptions  # noqa: PLC0415

        place, options = settings.fx_files, FileOptions(clock=settings.fx_files_clock or None)
        return FolderSource(place.parent, place.name, settings.fx_files_format, options, clock)
    if settings.fx_source == "massive":
        from dxy_pipeline.sources.massive import MassiveSource  # noqa: PLC0415

        source = MassiveSource(
            settings.massive_api_key,
            clock,
            base_url=settings.massive_base_url,
            calls_per_minute=settings.massive_calls_per_minute or None,
            patience=LIVE_PATIENCE_S if live else HISTORY_PATIENCE_S,
        )
        if live:
            source.check_live(SYMBOLS)
        return source
    if settings.fx_source == "external":
        return ExternalSource()
    raise UserError(f"unknown FX source '{settings.fx_source}'", hint="simulated, files, external or massive")
