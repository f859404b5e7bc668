"""Pictures for people: candles of a DXY timeframe, and what each of the six pairs contributed to the move.

Frames in, files out: a PNG (matplotlib) and an interactive page (plotly, with its script inside: it needs no network).
Reading bars belongs to the caller.
"""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dxy_pipeline.core.index import SYMBOLS, contributions

mpl.use("Agg")  # no display needed, on a server or in a test

RISE, FALL = "#2a9d8f", "#d1495b"
PAIR_COLOURS = dict(
    zip(SYMBOLS, ("#264653", "#2a9d8f", "#8ab17d", "#e9c46a", "#f4a261", "#d1495b"), strict=True)
)  # fmt: skip


def daily_contributions(closes: pd.DataFrame) -> pd.DataFrame:
    """Return index points by pair and day, from each day's last close to the next day's.

    `closes`: index UTC timestamps, one column a pair. A day on which a pair has no bar is left out.
    """
    complete = closes[list(SYMBOLS)].dropna()
    last = complete.groupby(_days(complete)).last()
    rows = {
        after: contributions(last.loc[before].to_dict(), last.loc[after].to_dict())
        for before, after in zip(last.index[:-1], last.index[1:], strict=True)
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(SYMBOLS))


def write_png(path: Path, candles: pd.DataFrame, moves: pd.DataFrame, title: str) -> Path:
    """Draw candles (index UTC, columns open, high, low, close) over daily contributions into a PNG; return its path."""
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(12, 8), height_ratios=(3, 2), layout="constrained", facecolor="white"
    )
    # Bars side by side: the market is shut at week-ends and a time axis would be a third empty.
    places = range(len(candles))
    rising = (candles["close"] >= candles["open"]).to_numpy()
    colours = [RISE if up else FALL for up in rising]
    upper.vlines(places, candles["low"], candles["high"], colors=colours, linewidth=0.6)
    upper.bar(places, candles["close"] - candles["open"], bottom=candles["open"], color=colours, width=0.9, linewidth=0)
    days = pd.Series(_days(candles)).drop_duplicates()
    days = days[days.dt.dayofweek < 5]  # a Sunday evening is a sliver: its label would cover Monday's
    upper.set_xticks(list(days.index), [f"{day:%d %b}" for day in days])
    upper.set_ylabel("index points")
    upper.set_title(title)
    upper.grid(alpha=0.25)
    positive, negative = [0.0] * len(moves), [0.0] * len(moves)
    for symbol in SYMBOLS:
        values = moves[symbol].to_numpy()
        base = [p if v >= 0 else n for v, p, n in zip(values, positive, negative, strict=True)]
        lower.bar(range(len(moves)), values, bottom=base, color=PAIR_COLOURS[symbol], label=symbol, width=0.7)
        positive = [p + max(v, 0.0) for p, v in zip(positive, values, strict=True)]
        negative = [n + min(v, 0.0) for n, v in zip(negative, values, strict=True)]
    lower.axhline(0, color="black", linewidth=0.8)
    lower.set_xticks(range(len(moves)), [f"{day:%d %b}" for day in moves.index])
    lower.set_ylabel("contribution, points a day")
    lower.legend(ncols=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    lower.grid(alpha=0.25, axis="y")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def write_html(path: Path, candles: pd.DataFrame, moves: pd.DataFrame, title: str) -> Path:
    """Write the same picture as a page to zoom and hover in; return its path."""
    figure = make_subplots(rows=2, cols=1, row_heights=[0.62, 0.38], vertical_spacing=0.12)
    labels = [f"{at:%Y-%m-%d %H:%M}Z" for at in candles.index]
    figure.add_trace(
        go.Candlestick(
            x=labels, open=candles["open"], high=candles["high"], low=candles["low"], close=candles["close"],
            name="DXY", increasing_line_color=RISE, decreasing_line_color=FALL,
        ), row=1, col=1,
    )  # fmt: skip
    for symbol in SYMBOLS:
        figure.add_trace(
            go.Bar(
                x=[f"{day:%Y-%m-%d}" for day in moves.index],
                y=moves[symbol],
                name=symbol,
                marker_color=PAIR_COLOURS[symbol],
            ),
            row=2,
            col=1,
        )
    figure.update_layout(title=title, barmode="relative", template="plotly_white", height=850)
    figure.update_xaxes(type="category", nticks=12, rangeslider_visible=False)
    figure.update_yaxes(title_text="index points", row=1, col=1)
    figure.update_yaxes(title_text="contribution, points a day", row=2, col=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path, include_plotlyjs=True)
    return path


def _days(frame: pd.DataFrame) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(frame.index).floor("D")
