"""The rate of a big matrix multiply (torch, which calls oneDNN), GFLOP/s in f32 and bf16: the best of several sizes, each a
median. Prints one JSON object.

    python peak_worker.py --threads 2
"""
import argparse
import json
import statistics
import time

import torch


def gflops(dtype, n, repeats=9):
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    a @ b
    times = []
    for _ in range(repeats):
        start = time.monotonic()
        a @ b
        times.append(time.monotonic() - start)
    return 2 * n ** 3 / statistics.median(times) / 1e9


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(p.parse_args().threads)
    print(json.dumps({name: max(gflops(dtype, n) for n in (1024, 2048, 3072))
                      for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16))}))


if __name__ == "__main__":
    main()
