#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what no compiler checks: which room includes which, and the habits of the house.

Usage: check_sources.py [--rooms]   (--rooms prints what each room may include)
Prints one line per violation, `path:line: what; what to do`, and exits 1 when there is one.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Which way the arrows point. A room may include what its arrows reach, directly or through others.
ARROWS = {
    "core": [],
    "simd": ["core"],
    "trace": ["core"],
    "plan": ["core"],
    "memory": ["core", "plan"],
    "tile": ["core", "plan"],
    "chip": ["tile", "memory", "simd"],
    "dispatch": ["core", "chip"],
    "ops": ["dispatch", "tile"],
    "autograd": ["dispatch"],
    "graph": ["ops", "autograd", "memory"],
    "nn": ["ops", "autograd"],
    "io": ["core"],
    "kv": ["core"],
    "serve": ["kv"],
    "models": ["nn", "io", "kv", "graph"],
    "comm": ["core", "plan"],
    "parallel": ["comm", "autograd", "nn", "chip", "io"],
    "conformance": ["ops", "autograd"],
}
EVERYWHERE = {"version", "config", "fwd"}  # headers at the top that any room may include
COMPOSITION = {"stack", "ashlar"}          # headers at the top that may include any room
NOT_IN_UMBRELLA = {"io"}                   # `ashlar.hpp` is everything but these
# Nor in what they include.
WITHOUT_TENSORS = ["examples/16_scheduler_only.cpp", "examples/20_continuous_batching.cpp"]
ANY_ROOM_MAY_USE = {"trace"}               # except the rooms below it, which would make a circle

SPDX = "SPDX-License-Identifier: Apache-2.0"
MAX_LINES = 800
MAX_TOY_LINES = 300  # a chip from outside the library, as docs/new_chip.md tells it
ROOT_FOLDERS = {"include", "examples", "tests", "bench", "docs", ".ci"}

violations = []


def complain(path, line, text):
    violations.append(f"{path.relative_to(ROOT)}:{line}: {text}")


def reach(room):
    """Every room that `room` may include, itself first."""
    found, ahead = [], [room]
    while ahead:
        here = ahead.pop(0)
        if here not in found:
            found.append(here)
            ahead += ARROWS[here]
    below = set()
    for used in ANY_ROOM_MAY_USE:
        below |= {used} | set(ARROWS[used])
    if room not in below:
        found += [used for used in sorted(ANY_ROOM_MAY_USE) if used not in found]
    return found


def room_of(header):
    """The room of `ashlar/kv/block_pool.hpp` or `ashlar/kv.hpp`; a top header is its own name."""
    parts = pathlib.PurePosixPath(header).parts
    return parts[1].removesuffix(".hpp") if len(parts) > 1 else ""


def without_comments(text):
    """The code with comments and string literals blanked out, line for line."""
    def blank(match):
        token = match.group(0)
        if token.startswith('"') or token.startswith("R"):
            return '"' + "\n" * token.count("\n") + '"'
        return re.sub(r"[^\n]", "", token)
    pattern = r'R"([^()\\ ]{0,16})\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/'
    return re.sub(pattern, blank, text, flags=re.S)


def check_include(path, number, spelled, header, room):
    inside = path.is_relative_to(ROOT / "include")
    if ".." in header.split("/"):
        complain(path, number, f"relative include {spelled}; write the path from include/")
        return
    if header.startswith("xsimd/") and not (room == "simd" or path.is_relative_to(ROOT / "bench")):
        complain(path, number, f"{spelled} outside the room simd; use ashlar/simd.hpp")
    if header == "boost/hana.hpp":
        complain(path, number, "the whole of Hana costs 0.3 s; include the parts you use")
    if inside and spelled.startswith('"') and not header.startswith("ashlar/"):
        complain(path, number, f"relative include {spelled}; write \"ashlar/...\"")
        return
    if not header.startswith("ashlar/"):
        return
    if not (ROOT / "include" / header).is_file():
        complain(path, number, f"{spelled} does not exist")
    if not inside:
        return
    target = room_of(header)
    if room in COMPOSITION or target in EVERYWHERE:
        if room == "ashlar" and target in NOT_IN_UMBRELLA:
            complain(path, number, f"ashlar.hpp must not include {spelled}")
        return
    if target in COMPOSITION:
        complain(path, number, f"a room must not include the composition {spelled}")
    elif room in EVERYWHERE:
        complain(path, number, f"a header that any room may include must not include {spelled}")
    elif target not in ARROWS:
        complain(path, number, f"{spelled} is in no room of the design")
    elif target not in reach(room):
        complain(path, number, f"against the arrows: {room} -> {target} ({spelled}); "
                               f"{room} may include {', '.join(reach(room))}")


def check_cxx(path, text):
    lines = text.splitlines()
    inside = path.is_relative_to(ROOT / "include")
    relative = path.relative_to(ROOT)
    room = ""
    if inside:
        room = room_of(relative.relative_to("include").as_posix())
        if room not in ARROWS and room not in EVERYWHERE | COMPOSITION:
            complain(path, 1, f"`{room}` is no room of the design")
            return
    elif relative.parts[0] == "tests" and len(relative.parts) > 2:
        room = relative.parts[1]
    if path.suffix == ".hpp" and "#pragma once" not in lines[:4]:
        complain(path, 1, "no `#pragma once` after the licence line")
    if len(lines) > MAX_LINES:
        complain(path, MAX_LINES, f"{len(lines)} lines, the limit is {MAX_LINES}; split it")

    # Strings vanish from `code`, so includes are read from the text and only confirmed by the code.
    code = without_comments(text).splitlines()
    for number, line in enumerate(lines, 1):
        if number > len(code) or not code[number - 1].lstrip().startswith("#"):
            continue
        match = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
        if match:
            spelled = line[match.start(1):match.end()].strip()
            check_include(path, number, spelled, match.group(2), room)
    for number, line in enumerate(code, 1):
        if inside and re.match(r"using namespace\b", line):
            complain(path, number, "`using namespace` in a header")
        if inside and re.search(r"#\s*define\s+(?!ASHLAR_)\w", line):
            complain(path, number, "a macro that does not begin with ASHLAR_")
    if path.name.endswith("_test.cpp") and relative.parts[0] == "tests":
        for match in re.finditer(r'TEST_CASE(?:_TEMPLATE)?\(\s*"([^"]*)"', text):
            if not re.match(r"[a-z_]+/[\w/]+: \S", match.group(1)):
                number = text.count("\n", 0, match.start()) + 1
                complain(path, number, f'test name "{match.group(1)}"; write "room/header: sentence"')


def check_file(path):
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    licensed = any(SPDX in line for line in lines[:2])
    if path.suffix == ".cpp" and lines and lines[0].startswith("// EXPECT-ERROR:"):
        licensed = any(SPDX in line for line in lines[:3])
    if not licensed:
        complain(path, 1, f"no licence line `{SPDX}`")
    for number, line in enumerate(lines, 1):
        # Split, so that this file does not complain about itself.
        if re.search(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b", line):
            complain(path, number, "a mark for later; do it now or file an issue")
        if re.search(r"(?<![\w.}])/(work|root|home)/\w", line):
            complain(path, number, "a path of one machine")
    if path.suffix in (".hpp", ".cpp"):
        check_cxx(path, text)


def check_without_tensors(start):
    """`start` reaches neither a tensor's header nor a room that stands on tensors."""
    found, ahead = set(), [ROOT / start]
    while ahead:
        path = ahead.pop()
        for header in re.findall(r'^\s*#\s*include\s*["<](ashlar/[^">]+)[">]',
                                 path.read_text(encoding="utf-8"), re.M):
            if header in found:
                continue
            found.add(header)
            ahead.append(ROOT / "include" / header)
            if "tensor" in header or room_of(header) not in {"core", "kv", "serve"}:
                complain(ROOT / start, 1, f"includes {header} by way of {path.relative_to(ROOT)}; "
                                          "it is to show that no tensor is needed")


def main():
    if "--rooms" in sys.argv[1:]:
        for room in ARROWS:
            print(f"{room:12} {' '.join(reach(room)[1:])}")
        return 0
    for entry in ROOT.iterdir():
        if entry.is_dir() and entry.name not in ROOT_FOLDERS | {".git", "build", ".cache"}:
            complain(entry, 1, "no root folder of this repository")
    count = 0
    for folder in sorted(ROOT_FOLDERS):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".hpp", ".cpp", ".py", ".sh", ".cmake") or path.name == "CMakeLists.txt":
                count += 1
                check_file(path)
    for start in WITHOUT_TENSORS:
        check_without_tensors(start)
    toy = [ROOT / "examples" / name for name in ("04_toy_chip.cpp", "toy_chip.hpp")]
    if sum(len(path.read_text(encoding="utf-8").splitlines()) for path in toy) > MAX_TOY_LINES:
        complain(toy[1], 1, f"with its example more than {MAX_TOY_LINES} lines; a chip must stay small")
    for line in violations:
        print(line)
    print(f"check_sources: {count} files, {len(violations)} violations", file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
