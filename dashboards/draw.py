"""Draw one panel as HTML: no scripts, nothing fetched.

A plot is an SVG that stretches to its box, under HTML labels placed in percent, so that text and
strokes keep their size on any screen.
"""

# By hand because a library could draw only the time series, half of this module, and would cost
# more. For the eight of the dashboard (made-up rows: 3 versions, 16 windows), on two busy cores:
#
#                                 draw     import   size
#   this module                   0.02 s   0.1 s    50 kB
#   matplotlib 3.11, SVG          4-6 s    2-3 s    138 kB   no tooltips; text grows with the box
#   Altair 6.3 and vl-convert     5-7 s    1.5 s    199 kB   a package of 84 MB; text grows, too
#   Plotly 7                      0.4 s    0.1 s    73 kB    and 4.8 MB of script
#
# None follows the reader's light or dark colours without a second drawing or a script.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from datetime import UTC, datetime, timedelta
from html import escape
from itertools import groupby, pairwise
from typing import Any

from headrace.dashboards.fields import colour, field_of, number_of, show
from headrace.dashboards.reading import Panel, Points, Result, lines_of, reduce, shown

COLOURS = 10  # --s0 … --s9 of the stylesheet
MOST_DOTS = 400
_STEPS_S = (
    60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 7 * 86400,
    14 * 86400, 30 * 86400, 91 * 86400, 365 * 86400,
)  # fmt: skip


@dataclass(frozen=True)
class Canvas:
    """What the plots of a page share: the time range, and the moments to mark, with their text."""

    start: datetime
    end: datetime
    marks: Sequence[tuple[datetime, str]] = ()
    tints: dict[str, int] = default(default_factory=dict)  # colour of each version, on all plots

    def x(self, moment: datetime) -> float:
        """Position of a moment in percent of the width; outside of [0, 100] when out of range."""
        return 100 * ((moment - self.start) / (self.end - self.start))

    def tint(self, name: str) -> int:
        return self.tints.setdefault(name, len(self.tints)) % COLOURS


def draw(panel: Panel, result: Result, canvas: Canvas) -> str:
    """Return the inside of the panel as HTML."""
    if not result.rows:
        return _none(panel)
    if panel["type"] == "timeseries":
        return _timeseries(panel, result, canvas)
    return _KINDS[panel["type"]](panel, result)


def _none(panel: Panel) -> str:
    return f'<p class="none">{escape(str(panel["fieldConfig"]["defaults"]["noValue"]))}</p>'


def _stat(panel: Panel, result: Result) -> str:
    named = panel["options"]["textMode"] == "value_and_name"
    parts = []
    for each in shown(panel, result):
        text = escape(show(each.value, each.field))
        label = f"<small>{escape(each.name)}</small>" if named else ""
        tint = _tint(colour(each.value, each.field))
        parts.append(f'<div><b{tint} title="{text}">{text}</b>{label}</div>')
    if not parts:
        return _none(panel)
    return f'<div class="tiles">{"".join(parts)}</div>'


def _table(panel: Panel, result: Result) -> str:
    fields = [field_of(panel, name) for name in result.columns]
    shown = [i for i, field in enumerate(fields) if not field.get("custom.hidden")]
    numeric = {i for i in shown if any(number_of(row[i]) is not None for row in result.rows)}
    head = "".join(
        f"<th{_right(i in numeric)}>{escape(str(result.columns[i]))}</th>" for i in shown
    )
    lines = []
    for row in result.rows:
        cells = []
        for i in shown:
            text = escape(show(row[i], fields[i]))
            coloured = fields[i].get("custom.cellOptions", {}).get("type") == "color-text"
            tint = _tint(colour(row[i], fields[i])) if coloured else ""
            still = " nowrap" if isinstance(row[i], datetime) else ""
            cells.append(f"<td{_right(i in numeric)}{tint}{still}>{text}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _bargauge(panel: Panel, result: Result) -> str:
    values = shown(panel, result)
    if not values:
        return _none(panel)
    steps = [step["value"] for step in values[0].field["thresholds"]["steps"] if step["value"]]
    top = max([*(number_of(each.value) or 0 for each in values), *(1.2 * step for step in steps)])
    ticks = "".join(f'<i class="tick" style="left:{100 * step / top:.2f}%"></i>' for step in steps)
    bars = []
    for each in values:
        value = number_of(each.value) or 0
        name = escape(each.name)
        tint = colour(each.value, each.field) or "blue"
        bars.append(
            f'<span class="name" title="{name}">{name}</span><span class="track">'
            f'<i class="bar" style="width:{100 * value / top:.2f}%;background:var(--{tint})"></i>'
            f"{ticks}</span><b{_tint(tint)}>{escape(show(each.value, each.field))}</b>"
        )
    return f'<div class="gauge">{"".join(bars)}</div>'


def _barchart(panel: Panel, result: Result) -> str:
    """Draw horizontal stacked bars: the first column names the bar, the others are its parts."""
    parts = list(enumerate(result.columns))[1:]
    sums = [sum(number_of(row[i]) or 0 for i, _ in parts) for row in result.rows]
    top = max(sums) or 1.0
    field = field_of(panel, "")
    bars = []
    for row, total in zip(result.rows, sums, strict=True):
        pieces = []
        for i, name in parts:
            value = number_of(row[i])
            if value:
                title = escape(f"{name}: {show(value, field)}")
                style = f"width:{100 * value / top:.2f}%;background:var(--s{(i - 1) % COLOURS})"
                pieces.append(f'<i class="bar" style="{style}" title="{title}"></i>')
        name = escape(str(row[0]))
        bars.append(
            f'<span class="name" title="{name}">{name}</span>'
            f'<span class="track stacked">{"".join(pieces)}</span><b>{show(total, field)}</b>'
        )
    legend = [(name, (i - 1) % COLOURS, "") for i, name in parts]
    return f'<div class="gauge">{"".join(bars)}</div>{_legend(legend)}'


_KINDS: dict[str, Callable[[Panel, Result], str]] = {
    "stat": _stat,
    "table": _table,
    "bargauge": _bargauge,
    "barchart": _barchart,
}


def _timeseries(panel: Panel, result: Result, canvas: Canvas) -> str:
    field = field_of(panel, "")
    custom = field["custom"]
    lines = {
        name: points
        for name, points in lines_of(result).items()
        if any(value is not None for _, value in points)
    }
    if not lines:
        return _none(panel)
    floors: dict[datetime, float] = {}
    stacked = custom["stacking"]["mode"] == "normal"
    tops = {
        (name, moment): value + (_stack(floors, moment, value) if stacked else 0.0)
        for name, points in lines.items()
        for moment, value in points
        if value is not None
    }
    ticks = _ticks(list(tops.values()), field)
    low, high = ticks[0], ticks[-1]

    def y(value: float) -> float:
        return 100 * (1 - (min(max(value, low), high) - low) / (high - low))

    shapes, dots = [], []
    width = _bar_width(lines, canvas)
    busy = len(tops) > MOST_DOTS
    tints = {
        name: canvas.tint(name) if "metric" in result.columns else number % COLOURS
        for number, name in enumerate(lines)
    }
    for name, points in lines.items():
        tint = f"var(--s{tints[name]})"
        path = ""
        for run in _runs(points):
            for number, (moment, value) in enumerate(run):
                x, top = canvas.x(moment), y(tops[name, moment])
                label = escape(f"{name}: {show(value, field)} · {moment:%Y-%m-%d %H:%M}")
                if custom["drawStyle"] == "bars":
                    height = y(low) - y(low + value)
                    left = max(x - width, 0)
                    shapes.append(
                        f'<rect x="{left:.3f}" y="{top:.3f}" width="{(x - left) * 0.9:.3f}" '
                        f'height="{height:.3f}" fill="{tint}"><title>{label}</title></rect>'
                    )
                    continue
                path += f"{'L' if number else 'M'}{x:.3f},{top:.3f}"
                if len(run) == 1 or not busy:
                    style = f"left:{x:.3f}%;top:{top:.3f}%;background:{tint}"
                    dots.append(f'<i class="dot" style="{style}" title="{label}"></i>')
        if path:
            shapes.append(f'<path d="{path}" stroke="{tint}"/>')
    title = escape(panel["title"])
    return (
        f'<div class="plot" role="img" aria-label="{title}">'
        '<div class="area"><svg viewBox="0 0 100 100" preserveAspectRatio="none">'
        f"{_grid(ticks, y)}{_thresholds(field, low, high, y)}{_marks(canvas)}{''.join(shapes)}"
        f"</svg>{''.join(dots)}{_y_labels(ticks, field, y)}{_x_labels(canvas)}</div></div>"
        + _legend(_entries(panel, lines, tints))
    )


def _runs(points: Points) -> list[list[tuple[datetime, float]]]:
    """Split a line where it has no value."""
    known = groupby(points, key=lambda point: point[1] is not None)
    return [
        [(moment, value) for moment, value in run if value is not None] for yes, run in known if yes
    ]


def _stack(floors: dict[datetime, float], moment: datetime, value: float) -> float:
    floor = floors.get(moment, 0.0)
    floors[moment] = floor + value
    return floor


def _ticks(values: list[float], field: dict[str, Any]) -> list[float]:
    """Return at most seven round values that enclose the data and the panel's soft limits."""
    custom = field["custom"]
    low = min([*values, custom.get("axisSoftMin", math.inf)])
    high = max([*values, custom.get("axisSoftMax", -math.inf)])
    low, high = field.get("min", low), max(high, field.get("min", high))
    if high == low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _bar_width(lines: dict[str, Points], canvas: Canvas) -> float:
    moments = sorted({moment for points in lines.values() for moment, _ in points})
    gaps = [b - a for a, b in pairwise(moments)]
    gap = min(gaps, default=(canvas.end - canvas.start) / 30)
    return max(100 * (gap / (canvas.end - canvas.start)), 0.2)


def _grid(ticks: list[float], y: Callable[[float], float]) -> str:
    return "".join(f'<path class="grid" d="M0,{y(tick):.3f}H100"/>' for tick in ticks)


def _thresholds(field: dict[str, Any], low: float, high: float, y: Callable[[float], float]) -> str:
    if field["custom"]["thresholdsStyle"]["mode"] == "off":
        return ""
    return "".join(
        f'<path class="mark" d="M0,{y(step["value"]):.3f}H100" stroke="var(--{step["color"]})"/>'
        for step in field["thresholds"]["steps"]
        if step["value"] is not None and low <= step["value"] <= high
    )


def _marks(canvas: Canvas) -> str:
    return "".join(
        f'<path class="mark" d="M{canvas.x(moment):.3f},0V100" stroke="var(--muted)">'
        f"<title>{escape(text)} · {moment:%Y-%m-%d %H:%M}</title></path>"
        for moment, text in canvas.marks
    )


def _y_labels(ticks: list[float], field: dict[str, Any], y: Callable[[float], float]) -> str:
    step = ticks[1] - ticks[0]
    scale = 100 if field.get("unit") == "percentunit" else 1
    decimals = max(0, -math.floor(math.log10(step * scale) + 1e-9))
    plain = {"unit": field.get("unit"), "decimals": decimals}
    return "".join(
        f'<span class="y" style="top:{y(tick):.3f}%">{escape(show(tick, plain))}</span>'
        for tick in ticks
    )


def _x_labels(canvas: Canvas) -> str:
    span = (canvas.end - canvas.start).total_seconds()
    step = next((s for s in _STEPS_S if span / s <= 6), _STEPS_S[-1] * math.ceil(span / 2e8))
    form = "%Y-%m-%d" if step >= 86400 else "%H:%M" if span <= 86400 else "%m-%d %H:%M"
    first = math.ceil(canvas.start.timestamp() / step) * step
    labels = []
    while first <= canvas.end.timestamp():
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=first)
        x = canvas.x(moment)
        if 4 <= x <= 96:
            labels.append(f'<span class="x" style="left:{x:.3f}%">{moment.strftime(form)}</span>')
        first += step
    return "".join(labels)


def _entries(
    panel: Panel, lines: dict[str, Points], tints: dict[str, int]
) -> list[tuple[str, int, str]]:
    field = field_of(panel, "")
    calcs = panel["options"]["legend"]["calcs"]
    entries = []
    for name, points in lines.items():
        values = [value for _, value in points]
        texts = [
            f"{'mean ' if calc == 'mean' else ''}{show(reduce(calc, values), field)}"
            for calc in calcs
        ]
        entries.append((name, tints[name], ", ".join(texts)))
    return entries


def _legend(entries: list[tuple[str, int, str]]) -> str:
    items = "".join(
        f'<li><i style="background:var(--s{tint})"></i>{escape(name)} <b>{escape(text)}</b></li>'
        for name, tint, text in entries
    )
    return f'<ul class="legend">{items}</ul>'


def _tint(name: str | None) -> str:
    return f' style="color:var(--{name})"' if name else ""


def _right(yes: bool) -> str:
    return ' class="right"' if yes else ""
