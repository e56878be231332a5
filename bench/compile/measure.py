#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the library costs a compiler: seconds and peak memory per entry header and per sample unit.

Usage: measure.py [--check] [--factor F] [--json FILE] [--runs N] [NAME...]
  NAME     only entries whose path contains one of these
  --check  exit 1 when something is over its budget
  --factor with --check: exit 1 only where F times the budget is passed, for machines that are slow
           or shared; what is over the budget itself is noted
Each figure is the median of N runs (3) of user + system time. The front end of a header is timed with
-fsyntax-only; what it needs from outside (the standard headers, xsimd, Hana, JSON: everything that our
headers include and that is not ours) is timed by itself, and the difference is the header's own.
bench/compile/*.cpp are compiled with -O2, as a user's file would be; of kernel_*.cpp the cost of its
headers, which are all its lines with #include, is taken off. The compiler is $CXX, else g++.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "include"
CXX = shlex.split(os.environ.get("CXX", "g++"))
FLAGS = ["-std=c++20", f"-I{INCLUDE}", "-ffp-contract=off", "-fopenmp"]

UMBRELLA_SECONDS = 3.0  # everything: ours and what it needs from outside
ROOM_SECONDS = 1.5      # a room's entry header over what it needs from outside
UNIT_SECONDS = 10.0     # one user's file, -O2
KERNEL_SECONDS = {      # one tile kernel as native code, -O2, over its headers
    "matmul": 3.0, "softmax": 2.5, "layer_norm": 3.0, "attention": 7.0}


def run(command, text):
    """Compiles `text`; returns (seconds, mebibytes)."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "unit.cpp"
        source.write_text(text)
        child = subprocess.Popen([*CXX, *command, str(source)], cwd=folder,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        message = child.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(message.strip().splitlines()[0] if message.strip() else "failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def median(runs, command, text):
    figures = [run(command, text) for _ in range(runs)]
    return tuple(statistics.median(column) for column in zip(*figures))


def outside_includes(header):
    """What the header and those of ours below it include that is not ours, in order."""
    deps = subprocess.run([*CXX, *FLAGS, "-M", "-x", "c++", str(header)], capture_output=True,
                          text=True).stdout.replace("\\\n", " ").split()[1:]
    ours = [pathlib.Path(path) for path in deps if path.startswith(f"{INCLUDE}/")]
    found = []
    for path in reversed(ours):
        for name in re.findall(r"^\s*#\s*include\s*[<\"]([^>\"]+)[>\"]", path.read_text(), re.M):
            # A conditional include counts only where the compiler took it.
            taken = any(dep.endswith(f"/{name}") for dep in deps)
            if not name.startswith("ashlar/") and taken and name not in found:
                found.append(name)
    return found


def measure_header(header, runs):
    name = header.relative_to(INCLUDE).as_posix()
    command = [*FLAGS, "-fsyntax-only"]
    seconds, memory = median(runs, command, f"#include <{name}>\n")
    around = "".join(f"#include <{other}>\n" for other in outside_includes(header))
    outside, _ = median(runs, command, around)
    umbrella = name == "ashlar/ashlar.hpp"
    own = max(0.0, seconds - outside)
    return {"name": name, "seconds": seconds, "outside": outside, "own": own, "mib": memory,
            "counts": seconds if umbrella else own,
            "budget": UMBRELLA_SECONDS if umbrella else ROOM_SECONDS}


def measure_unit(path, runs):
    # A copy would lose its neighbours, so the unit is included by its path.
    command = [*FLAGS, "-O2", "-c", "-o", os.devnull]
    seconds, memory = median(runs, command, f'#include "{path}"\n')
    outside, own = None, None
    if path.name.startswith("kernel_"):
        includes = [line for line in path.read_text().splitlines() if line.startswith("#include")]
        outside, _ = median(runs, command, "\n".join(includes) + "\n")
        own = max(0.0, seconds - outside)
    return {"name": path.relative_to(ROOT).as_posix(), "seconds": seconds, "outside": outside,
            "own": own, "mib": memory, "counts": seconds if own is None else own,
            "budget": UNIT_SECONDS if own is None else KERNEL_SECONDS[path.stem[len("kernel_"):]]}


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--json")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()

    def wanted(path):
        return not options.names or any(name in path.as_posix() for name in options.names)

    entries = sorted(INCLUDE.glob("ashlar/*.hpp"))
    entries = [path for path in entries
               if path.stem in ("ashlar", "stack") or (path.parent / path.stem).is_dir()]
    work = [(measure_header, path) for path in entries if wanted(path)]
    work += [(measure_unit, path) for path in sorted((ROOT / "bench/compile").glob("*.cpp"))
             if wanted(path)]

    version = subprocess.run([*CXX, "--version"], capture_output=True, text=True).stdout
    print(f"{version.splitlines()[0]}; {processor()}; median of {options.runs}, user + system")
    print(f"{'':32} {'total s':>8} {'outside':>8} {'own':>8} {'peak MiB':>9} {'budget':>8}")
    results, broken, over, far_over = [], [], [], []
    for function, path in work:
        try:
            result = function(path, options.runs)
        except RuntimeError as error:
            broken.append(path)
            print(f"{path.relative_to(ROOT)}: does not compile: {error}", file=sys.stderr)
            continue
        results.append(result)
        late = result["counts"] > result["budget"]
        if late:
            over.append(result["name"])
        if result["counts"] > options.factor * result["budget"]:
            far_over.append(result["name"])
        outside, own = (f"{result[key]:8.2f}" if result[key] is not None else f"{'':8}"
                        for key in ("outside", "own"))
        print(f"{result['name']:32} {result['seconds']:8.2f} {outside} {own} {result['mib']:9.0f} "
              f"{result['budget']:8.1f}{'  OVER BUDGET' if late else ''}", flush=True)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(
            {"compiler": version.splitlines()[0], "processor": processor(), "results": results},
            indent=2) + "\n")
    if over:
        print(f"note: over budget: {', '.join(over)}", flush=True)
    if far_over and options.check:
        print(f"error: over {options.factor:g} times the budget: {', '.join(far_over)}")
    return 1 if broken or (far_over and options.check) else 0


if __name__ == "__main__":
    sys.exit(main())
