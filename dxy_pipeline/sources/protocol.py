"""What a source of FX bars is: it yields batches of checked bars for a range, and fails in a few clear ways.

Readers, clients and simulations implement it in their own modules; nothing here reads anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from dxy_pipeline.core.bars import Bar, Rejected
from dxy_pipeline.errors import UserError

OVERLAP: Final = timedelta(minutes=15)  # recent minutes come late or are revised: each tick covers them again


class SourceError(UserError):
    """A source could not deliver. Nothing of the failed batch was handed over.

    `retryable`: worth asking again at once. `refusal`: it will say the same until somebody changes something.
    """

    retryable = False
    refusal = False


class SourceUnavailable(SourceError):
    """No answer, a time-out or a server's own failure: the same request may work later."""

    retryable = True


class SourceRateLimited(SourceError):
    """The source said "too many calls"; the same request works after a wait."""

    retryable = True


class SourceRefused(SourceError):
    """The key is wrong, or the plan does not include what was asked."""

    refusal = True


class SourceNotFound(SourceError):
    """The source does not know the symbol or the address."""

    refusal = True


class SourceBroken(SourceError):
    """The answer cannot be trusted to be complete: truncated, garbage, looping or contradicting itself."""


@dataclass(frozen=True)
class Batch:
    """A complete piece of what was asked: bars that passed the contract, the refused rows, and what to show for it.

    `progress` is a short line for people ("EURUSD 2024-05-06"), `notes` are states to bring to attention ("DELAYED").
    """

    rows: list[Bar]
    rejected: list[Rejected] = field(default_factory=list)
    progress: str = ""
    notes: tuple[str, ...] = ()


class FxSource(Protocol):
    """A source of FX minute bars.

    `name` goes into data_bars.source ('massive_api' or 'ingest'), `feed` tells sources of one name apart and decides
    who wins a minute: massive > file > ecb > simulated.
    """

    @property
    def name(self) -> str:
        """The value for data_bars.source."""
        ...

    @property
    def feed(self) -> str:
        """One of 'massive', 'file', 'ecb', 'simulated'."""
        ...

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> Iterator[Batch]:
        """Yield the bars of `symbols` in [start, end), aware UTC, in batches; raise SourceError when incomplete."""
        ...
