"""The index formula and its weights: the one place of both.

SQL functions and the registry row are rendered from `COMPONENTS` and `BASE`; nothing else may spell a weight.
DXY = 50.14348112 · Π rateᵂ. EURUSD and GBPUSD are quoted the other way round (dollars per unit), hence their
negative exponents. Rolling up, storing and reading prices do not belong here.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

DXY = "DXY"
BASE = 50.14348112
PRICE_DECIMALS = 8


class Component(NamedTuple):
    """One pair of the index: its symbol and its exponent in the geometric mean."""

    symbol: str
    weight: float


COMPONENTS: tuple[Component, ...] = (
    Component("EURUSD", -0.576),
    Component("USDJPY", 0.136),
    Component("GBPUSD", -0.119),
    Component("USDCAD", 0.091),
    Component("USDSEK", 0.042),
    Component("USDCHF", 0.036),
)
SYMBOLS: tuple[str, ...] = tuple(component.symbol for component in COMPONENTS)
WEIGHTS: dict[str, float] = {component.symbol: component.weight for component in COMPONENTS}


def _rate(rates: Mapping[str, float], symbol: str) -> float:
    rate = rates.get(symbol)
    if rate is None or not math.isfinite(rate) or rate <= 0:
        raise ValueError(f"{symbol} must be a positive finite rate, got {rate!r}")
    return float(rate)


def index_price(rates: Mapping[str, float]) -> float:
    """Return the index level for one set of six rates, rounded once to 8 decimals.

    `rates` maps each of `SYMBOLS` to its quote in market convention; other keys are ignored. Raises ValueError when a
    component is absent, not finite or not positive: all six or nothing.
    """
    exponent = sum(component.weight * math.log(_rate(rates, component.symbol)) for component in COMPONENTS)
    return round(BASE * math.exp(exponent), PRICE_DECIMALS)


def contributions(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return how many index points each pair moved the index by, from `before` to `after`.

    The move of the logarithm splits exactly by pair; scaled by the logarithmic mean of the two levels the parts add up
    to the move in points, whatever the order in which the pairs moved. Same errors as `index_price`.
    """
    logs = {c.symbol: c.weight * math.log(_rate(after, c.symbol) / _rate(before, c.symbol)) for c in COMPONENTS}
    total = sum(logs.values())
    level = BASE * math.exp(sum(c.weight * math.log(before[c.symbol]) for c in COMPONENTS))
    # (after - before) / ln(after / before), written with expm1 so that tiny moves keep their digits
    scale = level * math.expm1(total) / total if total else level
    return {symbol: part * scale for symbol, part in logs.items()}
