#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every header compiles alone, and twice in a row, without a warning.

Usage: check_headers.py [PATTERN...] [-- COMPILER OPTION...]
PATTERNs choose headers by substring. The compiler is $CXX, else c++.
Headers named mpi* need mpicxx to say where its headers are; without it they are left out, aloud.
"""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# g++ means more by -Wshadow than clang does: also names of the enclosing namespaces.
SHADOW = "-Wshadow" if "clang" in os.environ.get("CXX", "c++") else "-Wshadow=local"
FLAGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", SHADOW,
         "-Wno-unknown-pragmas", "-Werror", f"-I{ROOT / 'include'}", "-x", "c++", "-"]


def mpi_flags():
    if not shutil.which("mpicxx"):
        return None
    shown = subprocess.run(["mpicxx", "-showme:incdirs"], capture_output=True, text=True)
    return [f"-isystem{folder}" for folder in shown.stdout.split()] + ["-DOMPI_SKIP_MPICXX"]


def compile_alone(compiler, options, header):
    start = time.monotonic()
    extra = mpi_flags() if header.name.startswith("mpi") else []
    if extra is None:
        return header, None, "no mpicxx", 0.0
    include = f'#include "{header.relative_to(ROOT / "include").as_posix()}"\n'
    done = subprocess.run([compiler, *options, *extra, *FLAGS], input=include + include,
                          capture_output=True, text=True)
    return header, done.returncode == 0, done.stderr, time.monotonic() - start


def main():
    arguments, options = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, options = arguments[:at], arguments[at + 1:]
    headers = [header for header in sorted((ROOT / "include").rglob("*.hpp"))
               if not arguments or any(pattern in header.as_posix() for pattern in arguments)]
    compiler = os.environ.get("CXX", "c++")
    failed = skipped = 0
    slowest = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for header, good, text, seconds in pool.map(
                lambda header: compile_alone(compiler, options, header), headers):
            name = header.relative_to(ROOT)
            slowest.append((seconds, name))
            if good is None:
                skipped += 1
                print(f"SKIPPED {name}: {text}", file=sys.stderr)
            elif not good:
                failed += 1
                print(f"{name} does not compile alone:\n{text}")
    for seconds, name in sorted(slowest, reverse=True)[:5]:
        print(f"{seconds:6.2f} s  {name}", file=sys.stderr)
    print(f"check_headers: {len(headers)} headers, {failed} failed, {skipped} skipped",
          file=sys.stderr)
    return 1 if failed or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
