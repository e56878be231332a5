#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Causal attention, forward, float32, one core: this library beside PyTorch 2's flash attention.

Usage: attention_pytorch.py ATTENTION_BENCH [--core N] [--rounds N]
`./run bench pytorch` builds the program and calls this. PyTorch is the one that python3 finds (name
another with PYTHON); without it there is no peer, which is said, and nothing is measured. Both run
pinned to the same core, in turns, and the medians over the rounds are compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SHAPES = ((1, 12, 1024, 64), (4, 8, 256, 32))  # B, H, T, Dh


def ours(program, shape):
    """Milliseconds of one call."""
    b, h, t, d = shape
    name = f"^attention/f32/B:{b}/H:{h}/T:{t}/Dh:{d}/impl:ashlar/real_time$"
    text = subprocess.run([program, f"--benchmark_filter={name}", "--benchmark_min_time=0.3",
                           "--benchmark_format=json"], check=True, capture_output=True).stdout
    found = json.loads(text)["benchmarks"]
    if len(found) != 1:
        raise SystemExit(f"attention_pytorch.py: {program} has no benchmark {name}")
    return found[0]["real_time"] * {"ns": 1e-6, "us": 1e-3, "ms": 1}[found[0]["time_unit"]]


def theirs(torch, shape):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    torch.manual_seed(1)
    q, k, v = (torch.rand(shape) * 2 - 1 for _ in range(3))
    with torch.no_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        def call():
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        call()
        calls, seconds = 0, 0.0
        while seconds < 0.3:
            start = time.perf_counter()
            call()
            seconds += time.perf_counter() - start
            calls += 1
    return 1e3 * seconds / calls


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    # Before PyTorch and its thread pool are there; the program inherits both.
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    try:
        import torch
    except ImportError as error:
        print(f"attention_pytorch.py: NOT MEASURED, no PyTorch ({error}); `pip install torch` and "
              "name its python3 in PYTHON", file=sys.stderr)
        return 0
    torch.set_num_threads(1)
    print(f"PyTorch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}), "
          f"median of {options.rounds} rounds in turns")
    print(f"{'B, H, T, Dh':20} {'ashlar ms':>10} {'PyTorch ms':>11} {'PyTorch / ashlar':>17}")
    for shape in SHAPES:
        times = [(ours(options.program, shape), theirs(torch, shape))
                 for _ in range(options.rounds)]
        own, peer = (statistics.median(column) for column in zip(*times))
        print(f"{', '.join(map(str, shape)):20} {own:10.2f} {peer:11.2f} {peer / own:17.2f}",
              flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
