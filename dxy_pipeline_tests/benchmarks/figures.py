"""A figure, its bound and whether it holds; the table on the terminal and build/bench.json.

Does not belong here: how anything is measured.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

REPORT: Final = Path(__file__).resolve().parents[2] / "build" / "bench.json"


@dataclass(frozen=True)
class Figure:
    """`value` in `unit` must be at most `bound` (at least, if `least`); None: only said, for comparison."""

    name: str
    value: float
    bound: float | None = None
    unit: str = ""
    least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the bound holds."""
        if self.bound is None:
            return True
        return self.value >= self.bound if self.least else self.value <= self.bound

    @property
    def must(self) -> str:
        """The bound in words, empty without one."""
        return "" if self.bound is None else f"{'≥' if self.least else '≤'} {self.bound:g}{self.unit}"

    @property
    def shown(self) -> str:
        """The value with three or four digits and its unit."""
        return (
            f"{self.value:.4f}".rstrip("0").rstrip(".") + self.unit
            if self.value < 10
            else f"{self.value:.1f}{self.unit}"
        )


def show(figures: Sequence[Figure], console: Console) -> None:
    """Print the table."""
    table = Table("figure", "value", "must", "pass")
    for figure in figures:
        passed = "" if figure.bound is None else "[green]yes[/]" if figure.holds else "[bold red]NO[/]"
        table.add_row(figure.name, figure.shown, figure.must, passed, style="dim" if figure.bound is None else "")
    console.print(table)


def save(figures: Sequence[Figure], path: Path = REPORT) -> None:
    """Write the list of {name, value, must, pass}."""
    path.parent.mkdir(exist_ok=True)
    rows = [{"name": f.name, "value": f.value, "must": f.must, "pass": f.holds} for f in figures]
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
