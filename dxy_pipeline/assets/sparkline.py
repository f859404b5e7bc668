"""A picture of a day that the UI shows inline: an SVG of one line, as small as it must be.

Markdown is rendered inline only under 1,000 characters, and `<svg>` tags are stripped: what passes is an image with an
SVG data URI. 48 points at whole pixels are about 650 characters.
"""

from base64 import b64encode
from collections.abc import Sequence

WIDTH, HEIGHT, POINTS = 320, 48, 48


def sparkline(values: Sequence[float]) -> str:
    """Return markdown with a line through two or more finite `values`, thinned to 48 points; under 1,000 characters."""
    count = min(POINTS, len(values))
    picked = [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]
    low, high = min(picked), max(picked)
    height = (high - low) or 1.0
    points = " ".join(
        f"{round(i * WIDTH / (count - 1))},{round(HEIGHT - 1 - (value - low) / height * (HEIGHT - 2))}"
        for i, value in enumerate(picked)
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">'
        f'<polyline fill="none" stroke="#4f43dd" points="{points}"/></svg>'
    )
    return f"![{low:.5g} to {high:.5g}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"
