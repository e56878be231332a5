#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every C++ block in README.md and docs/ must stand, line for line, in a file under examples/ or
tests/, where it is compiled and run; every relative link must lead somewhere. In the README, what a
program prints must stand in a `// prints: ` line of an example, whose test compares it, and every
figure of the table under "How fast" must stand in docs/benchmarks.md."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIGURE = re.compile(r"[0-9]+(?:[.,/][0-9]+)*")  # 20.7, 26,400 and 1/31 are one figure each


def squeezed(text):
    """Without what clang-format may change: indentation, blank lines, the columns of comments."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def main():
    sources = [squeezed(p.read_text()) for folder in ("examples", "tests")
               for p in sorted((ROOT / folder).rglob("*")) if p.suffix in (".cpp", ".hpp", ".txt")]
    wrong = blocks = links = 0
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text()
        for block in re.findall(r"```cpp\n(.*?)```", text, re.S):
            blocks += 1
            if not any(squeezed(block) in source for source in sources):
                wrong += 1
                print(f"{page.relative_to(ROOT)}: not in any example or test:\n{block}")
        prose = re.sub(r"```.*?```", "", text, flags=re.S)
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
            links += 1
            if not (page.parent / target).exists():
                wrong += 1
                print(f"{page.relative_to(ROOT)}: the link to {target} leads nowhere")
    readme = (ROOT / "README.md").read_text()
    for language, output in re.findall(r"^```(\w*)\n(.*?)\n```$", readme, re.S | re.M):
        if not language and not any(f"\n// prints: {output}\n" in p.read_text()
                                    for p in (ROOT / "examples").glob("*.cpp")):
            wrong += 1
            print(f"README.md: no example says that it prints:\n{output}")
    known = set(FIGURE.findall((ROOT / "docs/benchmarks.md").read_text()))
    table = re.search(r"^## How fast\n(.*?)^## ", readme, re.S | re.M)
    rows = [line for line in table[1].splitlines() if line.startswith("|")] if table else []
    figures = [figure for row in rows for figure in FIGURE.findall(row)]
    if len(figures) < 10:
        wrong += 1
        print("README.md: no table of figures under `## How fast`")
    for figure in figures:
        if figure not in known:
            wrong += 1
            print(f"README.md: the figure {figure} is not in docs/benchmarks.md")
    print(f"check_docs: {blocks} snippets, {links} links, {len(figures)} figures, {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
