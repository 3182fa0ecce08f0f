"""Draws a benchmark's table as bars: a Markdown table comes in, an SVG goes out.

    python -m tests.bench.shared_memory | python -m tests.bench.draw --unit MiB > memory.svg

The first column names the servers; a column is drawn if its values are plain numbers
(perhaps with a unit behind them), a column of ratios (×) is not.
"""

from __future__ import annotations

import argparse
import re
import sys
from html import escape

WIDTH, LABEL, BAR, GAP = 800, 250, 18, 16
COLOURS = ("#3b6ea8", "#b07d1e", "#3d8756")


def read(lines: list[str]) -> tuple[list[str], dict[str, list[float]]]:
    """The names of the drawn columns, and for each row its values."""
    rows = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in lines]
    head, *body = [row for row in rows if len(row) > 2 and not set(row[0]) <= {"-", " "}]
    drawn = [
        i
        for i, name in enumerate(head)
        if "×" not in name and all(re.fullmatch(r"[\d.]+( \w+)?", row[i]) for row in body)
    ]
    values = {row[0].strip("`"): [float(row[i].split()[0]) for i in drawn] for row in body}
    return [head[i] for i in drawn], values


def draw(columns: list[str], values: dict[str, list[float]], unit: str) -> str:
    longest = max(max(row) for row in values.values())
    group = BAR * len(columns) + GAP
    height = 50 + group * len(values)
    scale = (WIDTH - LABEL - 110) / longest
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" font-family="system-ui, sans-serif" font-size="13" '
        'fill="#1c2733">',
        f'<rect x="1" y="1" width="{WIDTH - 2}" height="{height - 2}" rx="10" fill="#f7f9fb" '
        'stroke="#c3ccd6"/>',
    ]
    for i, column in enumerate(columns):
        x = LABEL + i * 160
        parts.append(f'<rect x="{x}" y="15" width="12" height="12" fill="{COLOURS[i % 3]}"/>')
        parts.append(f'<text x="{x + 18}" y="26">{escape(column)}</text>')
    for row, (name, numbers) in enumerate(values.items()):
        top = 44 + row * group
        middle = top + BAR * len(columns) / 2 + 4
        weight = ' font-weight="600"' if name.startswith("forkserve") else ""
        parts.append(
            f'<text x="{LABEL - 12}" y="{middle}" text-anchor="end"{weight}>{escape(name)}</text>'
        )
        for i, number in enumerate(numbers):
            y, length = top + i * BAR, max(1.0, number * scale)
            parts.append(
                f'<rect x="{LABEL}" y="{y}" width="{length:.0f}" height="{BAR - 3}" rx="2" '
                f'fill="{COLOURS[i % 3]}"/>'
                f'<text x="{LABEL + length + 6:.0f}" y="{y + 12}">{number:g} {unit}</text>'
            )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--unit", default="")
    options = parser.parse_args()
    sys.stdout.write(draw(*read([x for x in sys.stdin if x.startswith("|")]), options.unit))


if __name__ == "__main__":
    main()
