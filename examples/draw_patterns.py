#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/articles/communication_patterns.md: what example_23_communication_patterns leaves
in a folder, and its sweeps as curves.

Usage: draw_patterns.py FOLDER [--write]   (FOLDER: where the program is)
Without --write it fails where a picture is not what the program makes now. Runs on threads differ from one
to the next: of their pictures it only asks that they are there.
"""
import math
import pathlib
import re
import subprocess
import sys
import tempfile

PAGES = pathlib.Path(__file__).resolve().parents[1] / "docs" / "articles"
PROGRAM = "example_23_communication_patterns"
COLOURS = {"FSDP": "#1f6f8b", "no prefetch": "#99a8b2", "Megatron": "#d98032"}


def tables(printed):
    """By title of a sweep and what is swept: [(value, [ms of each way])]."""
    found = {}
    for title, body in re.findall(r"^== sweep of (.*)\n.*\n((?:(?:latency|bandwidth).*\n)+)", printed, re.M):
        for line in body.splitlines():
            what, unit, numbers = re.match(r"(\w+)\s+\[(.+?)\](.*)", line).groups()
            value, *times = map(float, numbers.split())
            found.setdefault((title, f"{what} [{unit}]"), []).append((value, times))
    return found


def curves(found):
    wide, high, left, top, gap = 300, 170, 50, 30, 60
    out = []
    for number, ((title, axis), rows) in enumerate(found.items()):
        x0, y0 = left + number % 2 * (wide + gap), top + number // 2 * (high + gap)
        xs = [math.log10(v) for v, _ in rows]
        ys = [math.log10(t) for _, times in rows for t in times]
        low, most = math.floor(min(ys)), math.ceil(max(ys))
        at_x = lambda v: x0 + (v - min(xs)) / (max(xs) - min(xs)) * wide
        at_y = lambda v: y0 + high - (v - low) / (most - low) * high
        out.append(f'<rect x="{x0}" y="{y0}" width="{wide}" height="{high}" fill="none" stroke="#bbb"/>'
                   f'<text x="{x0}" y="{y0 - 8}" font-weight="bold">{title}: ms over {axis}</text>')
        for v, _ in rows:
            out.append(f'<text x="{at_x(math.log10(v)):.1f}" y="{y0 + high + 15}" text-anchor="middle">{v:g}</text>')
        for decade in range(low, most + 1):
            out.append(f'<text x="{x0 - 6}" y="{at_y(decade) + 4:.1f}" text-anchor="end">{10.0 ** decade:g}</text>')
        for way, (name, colour) in enumerate(COLOURS.items()):
            points = " ".join(f"{at_x(math.log10(v)):.1f},{at_y(math.log10(t[way])):.1f}" for v, t in rows)
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for way, (name, colour) in enumerate(COLOURS.items()):
        out.append(f'<text x="{left + way * 110}" y="{top + 2 * (high + gap)}" fill="{colour}">{name}</text>')
    size = f'width="{left + 2 * wide + gap + 20}" height="{top + 2 * (high + gap) + 10}"'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">\n'
            + "\n".join(out) + "\n</svg>\n")


def main():
    write = "--write" in sys.argv
    program = pathlib.Path(sys.argv[1]) / PROGRAM
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run([program, folder], capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"{PROGRAM} failed: {run.stdout}{run.stderr}")
        pictures = {p.name: p.read_text() for p in sorted(pathlib.Path(folder).glob("*.svg"))}
    pictures["patterns_sweep.svg"] = curves(tables(run.stdout))
    print(run.stderr, end="")
    wrong = 0
    for name, text in pictures.items():
        page = PAGES / name
        if write:
            page.write_text(text)
        elif not page.exists() or ("_threads_" not in name and page.read_text() != text):
            print(f"docs/articles/{name} is not what {PROGRAM} draws; run examples/draw_patterns.py FOLDER --write")
            wrong += 1
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
