"""One chart as SVG: lines over two axes, each named at its end and told by more than colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import log10

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 72, 172, 52, 56
_STYLES = (
    ("#0b5394", ""),
    ("#b45f06", "8 4"),
    ("#38761d", "2 4"),
    ("#741b47", "12 4 2 4"),
    ("#444444", "5 2"),
)
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_LINE_HEIGHT = 17  # between names at the right

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """What is shown along one side: its name, ends and ticks, and whether it is logarithmic."""

    name: str
    low: float
    high: float
    ticks: Sequence[float]
    text: Callable[[float], str]
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value stands, from 0 to 1."""
        if self.log:
            value = max(value, self.low)
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Line:
    """A named line; `steps` for shares that jump at each point, `dots` for what was measured."""

    name: str
    points: Sequence[Point]
    steps: bool = False
    dots: bool = True


def chart(title: str, description: str, across: Axis, up: Axis, lines: Sequence[Line]) -> str:
    """The drawing."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-labelledby="title description" font-family="{_FONT}" font-size="13">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="16" fill="#16202b">{escape(title)}</text>',
    ]
    parts += _axes(across, up)
    named: list[tuple[float, str, str]] = []
    for number, line in enumerate(lines):
        colour, dashes = _STYLES[number % len(_STYLES)]
        points = [_at(across, up, point) for point in line.points]
        if not points:
            continue
        path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
        for x, y in points[1:]:
            path += f"H{x:.1f}V{y:.1f}" if line.steps else f"L{x:.1f} {y:.1f}"
        parts.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"'
            f' stroke-dasharray="{dashes}"/>'
        )
        if line.dots:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points
            ]
        named.append((points[-1][1], line.name, colour))
    parts += _names(named)
    return "\n".join([*parts, "</svg>", ""])


def _at(across: Axis, up: Axis, point: Point) -> Point:
    x = LEFT + across.place(point[0]) * (WIDTH - LEFT - RIGHT)
    return x, HEIGHT - BOTTOM - up.place(point[1]) * (HEIGHT - TOP - BOTTOM)


def _axes(across: Axis, up: Axis) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in up.ticks:
        y = _at(across, up, (across.low, tick))[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#dde3e8"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#445">'
            f"{escape(up.text(tick))}</text>"
        )
    for tick in across.ticks:
        x = _at(across, up, (tick, up.low))[0]
        parts.append(f'<path d="M{x:.1f} {bottom}v5" stroke="#778"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle" fill="#445">'
            f"{escape(across.text(tick))}</text>"
        )
    parts.append(f'<path d="M{LEFT} {bottom}H{right}" stroke="#778"/>')
    middle = (LEFT + right) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle" fill="#16202b">'
        f"{escape(across.name)}</text>"
    )
    parts.append(f'<text x="12" y="{TOP - 10}" fill="#16202b">{escape(up.name)}</text>')
    return parts


def _names(named: list[tuple[float, str, str]]) -> list[str]:
    """The lines' names beside their ends, moved apart where they would overlap."""
    parts, before = [], TOP - _LINE_HEIGHT
    named = sorted(named)
    room = HEIGHT - BOTTOM - _LINE_HEIGHT * (len(named) - 1)
    for number, (y, name, colour) in enumerate(named):
        at = min(max(y + 4, before + _LINE_HEIGHT), room + _LINE_HEIGHT * number)
        before = at
        parts.append(
            f'<text x="{WIDTH - RIGHT + 10}" y="{at:.1f}" fill="{colour}">{escape(name)}</text>'
        )
    return parts
