"""Charts as inline SVG: classes only, so that the style sheet decides for light and dark.

Each chart is drawn twice, wide and narrow, and the style sheet shows one of them: a scaled
drawing would have unreadable letters on a phone.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec
from markupsafe import Markup

from tallybook.kernel.decimals import EXACT, plain
from tallybook.kernel.timestamps import DAY_US, from_us

WIDE, NARROW = 1040, 340
BAR_MAX = Decimal(56)
HEIGHT = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 8, 12, 26
_ZERO = Decimal(0)
_UNITS = (
    (Decimal(10) ** 12, "T"),
    (Decimal(10) ** 9, "G"),
    (Decimal(10) ** 6, "M"),
    (Decimal(1000), "k"),
)


_RECT = Markup(
    '<rect class="bar" x="{}" y="{}" width="{}" height="{}" rx="1.5"><title>{}</title></rect>'
)


class Bar(msgspec.Struct, frozen=True):
    """One bar.

    Attributes:
        label: under the axis.
        title: shown when pointed at.
        value: height; negative bars are drawn as nothing.
    """

    label: str
    title: str
    value: Decimal


class Point(msgspec.Struct, frozen=True):
    """From an instant on a value holds, until the next point."""

    at_us: int
    value: Decimal


def bars(found: Sequence[Bar], caption: str) -> Markup:
    """Return a bar chart of up to a few hundred bars."""
    drawn = (
        _bars(found, caption, width, name) for width, name in ((WIDE, "wide"), (NARROW, "narrow"))
    )
    return Markup("").join(drawn)


def _bars(found: Sequence[Bar], caption: str, width: int, name: str) -> Markup:
    top = nice_top(max((bar.value for bar in found), default=_ZERO))
    inner, height = width - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    parts = [_grid(top, width, height)]
    step = Decimal(inner) / max(1, len(found))
    gap = min(Decimal(4), step / 4)
    for i, bar in enumerate(found):
        tall = max(_ZERO, bar.value) / top * height
        broad = min(step - gap, BAR_MAX)
        x, y = _LEFT + step * i + (step - broad) / 2, _TOP + height - tall
        shape = (_px(x), _px(y), _px(broad), _px(tall))
        parts.append(_RECT.format(*shape, bar.title))
    parts.append(_labels(found, step, width))
    head = Markup('<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}">')
    return head.format(name, width, HEIGHT, caption) + Markup("").join(parts) + Markup("</svg>")


def _grid(top: Decimal, width: int, height: int) -> Markup:
    parts = []
    for quarter in range(5):
        y = _TOP + Decimal(height) * (4 - quarter) / 4
        line = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>')
        parts.append(line.format(_LEFT, width - _RIGHT, _px(y), _px(y)))
        text = Markup('<text class="axis" x="{}" y="{}" text-anchor="end">{}</text>')
        parts.append(text.format(_LEFT - 8, _px(y + 4), short(top * quarter / 4)))
    return Markup("").join(parts)


def _labels(found: Sequence[Bar], step: Decimal, width: int) -> Markup:
    """Return labels under the axis, as many as fit."""
    room = 9 if width == WIDE else 4
    every = max(1, -(-len(found) // room))
    parts = []
    for i in range(0, len(found), every):
        x = _LEFT + step * i + step / 2
        text = Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>')
        parts.append(text.format(_px(x), HEIGHT - 8, found[i].label))
    return Markup("").join(parts)


def stairs(found: Sequence[Point], caption: str) -> Markup:
    """Return a chart of a value that holds from each point to the next, oldest first.

    Values below zero are drawn at zero: what is owed is told in words.
    """
    if len(found) < 2:
        return Markup("")
    drawn = (
        _stairs(found, caption, width, name) for width, name in ((WIDE, "wide"), (NARROW, "narrow"))
    )
    return Markup("").join(drawn)


def _stairs(found: Sequence[Point], caption: str, width: int, name: str) -> Markup:
    top = nice_top(max(point.value for point in found))
    inner, height = width - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    start = found[0].at_us
    span = Decimal(max(1, found[-1].at_us - start))

    def place(at_us: int) -> Decimal:
        return _LEFT + Decimal(at_us - start) / span * inner

    heights = [_TOP + height - max(_ZERO, point.value) / top * height for point in found]
    path = [f"M{_px(place(start))} {_px(heights[0])}"]
    for point, tall in zip(found[1:], heights[1:], strict=True):
        path.append(f"H{_px(place(point.at_us))}V{_px(tall)}")
    line = "".join(path)
    floor = f"V{_TOP + height}H{_px(place(start))}Z"
    parts = [_grid(top, width, height)]
    parts.append(Markup('<path class="area" d="{}{}"/>').format(line, floor))
    parts.append(Markup('<path class="line" d="{}"/>').format(line))
    parts.append(_dates(start, found[-1].at_us, width))
    head = Markup('<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}">')
    return head.format(name, width, HEIGHT, caption) + Markup("").join(parts) + Markup("</svg>")


def _dates(start_us: int, end_us: int, width: int) -> Markup:
    """Return dates under the axis, at equal distances."""
    room = 6 if width == WIDE else 3
    inner = width - _LEFT - _RIGHT
    short_span = end_us - start_us < 2 * DAY_US
    parts = []
    for i in range(room):
        at = from_us(start_us + (end_us - start_us) * i // (room - 1))
        label = f"{at:%H:%M}" if short_span else f"{at:%m-%d}"
        anchor = "start" if i == 0 else "end" if i == room - 1 else "middle"
        text = Markup('<text class="axis" x="{}" y="{}" text-anchor="{}">{}</text>')
        x = _LEFT + Decimal(inner) * i / (room - 1)
        parts.append(text.format(_px(x), HEIGHT - 8, anchor, label))
    return Markup("").join(parts)


def spark(values: Sequence[Decimal]) -> Markup:
    """Return a small line of values without axes."""
    if not values:
        return Markup("")
    top = max(*values, Decimal(1)) if len(values) > 1 else max(values[0], Decimal(1))
    step = Decimal(96) / max(1, len(values) - 1)
    points = " ".join(f"{_px(2 + step * i)},{_px(22 - v / top * 18)}" for i, v in enumerate(values))
    head = Markup('<svg class="spark" viewBox="0 0 100 24" aria-hidden="true">')
    return head + Markup('<polyline points="{}"/></svg>').format(points)


def share(part: Decimal, whole: Decimal) -> Markup:
    """Return a horizontal bar for a part of a whole."""
    percent = part / whole * 100 if whole > 0 and part > 0 else _ZERO
    head = Markup(
        '<svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
    )
    rect = Markup('<rect class="bar" width="{}" height="6" rx="1"/></svg>')
    return head + rect.format(_px(min(percent, Decimal(100))))


def nice_top(value: Decimal) -> Decimal:
    """Return a round number at or above a value, for the top of an axis; at least 1."""
    if value <= 0:
        return Decimal(1)
    power = Decimal(10) ** value.adjusted()
    for factor in ("1", "2", "4", "5", "8", "10"):
        if power * Decimal(factor) >= value:
            return power * Decimal(factor)
    raise AssertionError(value)


def short(value: Decimal) -> str:
    """Return a number in few characters: 1200 is 1.2k."""
    for size, letter in _UNITS:
        if abs(value) >= size:
            return plain((value / size).quantize(Decimal("0.01"), context=EXACT)) + letter
    return plain(value.quantize(Decimal("0.001"), context=EXACT)) if value else "0"


def _px(value: Decimal | int) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
