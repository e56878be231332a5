#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every header compiles alone, and twice in a row, without a warning.

Usage: check_headers.py [PATTERN...] [-- COMPILER OPTION...]
PATTERNs choose headers by substring. The compiler is $CXX, else clang++-16, which is quickest here, else c++.
Headers named mpi* need mpicxx to say where its headers are; without it they are left out, aloud.

What most headers include is precompiled. A header is compiled after such a one only if it includes it
anyway, so nothing that it has not asked for is seen by its own text, which follows all its includes;
and what it includes is checked by itself.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CXX") or ("clang++-16" if shutil.which("clang++-16") else "c++")
# g++ means more by -Wshadow than clang does: also names of the enclosing namespaces.
SHADOW = "-Wshadow" if "clang" in COMPILER else "-Wshadow=local"
FLAGS = ["-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", SHADOW,
         "-Wno-unknown-pragmas", "-Werror", f"-I{ROOT / 'include'}"]
# The most first: a header takes the first that it includes.
PRECOMPILED = ["ashlar/ops/decompositions.hpp", "ashlar/ops/tile/elementwise.hpp",
               "ashlar/parallel/detail/transfer.hpp", "ashlar/ops/elementwise.hpp",
               "ashlar/chip/host/codegen/source.hpp", "ashlar/simd/detail/native.hpp",
               "ashlar/io/detail/json.hpp", "ashlar/dispatch/keys.hpp", "ashlar/comm/schedule.hpp",
               "ashlar/memory/detail/block.hpp", "ashlar/tile/scalar.hpp",
               "ashlar/kv/block_pool.hpp", "ashlar/chip/npu/instruction.hpp",
               "ashlar/core/error.hpp"]


def mpi_flags():
    if not shutil.which("mpicxx"):
        return None
    shown = subprocess.run(["mpicxx", "-showme:incdirs"], capture_output=True, text=True)
    return [f"-isystem{folder}" for folder in shown.stdout.split()] + ["-DOMPI_SKIP_MPICXX"]


def included_by(headers):
    """Of each header, by the name it is included by: all of ours that it includes, also indirectly."""
    direct = {}
    for header in headers:
        name = header.relative_to(ROOT / "include").as_posix()
        direct[name] = re.findall(r'^#include "(ashlar/.*)"', header.read_text(), re.MULTILINE)
    closed = {}
    for name in direct:
        closed[name] = set()
        waiting = list(direct[name])
        while waiting:
            one = waiting.pop()
            if one not in closed[name]:
                closed[name].add(one)
                waiting += direct.get(one, [])
    return closed


def precompile(options, name, folder):
    header = pathlib.Path(folder) / name.replace("/", "-")
    header.write_text(f'#include "{name}"\n')
    subprocess.run([COMPILER, *options, *FLAGS, "-x", "c++-header", str(header), "-o", f"{header}.gch"],
                   capture_output=True)  # where that fails, the text is read
    return str(header)


def compile_alone(options, header, ahead):
    start = time.monotonic()
    extra = mpi_flags() if header.name.startswith("mpi") else []
    if extra is None:
        return header, None, "no mpicxx", 0.0
    include = f'#include "{header.relative_to(ROOT / "include").as_posix()}"\n'
    done = subprocess.run([COMPILER, *options, *extra, *FLAGS, "-fsyntax-only", *ahead, "-x", "c++", "-"],
                          input=include + include, capture_output=True, text=True)
    return header, done.returncode == 0, done.stderr, time.monotonic() - start


def main():
    arguments, options = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, options = arguments[:at], arguments[at + 1:]
    headers = sorted((ROOT / "include").rglob("*.hpp"))
    includes = included_by(headers)
    headers = [header for header in headers
               if not arguments or any(pattern in header.as_posix() for pattern in arguments)]
    failed = skipped = 0
    slowest = []
    with (concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
          tempfile.TemporaryDirectory() as folder):
        made = {}
        if len(headers) > 20:  # else it takes longer
            made = dict(zip(PRECOMPILED, pool.map(
                lambda name: precompile(options, name, folder), PRECOMPILED)))

        def ahead(header):
            name = header.relative_to(ROOT / "include").as_posix()
            for one, file in made.items():
                if one in includes[name] and name not in includes[one] | {one}:
                    return ["-include", file]
            return []

        for header, good, text, seconds in pool.map(
                lambda header: compile_alone(options, header, ahead(header)), headers):
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
