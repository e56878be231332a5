#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the table of docs/benchmarks.md under "Graphs compiled at run time" as an SVG for the article.

Usage: plot_figures.py [--write]   Without --write it fails where the picture is not that of the table.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "articles" / "compile_backend.svg"
HEADING = "## Graphs compiled at run time"
COLOURS = {"calls": "#8c8c8c", "blocks": "#1f6f8b", "strips": "#99a8b2", "LibTorch's calls": "#d98032"}


def table():
    """The kinds of run, and of each row its name and milliseconds for each kind."""
    section = (ROOT / "docs" / "benchmarks.md").read_text().split(HEADING)[1]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    heads, *rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    kinds = [h for h in heads if h in COLOURS]
    named = []
    for row in rows[1:]:
        cells = dict(zip(heads, row))
        if not all(kind in cells for kind in kinds):
            break
        named.append((row[0], [float(re.match(r"[0-9.]+", cells[k]).group()) for k in kinds]))
    return kinds, named


def picture(kinds, rows):
    width, bar, gap, left = 640, 18, 30, 130
    out, y = [], 10
    for name, times in rows:
        out.append(f'<text x="0" y="{y + 13}" font-weight="bold">{name}</text>')
        y += 22
        for kind, ms in zip(kinds, times):
            length = max(1, round((width - left - 90) * ms / max(times)))
            out.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{kind}</text>'
                       f'<rect x="{left}" y="{y}" width="{length}" height="{bar - 4}" fill="{COLOURS[kind]}"/>'
                       f'<text x="{left + length + 6}" y="{y + 12}">{ms:g} ms</text>')
            y += bar
        y += gap - bar
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" '
            'font-family="sans-serif" font-size="12">\n' + "\n".join(out) + "\n</svg>\n")


def main():
    text = picture(*table())
    if "--write" in sys.argv:
        PICTURE.write_text(text)
    elif not PICTURE.exists() or PICTURE.read_text() != text:
        sys.exit(f"{PICTURE.relative_to(ROOT)} is not the table's picture; run examples/plot_figures.py --write")


main()
