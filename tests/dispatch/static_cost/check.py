#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares functions of an assembly listing in pairs: what a call costs beyond its kernel.

usage: check.py LISTING.s

A plain call must be the same instructions as the kernel called directly; a structured call must
call the same functions as meta + allocation + kernel by hand, in as many instructions. g++ builds
the result of nested calls in one more place and moves it: it may take four more.
"""
import collections
import re
import sys


def functions(path):
    """Instructions of each function, labels renamed in order of appearance."""
    found, name, labels = {}, None, {}
    for line in open(path):
        start = re.match(r"([\w.$]+):", line)
        if start and not line.startswith(".L"):
            name, labels = start.group(1), {}
            found[name] = []
        elif name and re.match(r"\s+\.(cfi_endproc|section|size)", line) and found[name]:
            name = None
        elif name and re.match(r"\s+[a-z]", line):
            text = re.sub(r"\s+", " ", line.split("#")[0].split("//")[0]).strip()
            text = re.sub(r"\.L\w+", lambda m: labels.setdefault(m[0], f"L{len(labels)}"), text)
            if text:
                found[name].append(text)
    return found


def calls(code):
    return collections.Counter(
        re.sub(r"^(call|jmp)q? ", "", i) for i in code if re.match(r"(call|jmp)q? [^L*]", i))


def main():
    code = functions(sys.argv[1])
    more = 0 if re.search(r'\.ident\s.*clang', open(sys.argv[1]).read()) else 4
    failed = False
    for pair in ("plain", "keyed"):
        called, direct = code[f"{pair}_called"], code[f"{pair}_direct"]
        same = called == direct and len(called) > 1
        failed |= not same
        print(f"{pair}: {len(called)} instructions, called directly {len(direct)}:",
              "the same" if same else "DIFFERENT\n  " + "\n  ".join(called + ["--"] + direct))
    (invoke,) = [name for name in code if "6invokeI5twice" in name and "cold" not in name]
    (by_hand,) = [name for name in code if "structured_by_hand" in name and "cold" not in name]
    called, direct = code[invoke], code[by_hand]
    same = calls(called) == calls(direct) and len(called) <= len(direct) + more
    same &= list(calls(code["structured_called"])) == [invoke]
    failed |= not same or not calls(called)
    print(f"structured: {len(called)} instructions, by hand {len(direct)};",
          "the same calls: " + ", ".join(calls(called)) if same
          else f"DIFFERENT: {dict(calls(called))}, by hand {dict(calls(direct))}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
