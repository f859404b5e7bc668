"""The formula against independent 50-digit goldens, and how a move splits into the pairs' contributions."""

import csv
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dxy_pipeline.core.index import BASE, COMPONENTS, SYMBOLS, contributions, index_price

GOLDEN = Path(__file__).parent.parent / "data" / "dxy_golden.csv"
ONE = dict.fromkeys(SYMBOLS, 1.0)
rate_sets = st.fixed_dictionaries({symbol: st.floats(1e-4, 1e4) for symbol in SYMBOLS})
near_one = st.fixed_dictionaries({symbol: st.floats(0.5, 2.0) for symbol in SYMBOLS})


def golden() -> list[dict[str, str]]:
    with GOLDEN.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("case", golden(), ids=lambda case: case["case"])
def test_golden(case: dict[str, str]) -> None:
    price = index_price({symbol: float(case[symbol]) for symbol in SYMBOLS})
    assert abs(price - float(case["dxy"])) <= 1e-8
    assert price == round(price, 8)


def test_the_published_worked_example_is_wrong_and_the_formula_right() -> None:
    rates = {"EURUSD": 1.05, "USDJPY": 108.5, "GBPUSD": 1.25, "USDCAD": 1.3, "USDSEK": 10.15, "USDCHF": 0.92}
    assert index_price(rates) == 101.07235338


def test_weights_are_the_published_ones() -> None:
    assert [tuple(component) for component in COMPONENTS] == [
        ("EURUSD", -0.576),
        ("USDJPY", 0.136),
        ("GBPUSD", -0.119),
        ("USDCAD", 0.091),
        ("USDSEK", 0.042),
        ("USDCHF", 0.036),
    ]
    assert BASE == 50.14348112
    assert math.isclose(sum(abs(component.weight) for component in COMPONENTS), 1.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, None])
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_all_six_or_nothing(symbol: str, bad: float | None) -> None:
    with pytest.raises(ValueError, match=symbol):
        index_price({**ONE, symbol: bad})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=symbol):
        index_price({name: 1.0 for name in SYMBOLS if name != symbol})


@given(rate_sets)
def test_a_stronger_dollar_never_lowers_the_index(rates: dict[str, float]) -> None:
    for symbol in SYMBOLS:
        stronger = {**rates, symbol: rates[symbol] * (1.01 if symbol.startswith("USD") else 1 / 1.01)}
        assert index_price(stronger) > index_price(rates)


@given(near_one, near_one)
def test_contributions_add_up_to_the_move(before: dict[str, float], after: dict[str, float]) -> None:
    parts = contributions(before, after)
    assert tuple(parts) == SYMBOLS
    assert sum(parts.values()) == pytest.approx(index_price(after) - index_price(before), abs=1e-6)


@given(near_one, near_one)
def test_contributions_reverse_sign_with_the_move(before: dict[str, float], after: dict[str, float]) -> None:
    there, back = contributions(before, after), contributions(after, before)
    for symbol in SYMBOLS:
        assert there[symbol] == pytest.approx(-back[symbol], rel=1e-9, abs=1e-9)


def test_a_pair_that_did_not_move_contributes_nothing() -> None:
    parts = contributions(ONE, {**ONE, "EURUSD": 1.01})
    assert parts["EURUSD"] < 0
    assert all(parts[symbol] == 0 for symbol in SYMBOLS if symbol != "EURUSD")
    assert set(contributions(ONE, ONE).values()) == {0.0}


def test_opposite_moves_that_cancel_still_show_both_sides() -> None:
    back = {**ONE, "EURUSD": 1.01, "USDJPY": 1.01 ** (0.576 / 0.136)}
    parts = contributions(ONE, back)
    assert parts["EURUSD"] == pytest.approx(-parts["USDJPY"], rel=1e-9)
    assert parts["USDJPY"] > 0.2
