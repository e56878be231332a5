#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the pictures of docs/articles/ as SVG, out of tables of docs/benchmarks.md and of what the
articles quote (`quote_output.py` checks the quotes against the programs).

Usage: plot_figures.py [--write]   Without --write it fails where a picture is not that of its table.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
ARTICLES = ROOT / "docs" / "articles"
GREY, BLUE, PALE, ORANGE = "#8c8c8c", "#1f6f8b", "#99a8b2", "#d98032"


def measured(heading, kinds):
    """Of each row of a table under `heading` that has the columns `kinds`: its name and numbers."""
    section = (ROOT / "docs" / "benchmarks.md").read_text().split(heading)[1].split("\n## ")[0]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in section.splitlines()
             if line.startswith("|")]
    at = next(i for i, heads in enumerate(cells) if all(kind in heads for kind in kinds))
    rows = []
    for row in cells[at + 2:]:
        named = dict(zip(cells[at], row))
        if len(row) != len(cells[at]) or not all(re.match("[0-9]", named[k]) for k in kinds):
            break
        rows.append((row[0], [float(re.match(r"[0-9.,]+", named[k])[0].replace(",", ""))
                              for k in kinds]))
    return rows


def quoted(article, part):
    """The lines of a quote in an article."""
    text = (ARTICLES / article).read_text()
    return re.search(rf"<!-- \w+: {part} -->\n```\n(.*?)```", text, re.S)[1].splitlines()


def svg(width, height, shapes):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" font-family="sans-serif" font-size="12">\n' + "\n".join(shapes) +
            "\n</svg>\n")


def bars(kinds, rows, unit, left=130, common=False):
    """Groups of bars; `kinds`: names and colours. The longest of a group, or of all, fills the width."""
    width, bar, gap = 640, 18, 30
    out, y = [], 10
    for name, values in rows:
        out.append(f'<text x="0" y="{y + 13}" font-weight="bold">{name}</text>')
        y += 22
        most = max(max(v) for _, v in rows) if common else max(values)
        for (kind, colour), value in zip(kinds.items(), values):
            length = max(1, round((width - left - 90) * value / most))
            out.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{kind}</text>'
                       f'<rect x="{left}" y="{y}" width="{length}" height="{bar - 4}" '
                       f'fill="{colour}"/>'
                       f'<text x="{left + length + 6}" y="{y + 12}">{value:g} {unit}</text>')
            y += bar
        y += gap - bar
    return svg(width, y, out)


def places(parts):
    """Who is in each place of a batch, step by step: `parts` are titles and lines of letters."""
    longest = max(len(line) for _, lines in parts for line in lines)
    cell, row, left = 640 // (longest + 1), 24, 4
    out, y = [], 0
    for title, lines in parts:
        idle = sum(line.count(".") for line in lines) / sum(map(len, lines))
        out.append(f'<text x="{left}" y="{y + 14}" font-weight="bold">{title}: {len(lines[0])} '
                   f'steps, {100 * idle:.0f} % of the places idle</text>')
        y += 22
        for line in lines:
            for run in re.finditer(r"\.+|([A-Z]+)|[a-z]+", line):
                letter = run[0][0]
                colour = "#eeeeee" if letter == "." else ORANGE if run[1] else BLUE
                x, length = left + cell * run.start(), cell * len(run[0])
                out.append(f'<rect x="{x}" y="{y}" width="{length - 1}" height="{row - 3}" '
                           f'fill="{colour}"/>')
                if letter.islower():
                    out.append(f'<text x="{x + length / 2:g}" y="{y + 15}" fill="white" '
                               f'text-anchor="middle">{letter.upper()}</text>')
            y += row
        y += 12
    out.append(f'<rect x="{left}" y="{y}" width="12" height="12" fill="{ORANGE}"/>'
               f'<text x="{left + 18}" y="{y + 11}">prompt</text>'
               f'<rect x="{left + 80}" y="{y}" width="12" height="12" fill="{BLUE}"/>'
               f'<text x="{left + 98}" y="{y + 11}">a token per step</text>'
               f'<rect x="{left + 220}" y="{y}" width="12" height="12" fill="#eeeeee"/>'
               f'<text x="{left + 238}" y="{y + 11}">nobody: the bubble</text>')
    return svg(640, y + 20, out)


def compile_backend():
    kinds = {"calls": GREY, "blocks": BLUE, "strips": PALE, "LibTorch's calls": ORANGE}
    return bars(kinds, measured("## Graphs compiled at run time", kinds), "ms")


BATCHING = "continuous_batching.md"


def bubble():
    return places([("Static batches", quoted(BATCHING, "static")),
                   ("Continuous batching", quoted(BATCHING, "continuous"))])


def tokens_per_step():
    rows = []
    for line in quoted(BATCHING, "distributions")[2:]:
        name, numbers = re.match(r"(.*?)\s{2,}(.*)", line).groups()
        rows.append((name, [float(n) for n in numbers.split()[2:4]]))
    return bars({"continuous": BLUE, "static": GREY}, rows, "a step", common=True)


def memory():
    groups = {}
    for line in quoted(BATCHING, "memory")[1:]:
        blocks, _, rest = re.match(r"(\d+)\s+(\D+?)\s+(\d.*)", line).groups()
        groups.setdefault(f"{blocks} blocks", []).append(float(rest.split()[1]))
    kinds = {"computes again": BLUE, "is swapped out": ORANGE, "nobody": GREY}
    return bars(kinds, list(groups.items()), "a step", common=True)


def tokens_per_second():
    kinds = {"continuous": BLUE, "static, rows left out": PALE, "static, padded": GREY}
    return bars(kinds, measured("## Batches, blocks and chunks", kinds), "tokens/s")


PICTURES = {"compile_backend.svg": compile_backend,
            "continuous_batching_bubble.svg": bubble,
            "continuous_batching_steps.svg": tokens_per_step,
            "continuous_batching_memory.svg": memory,
            "continuous_batching_seconds.svg": tokens_per_second}


def main():
    wrong = 0
    for name, draw in PICTURES.items():
        text, path = draw(), ARTICLES / name
        if "--write" in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            wrong += 1
            print(f"{path.relative_to(ROOT)} is not the table's picture; "
                  "run examples/plot_figures.py --write")
    sys.exit(1 if wrong else 0)


main()
