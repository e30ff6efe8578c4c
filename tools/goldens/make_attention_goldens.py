#!/usr/bin/env python3
"""Writes tests/golden/attention.json: attention as PyTorch computes it in f64 on bf16 inputs.

usage: make_attention_goldens.py OUT.json

Inputs follow from their names: element i is splitmix64(fnv1a64(name) + i) >> 40 (named_values.py), scaled to [-1, 1), times a
factor, rounded to bf16. A mask hides the elements whose random bits are odd, but none on the diagonal. Every seventh output is
kept, in order.
"""
import json
import math
import sys

import torch

from named_values import random_bits, uniform

STRIDE = 7

# name: heads, kv heads, dim of q and k, dim of v, [[query rows, keys] of each sequence], causal
CASES = {
    "prefill": (4, 2, 64, 64, [[20, 20]], True),
    "segments": (8, 1, 128, 128, [[5, 130], [1, 257], [9, 9], [3, 300]], True),
    "decode": (4, 4, 64, 64, [[1, 1], [1, 128], [1, 129], [1, 200]], True),
    "not_causal": (6, 3, 64, 64, [[7, 40], [2, 150]], False),
    "wide": (2, 1, 256, 256, [[4, 131]], True),
    "latent": (2, 1, 192, 128, [[6, 70]], True),
}

# name: the same six, what queries see: a mask of every row and key, or none; keys before and after the diagonal, which begins
# in the first column or, "from the end", ends in the last; null: no limit.
SPARSE_CASES = {
    "left_up": ((4, 2, 64, 64, [[20, 20], [5, 130]], False), {"after": 0}),
    "band": ((4, 2, 64, 64, [[20, 20], [5, 130], [33, 260]], False), {"before": 6, "after": 2, "from_the_end": True}),
    "band_of_the_past": ((8, 2, 128, 128, [[6, 30], [4, 140]], False), {"before": 10, "after": -3, "from_the_end": True}),
    "masked": ((4, 1, 64, 64, [[7, 20], [3, 50]], False), {"mask": True}),
    "masked_band": ((6, 2, 64, 64, [[20, 40], [8, 50]], False), {"mask": True, "before": 5, "after": 3}),
    "masked_rows": ((4, 2, 64, 64, [[1, 20], [1, 150]], False), {"mask": True}),
}


def values(name, factor, *shape):
    flat = torch.from_numpy(uniform(name, math.prod(shape)) * factor)
    return flat.to(torch.float32).to(torch.bfloat16).to(torch.float64).reshape(shape)


def seen_keys(name, s, rows, keys, causal, sparse):
    """Of each row, as booleans; None: all of them."""
    if causal:
        return torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)
    if not sparse:
        return None
    shift = keys - rows if sparse.get("from_the_end") else 0
    seen = torch.ones(rows, keys, dtype=torch.bool)
    if "before" in sparse:
        seen = seen.triu(shift - sparse["before"])
    if "after" in sparse:
        seen = seen.tril(shift + sparse["after"])
    if sparse.get("mask"):
        even = torch.from_numpy(random_bits(f"{name}/mask{s}", rows * keys) % 2 == 0).reshape(rows, keys)
        seen &= even | torch.eye(rows, keys, dtype=torch.bool)
    return seen


def attention(name, case, sparse):
    heads, kv_heads, dim, dim_v, sequences, causal = case
    q = values(f"{name}/q", 3.0, sum(n for n, _ in sequences), heads, dim)
    out, lse, begin = [], [], 0
    for s, (rows, keys) in enumerate(sequences):
        k = values(f"{name}/k{s}", 1.0, keys, kv_heads, dim).repeat_interleave(heads // kv_heads, dim=1)
        v = values(f"{name}/v{s}", 1.0, keys, kv_heads, dim_v).repeat_interleave(heads // kv_heads, dim=1)
        mine = q[begin:begin + rows]
        mask = seen_keys(name, s, rows, keys, causal, sparse)
        args = [x.transpose(0, 1) for x in (mine, k, v)]
        out.append(torch.nn.functional.scaled_dot_product_attention(*args, attn_mask=mask).transpose(0, 1))
        scores = args[0] @ args[1].transpose(1, 2) / dim**0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        lse.append(torch.logsumexp(scores, dim=-1).transpose(0, 1))
        begin += rows
    return torch.cat(out), torch.cat(lse)


def kept(tensor):
    return [float(f"{x:.6g}") for x in tensor.flatten().tolist()[::STRIDE]]


def main():
    cases = {}
    for name, (case, sparse) in {**{name: (case, {}) for name, case in CASES.items()}, **SPARSE_CASES}.items():
        out, lse = attention(name, case, sparse)
        heads, kv_heads, dim, dim_v, sequences, causal = case
        cases[name] = {"heads": heads, "kv_heads": kv_heads, "dim": dim, "dim_v": dim_v, "sequences": sequences,
                       "causal": causal, **({"sparse": sparse} if sparse else {}), "out": kept(out), "lse": kept(lse)}
    made_by = f"make_attention_goldens.py with torch {torch.__version__.split('+')[0]}"
    body = {"made_by": made_by, "stride": STRIDE, "cases": cases}
    with open(sys.argv[1], "w") as file:
        file.write(json.dumps(body, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    main()
