"""The constants that SQL files are rendered with: index base and weights, from `core.index` and nowhere else."""

import json

from dxy_pipeline.core.index import BASE, COMPONENTS, WEIGHTS


def sql_constants() -> dict[str, str]:
    """Return the `${name}` placeholders of sql/functions and sql/schema with their SQL text."""
    names = [(c.symbol, c.symbol.lower(), c.weight) for c in COMPONENTS]
    return {
        "formula_base": repr(BASE),
        "component_list": ", ".join(f"'{symbol}'" for symbol, _, _ in names),
        "price_arguments": ", ".join(f"{column} double precision" for _, column, _ in names),
        "price_types": ", ".join("double precision" for _ in names),
        "log_sum": " + ".join(f"({weight!r} * ln({column}))" for _, column, weight in names),
        "pivot_columns": ", ".join(f"m.{column}" for _, column, _ in names),
        "pivot_closes": ",\n                ".join(
            f"max(b.close) FILTER (WHERE b.canonical_symbol = '{symbol}') AS {column}" for symbol, column, _ in names
        ),
        "recomputed_closes": ",\n                ".join(
            f"max(d.close::double precision) FILTER (WHERE d.canonical_symbol = '{symbol}')" for symbol, _, _ in names
        ),
    }


def registry_metadata(data_location: str) -> str:
    """Return the DXY registry row's metadata as JSON text: the seed's keys, weights included.

    `data_location` is 'data_bars' or, until the cutover, 'derived_data_bars'. The migration's date is added by SQL.
    """
    return json.dumps(
        {
            "is_synthetic": True,
            "data_location": data_location,
            "base_timeframe": "1m",
            "derivation_method": "calc_dxy_range_1m",
            "derivation_formula": "logarithmic_weighted_geometric_mean",
            "components": [c.symbol for c in COMPONENTS],
            "component_weights": WEIGHTS,
            "derived_timeframes": ["5m", "1h"],
            "migration_version": 1,
        }
    )
