"""Line plots of values over time, as inline SVG coloured by the page's CSS."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 560, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24
MAX_POINTS = 300
"""Longer series are drawn as the means of so many equal parts."""
MAX_MARKS = 100
"""Up to this length, hovering over a point shows its value."""
_FLAT = 1e-300
"""Spans up to this are treated as 0: numbers this small cannot be divided into round steps."""


def line_plot(title: str, series: Mapping[str, Sequence[float | None]], first: int = 1) -> Markup:
    """Lines of several series over the same frames, on an axis from 0 (or their minimum, if negative) to their maximum.

    Args:
        title: what is plotted, for screen readers.
        series: values by name, which also gives the CSS class of the line (`series-<name>`). None leaves a gap.
        first: the frame, counted from 1, that the first value belongs to.
    """
    values = [value for each in series.values() for value in each if value is not None]
    ticks = round_ticks(min([0.0, *values]), max(values, default=0.0))
    count = max(len(each) for each in series.values())
    parts = [_axes(ticks, first, count)]
    for name, each in series.items():
        parts.append(_line(name, each, ticks, first, count))
    label = f"{title} of {_listed(list(series))}, {_frames(first, count)}"
    body = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{body}</svg>')


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _frames(first: int, count: int) -> str:
    return f"frame {first}" if count == 1 else f"frames {first} to {first + count - 1}"


def round_ticks(low: float, high: float) -> list[float]:
    """Four or five round values, from at most `low` to at least `high`."""
    span = high - low
    step = _step((span if span > _FLAT else 1.0) / 4)
    lowest = math.floor(low / step)
    highest = max(lowest + 1, math.ceil(high / step - 1e-9))
    return [step * count for count in range(lowest, highest + 1)]


def _step(rough: float) -> float:
    """The smallest round number (1, 2, 2.5 or 5 times a power of ten) that is at least `rough`."""
    unit = 10.0 ** math.floor(math.log10(rough))
    return next(each * unit for each in (1, 2, 2.5, 5, 10) if each * unit >= rough * (1 - 1e-9))


def _axes(ticks: list[float], first: int, count: int) -> str:
    parts = []
    for tick in ticks:
        y = _y(tick, ticks)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{tick:.4g}</text>')
    step = max(1, round(_step(count / 5)))
    for frame in range(-(-first // step) * step, first + count, step):
        x = _x(frame - first, count)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 7}" text-anchor="middle">{frame}</text>')
    return "".join(parts)


def _line(name: str, values: Sequence[float | None], ticks: list[float], first: int, count: int) -> str:
    points = [
        None if mean is None else (_x(position, count), _y(mean, ticks)) for position, mean in _downsampled(values)
    ]
    joined = zip([None, *points], points, strict=False)
    path = "".join(f"{'L' if before else 'M'}{point[0]:.1f} {point[1]:.1f}" for before, point in joined if point)
    marks = _marks(name, values, points, first) if len(values) <= MAX_MARKS else ""
    return f'<g class="series series-{escape(name)}"><path d="{path}"/>{marks}</g>'


def _marks(name: str, values: Sequence[float | None], points: Sequence[tuple[float, float] | None], first: int) -> str:
    return "".join(
        f'<circle cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="3">'
        f"<title>{escape(name)}, frame {frame}: {value:.4g}</title></circle>"
        for frame, (point, value) in enumerate(zip(points, values, strict=True), first)
        if point
    )


def _downsampled(values: Sequence[float | None]) -> Iterator[tuple[float, float | None]]:
    """Position and value of at most MAX_POINTS points, each the mean of its part of the series, without gaps."""
    for part in np.array_split(np.arange(len(values)), min(len(values), MAX_POINTS)):
        present = [value for index in part if (value := values[index]) is not None]
        yield float(part.mean()), float(np.mean(present)) if present else None


def _x(position: float, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (position / (count - 1) if count > 1 else 0.5)


def _y(value: float, ticks: list[float]) -> float:
    share = (value - ticks[0]) / (ticks[-1] - ticks[0])
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
