"""How a machine judges an item of the checklist: whether it holds, and the figure that says so."""

from collections.abc import Callable
from typing import Final

from dxy_pipeline.core.fx_week import open_minutes_since
from dxy_pipeline.db.shape import BARS
from dxy_pipeline.migration.facts import Facts

Judge = Callable[[Facts], tuple[bool, str]]
FRESH: Final = 5  # open minutes


def column(name: str) -> Judge:
    return lambda f: (name in f.db.tables[BARS].columns, "present" if name in f.db.tables[BARS].columns else "missing")


def takes_synthetic(f: Facts) -> tuple[bool, str]:
    checks = [c for c in f.db.tables[BARS].checks if c.columns == ("source",)]
    ok = all("'synthetic'" in c.expression for c in checks)
    return ok, "; ".join(c.name for c in checks) or "no CHECK on source"


def days(f: Facts) -> tuple[bool, str]:
    return set(f.units) == {"done"}, ", ".join(f"{n} {s}" for s, n in sorted(f.units.items())) or "no days"


def price(f: Facts) -> tuple[bool, str]:
    low, high, _ = f.bounds
    options = f.control.options
    ok = low is not None and high is not None
    ok = ok and options.get("price_low", 80) <= (low or 0) and (high or 0) <= options.get("price_high", 120)
    return bool(ok), f"{low} to {high}"


def fresh(f: Facts) -> tuple[bool, str]:
    if f.latest is None:
        return False, "no bar"
    age = open_minutes_since(f.latest, f.now)
    return age < FRESH, f"{age} open minutes old"


def pairs_fresh(f: Facts) -> tuple[bool, str]:
    ages = {symbol: None if at is None else open_minutes_since(at, f.now) for symbol, at in f.pairs.items()}
    shown = ", ".join(f"{symbol} {'none' if age is None else age}" for symbol, age in ages.items())
    return all(age is not None and age < FRESH for age in ages.values()), f"open minutes old: {shown}"


def connected(f: Facts) -> tuple[bool, str]:
    """Under one in a hundred sessions lost: the client vanished, or the server ended it by a fatal error."""
    lost, sessions = f.sessions["lost"], f.sessions["sessions"]
    return (
        lost * 100 <= sessions,
        f"{lost} of {sessions} sessions lost; up since {f.sessions['up_since']:%Y-%m-%d %H:%M} UTC",
    )


def detail(metric: str, *, some: bool) -> Judge:
    """Bars there (`some`) or none, with their range, as the seed prints it."""

    def judge(f: Facts) -> tuple[bool, str]:
        row = f.detailed[metric]
        span = f", {row['earliest']:%Y-%m-%d %H:%M} to {row['latest']:%Y-%m-%d %H:%M}" if row["count"] else ""
        return bool(row["count"]) is some, f"{row['count']}{span}"

    return judge


def date_range(f: Facts) -> tuple[bool, str]:
    row = f.detailed["DXY 1m bars in data_bars"]
    days = (row["latest"] - row["earliest"]).days if row["count"] else None
    return days is not None, "no bars" if days is None else f"{days} days"


def bound(place: int) -> Judge:
    def judge(f: Facts) -> tuple[bool, str]:
        value = f.bounds[place]
        low, high = f.control.options.get("price_low", 80), f.control.options.get("price_high", 120)
        return value is not None and low <= value <= high, "no bars" if value is None else f"{value:.2f} index points"

    return judge


def synthetic(f: Facts) -> tuple[bool, str]:
    return f.wrong_source == 0, f"{f.counts['data_bars'] - f.wrong_source} of {f.counts['data_bars']} bars"


def no_worse(name: str, unit: str, slack: float) -> Judge:
    def judge(f: Facts) -> tuple[bool, str]:
        before, after = f.baseline.get(f"before.{name}"), f.baseline.get(f"after.{name}")
        if after is None:
            return False, f"before {before if before is not None else 'none'} {unit}; after: known at the retirement"
        return after <= (before or 0) + slack, f"before {before or 0:.2f} {unit}, after {after:.2f} {unit}"

    return judge


def watched(name: str) -> Judge:
    def judge(f: Facts) -> tuple[bool, str]:
        row = next(r for r in f.watched if r["name"] == name)
        return row["status"] == "PASS", f"{row['status']}: {row['figure']}"

    return judge


def key(shown: str) -> Judge:
    def judge(f: Facts) -> tuple[bool, str]:
        index = f.db.tables[BARS].key_index()
        return index is not None, str(getattr(index, shown, "none"))

    return judge


def has_function(f: Facts) -> tuple[bool, str]:
    found = "calc_dxy_range_1m" in f.db.functions
    return found, "present" if found else "missing"


def verified(f: Facts) -> tuple[bool, str]:
    return f.verified, "by count and content" if f.verified else "not verified"


def none_fails(f: Facts) -> tuple[bool, str]:
    return all(r["status"] != "FAIL" for r in f.watched), ", ".join(f"{r['name']} {r['status']}" for r in f.watched)


def has_rows(f: Facts) -> tuple[bool, str]:
    return f.counts["data_bars"] > 0, f"{f.counts['data_bars']} rows"
