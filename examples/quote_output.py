#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pages under docs/ that quote what examples print: checks that they quote it, or writes it anew.

Usage: quote_output.py FOLDER PAGE... [--write]   (FOLDER: where the programs `example_NAME` are)
A quote is a block after a line `<!-- NAME: PART -->`; PART is what the program prints between the
line `== PART` and the next one that begins so. A line `...` in a block stands for any lines.
"""
import pathlib
import re
import subprocess
import sys

QUOTE = re.compile(r"(<!-- (\w+): (.+?) -->\n```\w*\n)(.*?)(^```$)", re.S | re.M)


def parts_of(folder, name, known={}):
    """What a program prints, by part."""
    if name not in known:
        out = subprocess.run([folder / f"example_{name}"], capture_output=True, text=True)
        if out.returncode != 0:
            sys.exit(f"example_{name} failed: {out.stderr}")
        pieces = re.split(r"^== (.*)\n", out.stdout, flags=re.M)
        known[name] = dict(zip(pieces[1::2], pieces[2::2]))
    return known[name]


def quotes(block, real):
    """Whether every line stands in `real`, one below the other but where `...` stands."""
    lines, at, gap = real.splitlines(), 0, False
    for line in block.splitlines():
        if line.strip() == "...":
            gap = True
            continue
        while gap and at < len(lines) and lines[at] != line:
            at += 1
        if at == len(lines) or lines[at] != line:
            return False
        at, gap = at + 1, False
    return gap or at == len(lines)


def main():
    write = "--write" in sys.argv
    folder, *pages = [pathlib.Path(a) for a in sys.argv[1:] if a != "--write"]
    wrong = found = 0
    for page in pages:
        def check(match):
            nonlocal wrong, found
            head, name, part, block, end = match.groups()
            found += 1
            real = parts_of(folder, name).get(part)
            if real is not None and quotes(block, real):
                return match[0]
            if write and real is not None and not re.search(r"^\s*\.\.\.$", block, re.M):
                return head + real + end
            wrong += 1
            print(f"{page}: this is not what example_{name} prints as {part}:\n{block}")
            return match[0]
        text = page.read_text()
        now = QUOTE.sub(check, text)
        if now != text:
            page.write_text(now)
    print(f"quote_output: {found} quotes, {wrong} wrong")
    sys.exit(1 if wrong or not found else 0)


if __name__ == "__main__":
    main()
