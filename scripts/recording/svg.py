"""Draws a recording of asciinema as an animated SVG, which a forge shows where it runs no player.

The frames lie below each other on a film that moves behind a window. Whoever asks for less motion sees the last one.
"""

import json
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

import pyte

_TICK = 0.1  # seconds: what happens within is one frame
_END = 5.0  # seconds of the last frame, before it all begins again
_WIDTH, _HEIGHT, _MARGIN, _TOP = 8.43, 18, 14, 34
_COLOURS = {"default": "#d7dae0", "green": "#8bd49c", "brightblack": "#8a919e"}
_STYLE = """
text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; }}
.film {{ animation: film {seconds:.1f}s steps(1, end) infinite; }}
@keyframes film {{ {moves} }}
@media (prefers-reduced-motion: reduce) {{ .film {{ animation: none; transform: translateY({last}px); }} }}
"""


class Frame(NamedTuple):
    """What the screen shows from a time on; a row is its colours and texts."""

    time: float
    rows: tuple[tuple[tuple[str, str], ...], ...]


def drawn(cast: str) -> str:
    """The SVG of a cast of version 2."""
    head, *lines = map(json.loads, cast.splitlines())
    frames = [*_frames(head["width"], head["height"], lines)]
    seconds = frames[-1].time + _END
    step = head["height"] * _HEIGHT
    moves = " ".join(
        f"{frame.time / seconds:.3%} {{ transform: translateY({-at * step}px); }}" for at, frame in enumerate(frames)
    )
    width, height = head["width"] * _WIDTH + 2 * _MARGIN, step + _TOP + _MARGIN
    ids = {row: f"r{at}" for at, row in enumerate(dict.fromkeys(row for frame in frames for row in frame.rows if row))}
    uses = (
        f'<use href="#{ids[row]}" y="{(at * head["height"] + line) * _HEIGHT}"/>'
        for at, frame in enumerate(frames)
        for line, row in enumerate(frame.rows)
        if row
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">',
            f"<title>{escape(head['title'])}</title>",
            f"<style>{_STYLE.format(seconds=seconds, moves=moves, last=-(len(frames) - 1) * step)}</style>",
            f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#16191f"/>',
            *(f'<circle cx="{18 + 18 * at}" cy="17" r="5" fill="#3b414d"/>' for at in range(3)),
            f"<defs>{''.join(_row(name, row) for row, name in ids.items())}</defs>",
            f'<svg x="{_MARGIN}" y="{_TOP}" width="{width - 2 * _MARGIN:.0f}" height="{step}">',
            f'<g class="film">{"".join(uses)}</g>',
            "</svg>\n</svg>\n",
        ]
    )


def _frames(width: int, height: int, lines: list[list[object]]) -> Iterator[Frame]:
    screen = pyte.Screen(width, height)
    stream = pyte.Stream(screen)
    shown, due = Frame(0, ()), 0.0
    for at, (time, kind, text) in enumerate(lines):
        if kind == "o":
            stream.feed(str(text))
        following = float(str(lines[at + 1][0])) if at + 1 < len(lines) else float("inf")
        if following < due + _TICK:
            continue
        frame = Frame(float(str(time)), tuple(_cells(screen, line) for line in range(height)))
        due = following
        if frame.rows != shown.rows:
            yield frame if shown.rows else frame._replace(time=0)
            shown = frame


def _cells(screen: pyte.Screen, line: int) -> tuple[tuple[str, str], ...]:
    """The row as texts of one colour each, without the blanks at its end."""
    row, parts = screen.buffer[line], list[tuple[str, str]]()
    for column in range(screen.columns):
        colour, text = row[column].fg, row[column].data
        if parts and parts[-1][0] == colour:
            parts[-1] = colour, parts[-1][1] + text
        else:
            parts.append((colour, text))
    while parts and not parts[-1][1].strip():
        parts.pop()
    if parts:
        parts[-1] = parts[-1][0], parts[-1][1].rstrip()
    return tuple(parts)


def _row(name: str, row: tuple[tuple[str, str], ...]) -> str:
    spans = (f'<tspan fill="{_COLOURS[colour]}">{escape(text)}</tspan>' for colour, text in row)
    return f'<text id="{name}" y="14">{"".join(spans)}</text>'
