"""What the UI says about each asset apart from its runs: table, columns, kinds, group, owners.

The columns are the ones that readers may rely on in every shape of database; a desk's table may hold more.
"""

from typing import Any

import dagster as dg

from dxy_pipeline.core.bars import Timeframe

OWNERS = ["team:market-data"]

_PRICES = [
    dg.TableColumn(name, "numeric", description)
    for name, description in (
        ("open", "first price of the bucket"),
        ("high", "highest price"),
        ("low", "lowest price"),
        ("close", "last price"),
    )
]
_KEY = [
    dg.TableColumn("canonical_symbol", "text", "EURUSD, … or DXY"),
    dg.TableColumn("timeframe", "text", "1m, 5m or 1h"),
    dg.TableColumn("ts_utc", "timestamptz", "start of the bucket; the bar covers [ts_utc, ts_utc + timeframe)"),
]
_VOLUME = [
    dg.TableColumn("vol", "numeric", "what the source counts; 0 for DXY"),
    dg.TableColumn("vwap", "numeric", "volume-weighted price, NULL without volume"),
    dg.TableColumn("trade_count", "integer", "0 for DXY"),
    dg.TableColumn("is_partial", "boolean", "true while the bucket can still receive minutes"),
]
_MADE_OF = [
    dg.TableColumn("source_candles", "integer", "minutes that the bar was made of"),
    dg.TableColumn("expected_candles", "integer", "open market minutes of the bucket"),
    dg.TableColumn("quality_score", "integer", "2 complete, 1 from 80 %, 0 from 60 %; below that there is no bar"),
    dg.TableColumn("derivation_version", "integer", "version of the rules that made the bar"),
    dg.TableColumn("deleted_at", "timestamptz", "set on a bar that no longer holds"),
]
_ORIGIN = [
    dg.TableColumn("source", "text", "massive_api, ingest, synthetic (DXY 1m) or agg (roll-ups)"),
    dg.TableColumn("raw", "jsonb", "feed of an FX bar; components and base of a DXY bar"),
]


# One group for all four: its page back-fills a range of them with one button. "Materialize all" on the global page cannot,
# the migration's asset has other partitions.
GROUP = "dxy"


def _about(table: str, kinds: set[str], columns: list[dg.TableColumn]) -> dict[str, Any]:
    return {
        "group_name": GROUP,
        "owners": OWNERS,
        "kinds": {"postgres", *kinds},
        "metadata": {
            "dagster/table_name": table,
            "dagster/column_schema": dg.TableSchema(columns=columns),
        },
    }


FX_1M = _about("public.data_bars", {"python"}, [*_KEY, *_PRICES, *_VOLUME, *_ORIGIN])
DXY_1M = _about("public.data_bars", {"sql"}, [*_KEY, *_PRICES, *_VOLUME, *_ORIGIN])


def rollup_table(timeframe: Timeframe) -> dict[str, Any]:
    """Return the same for a roll-up."""
    about = _about("public.derived_data_bars", {"sql"}, [*_KEY, *_PRICES, *_VOLUME, *_MADE_OF, *_ORIGIN])
    about["metadata"]["bucket"] = str(timeframe)
    return about
