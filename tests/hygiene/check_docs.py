#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every C++ block in README.md and docs/ must stand, line for line, in a file under examples/ or
tests/, where it is compiled and run; every relative link must lead somewhere."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


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
    print(f"check_docs: {blocks} snippets, {links} links, {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
