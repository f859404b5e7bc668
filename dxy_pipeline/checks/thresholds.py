"""Thresholds as people read and set them: numbers, pairs, price bands by era.

A band is `[from, low, high]`, from a day (UTC) until the next band begins; a list of them is written as
`1990-01-01=68-125,2015-01-01=80-120`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from dxy_pipeline.checks.config import CHECKS, ERAS_KEY, CheckConfig
from dxy_pipeline.core.index import SYMBOLS
from dxy_pipeline.errors import UserError

Era = list[Any]


def with_thresholds(configs: Iterable[CheckConfig], changes: Mapping[str, Mapping[str, Any]]) -> list[CheckConfig]:
    """Return the checks with some thresholds replaced; `changes` are by asset.check, then by threshold.

    A change of a threshold that there no longer is (stored by an older version) is passed over.
    """
    return [
        replace(c, thresholds={**c.thresholds, **{k: v for k, v in mine.items() if k in c.thresholds}})
        for c in configs
        for mine in [changes.get(f"{c.asset}.{c.name}", {})]
    ]


def shown(value: Any) -> Any:
    """Return a threshold as it is shown: numbers as they are, anything else as the text that would set it."""
    if not isinstance(value, list):
        return value
    return ",".join(v if isinstance(v, str) else f"{v[0]}={v[1]:g}-{v[2]:g}" for v in value)


def parsed_threshold(check: str, threshold: str, text: str) -> float | list[str] | list[Era]:
    """Return a new value for a threshold, as its default is: a number, pairs, or price bands by era.

    Raises UserError for an unknown check or threshold, or text that is no such value.
    """
    config = next((c for c in CHECKS if f"{c.asset}.{c.name}" == check), None)
    if config is None:
        raise UserError(f"no check is called {check!r}", hint='"dxy checks list" shows them, as asset.check')
    if threshold not in config.thresholds:
        known = ", ".join(config.thresholds) or "none"
        raise UserError(f"{check} has no threshold {threshold!r}", hint=f"it has: {known}")
    default = config.thresholds[threshold]
    if threshold == ERAS_KEY:
        return _eras(text)
    if isinstance(default, list):
        names = [name.strip().upper() for name in text.split(",") if name.strip()]
        if set(names) - set(SYMBOLS):
            raise UserError(f"{text!r} is not a value for {threshold}", hint=f"pairs, such as {', '.join(SYMBOLS[:2])}")
        return names
    try:
        value = type(default)(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise UserError(f"{text!r} is not a value for {threshold}", hint=f"a number of 0 or more; default: {default}")
    return value


def _eras(text: str) -> list[Era]:
    try:
        eras = [_era(part) for part in text.split(",")]
    except ValueError:
        eras = []
    days = [era[0] for era in eras]
    if not eras or days != sorted(set(days)) or not all(0 < low < high < float("inf") for _, low, high in eras):
        raise UserError(
            f"{text!r} is not a value for {ERAS_KEY}",
            hint="a band from each day on, ascending: 1990-01-01=68-125,2015-01-01=80-120",
        )
    return eras


def _era(part: str) -> Era:
    day, _, band = part.strip().partition("=")
    low, _, high = band.partition("-")
    return [date.fromisoformat(day).isoformat(), float(low), float(high)]
