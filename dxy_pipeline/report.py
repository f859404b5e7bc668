"""The health table: what each asset holds and what its checks say, as rows for a screen or JSON."""

from collections.abc import Sequence
from typing import Any

from dxy_pipeline.checks.engine import AssetFigures, CheckResult


def health_rows(assets: Sequence[AssetFigures], checks: Sequence[CheckResult]) -> list[dict[str, Any]]:
    """Return one row per asset and check: asset, rows, latest bar, check, state (ok, WARN, ERROR), what it says."""
    known = {figures.asset: figures for figures in assets}
    rows: list[dict[str, Any]] = []
    shown: set[str] = set()
    for check in checks:
        figures = known.get(check.asset_key)
        first = check.asset_key not in shown
        shown.add(check.asset_key)
        rows.append({
            "asset": check.asset_key if first else "",
            "rows": figures.bars if first and figures else None,
            "latest bar": figures.latest if first and figures else None,
            "check": check.name,
            "state": "ok" if check.passed else str(check.severity),
            "figure": check.description.removeprefix(f"{check.severity}: "),
        })  # fmt: skip
    return rows
