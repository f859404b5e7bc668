"""In which types the two tables are compared, and the expressions of sql/migration/images.sql that follow from them.

Both sides are brought into one normal form, so that equal means equal, and a value that went to the other table and back
has the same form as before it went.
"""

from typing import Final

from dxy_pipeline.db.shape import BARS, DERIVED, Database

PRICES: Final = ("open", "high", "low", "close")
MEASURES: Final = (*PRICES, "vol", "vwap")
FIGURES: Final = (*MEASURES, "trade_count")
WHOLE: Final = ("smallint", "integer", "bigint")  # the coarser one first
_MARKED: Final = "l.raw #> '{{data_bars,absent}}' ? '{}'"


def common_types(db: Database) -> dict[str, str]:
    """For each measure the type in which both tables are compared: the coarser one of the two."""
    return {name: casts[-1] for name, casts in _casts(db).items()}


def normal_forms(db: Database) -> dict[str, str]:
    """For each measure the casts that lead to its normal form, as SQL spells them after `::`."""
    return {name: "::".join(casts) for name, casts in _casts(db).items()}


def unmatched(db: Database) -> list[str]:
    """Figures that data_bars takes as NULL and legacy does not: legacy gets a stand-in and a note in `raw`."""
    return [name for name in FIGURES if _not_null(db, DERIVED, name) and not _not_null(db, BARS, name)]


def refused(db: Database) -> list[str]:
    """Figures that legacy takes as NULL and data_bars does not: the dual write has to refuse such a legacy write."""
    return [name for name in FIGURES if _not_null(db, BARS, name) and not _not_null(db, DERIVED, name)]


def fills(db: Database) -> dict[str, str]:
    """The placeholders of sql/migration for the columns at hand."""
    forms = {**normal_forms(db), "trade_count": "bigint"}
    stand_ins = unmatched(db)
    found = dict(forms)
    for name, form in forms.items():
        found[f"legacy_{name}"], found[f"bars_{name}"] = f"l.{name}::{form}", f"d.{name}::{form}"
        if name in stand_ins:
            marked = _MARKED.format(name)
            found[f"legacy_{name}"] = f"CASE WHEN {marked} THEN NULL ELSE l.{name}::{form} END"
            found[f"bars_{name}"] = f"coalesce({_stand_in(name)})::{form}"
    absent = [f"CASE WHEN d.{name} IS NULL THEN '{name}' END" for name in ("raw", *stand_ins)]
    found["absent"] = f"array_remove(ARRAY[{', '.join(absent)}], NULL)"
    return found


def _stand_in(name: str) -> str:
    """What legacy holds where it must hold something: the bar's other prices, no number where it has none, else 0."""
    if name in PRICES:
        return ", ".join(f"d.{price}" for price in dict.fromkeys((name, "close", *PRICES))) + ", 'NaN'"
    return f"d.{name}, 0"


def _casts(db: Database) -> dict[str, tuple[str, ...]]:
    return {name: _coarser(*(db.tables[t].columns[name].type for t in (DERIVED, BARS))) for name in MEASURES}


def _coarser(one: str, other: str) -> tuple[str, ...]:
    """The casts to what both types can hold.

    Numeric beside float8: through float8 first, since numeric keeps fifteen digits of a float8 and more of a numeric.
    """
    if one == other:
        return (one,)
    if whole := [name for name in WHOLE if name in (one, other)]:
        return (whole[0],)
    numeric = [name for name in (one, other) if name.startswith("numeric")]
    scaled = [name for name in numeric if "," in name]
    coarse = min(scaled or numeric, key=_digits)
    return (coarse,) if len(numeric) == 2 else ("double precision", coarse)


def _digits(numeric: str) -> tuple[int, int]:
    """Scale and precision of a numeric type; of one without limits zeros."""
    precision, _, scale = numeric.removeprefix("numeric").strip("()").partition(",")
    return int(scale or 0), int(precision or 0)


def limit(kind: str) -> str | None:
    """The first absolute value that is too large for a type, as SQL spells it; None where there is none."""
    if kind in WHOLE:
        return str(2 ** {"smallint": 15, "integer": 31, "bigint": 63}[kind])
    scale, precision = _digits(kind) if kind.startswith("numeric(") else (0, 0)
    return f"1e{precision - scale}" if precision else None


def _not_null(db: Database, table: str, name: str) -> bool:
    return db.tables[table].columns[name].not_null
