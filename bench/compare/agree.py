"""Do the engines compute the same thing? Log-probabilities of every token of one prompt against transformers in f32.

A random model's log-probabilities spread by a few nats from token to token. A wrong rope, norm, router or mask leaves no
relation to the oracle: a root-mean-square difference of about 1.4 spreads. The bounds are shares of the spread, on the median
and on the root mean square. Rows whose 8th and 9th expert are nearly equal may take the other one in any arithmetic, f32
included, and every later row sees them: that is what the second bound leaves room for.
"""
import math
import statistics

from engines import Variant, score
from prompts import prompts

LENGTH = 700  # more than one ubatch, several pages
ORACLE = Variant("transformers", "float32", "eager")
F32, SIXTEEN, EIGHT = (0.005, 0.1), (0.06, 0.2), (0.12, 0.3)
BOUNDS = {"float32": F32, "f32": F32, "bfloat16": SIXTEEN, "bf16": SIXTEEN, "f16": SIXTEEN, "q8_0": EIGHT, "int8": EIGHT}


def agreement(setup, variants, vocab, say):
    """Rows for the report; stops at the first engine that is out of its bound."""
    ids = prompts(LENGTH, 1, vocab, seed=1)[0]
    oracle = score(setup, ORACLE, ids)
    spread = statistics.pstdev(oracle["logprobs"])
    rows = []
    for variant in variants:
        got = score(setup, variant, ids)
        off = [abs(a - b) for a, b in zip(got["logprobs"], oracle["logprobs"], strict=True)]
        median, rms = statistics.median(off) / spread, math.sqrt(statistics.fmean(x * x for x in off)) / spread
        # llama.cpp keeps K and V in f16 whatever the weights are.
        bound = BOUNDS["f16" if variant.engine == "llama.cpp" and variant.dtype == "f32" else variant.dtype]
        rows.append({"variant": variant.label, "median": median, "rms": rms, "bound": bound,
                     "same_next_token": got["first"] == oracle["first"]})
        say(f"agree: {variant.label}: median {median:.2%} of the spread (bound {bound[0]:.1%}), rms {rms:.2%} (bound {bound[1]:.0%}), "
            f"next token {'the same' if rows[-1]['same_next_token'] else 'another'}")
        if not (median <= bound[0] and rms <= bound[1]):
            raise SystemExit(f"compare: {variant.label} computes something else; nothing to compare")
    return {"oracle": ORACLE.label, "tokens": LENGTH, "spread_nats": spread, "expert_rows": oracle["expert_rows"], "rows": rows}
