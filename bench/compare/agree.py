"""Do the engines compute the same thing? Log-probabilities of every token of one prompt against transformers in f32.

A random model's log-probabilities spread by a few nats from token to token. A wrong rope, norm, router or mask leaves no
relation to the oracle: a root-mean-square difference of about 1.4 spreads. The bounds are shares of the spread: f32 differs
by the order of sums; 16-bit and 8-bit engines round activations, and rows whose 8th and 9th expert are nearly equal
take another expert.
"""
import math
import statistics

from engines import Variant, score
from prompts import prompts

LENGTH = 700  # more than one ubatch, several pages
ORACLE = Variant("transformers", "float32", "eager")
BOUNDS = {"float32": 0.01, "f32": 0.01, "bfloat16": 0.15, "bf16": 0.15, "f16": 0.15, "q8_0": 0.25, "int8": 0.25}


def agreement(setup, variants, vocab, say):
    """Rows for the report; stops at the first engine that is out of its bound."""
    ids = prompts(LENGTH, 1, vocab, seed=1)[0]
    oracle = score(setup, ORACLE, ids)
    spread = statistics.pstdev(oracle["logprobs"])
    rows = []
    for variant in variants:
        got = score(setup, variant, ids)
        rms = math.sqrt(statistics.fmean((a - b) ** 2 for a, b in zip(got["logprobs"], oracle["logprobs"], strict=True)))
        # llama.cpp keeps K and V in f16 whatever the weights are.
        bound = BOUNDS["f16" if variant.engine == "llama.cpp" and variant.dtype == "f32" else variant.dtype]
        rows.append({"variant": variant.label, "rms_nats": rms, "share_of_spread": rms / spread, "bound": bound,
                     "same_next_token": got["first"] == oracle["first"]})
        say(f"agree: {variant.label}: rms difference {rms:.4f} nats, {rms / spread:.4f} of the spread (bound {bound}), "
            f"next token {'the same' if rows[-1]['same_next_token'] else 'another'}")
        if not rms / spread <= bound:
            raise SystemExit(f"compare: {variant.label} computes something else; nothing to compare")
    return {"oracle": ORACLE.label, "tokens": LENGTH, "spread_nats": spread, "expert_rows": oracle["expert_rows"], "rows": rows}
