#!/usr/bin/env python3
"""Golden models: tests/golden/models/CASE/{config.json, golden.json} from Hugging Face transformers.

Usage: make_model_goldens.py [CASE...]      needs torch, transformers, safetensors, numpy (tools/requirements.txt)

No weights are stored: every element is a formula of the tensor's name and the element's index
(tests/support/golden_model.cc has the same one). The oracle is f32 arithmetic on the stored weights with eager
attention. The noise of f32 is measured per case against the same model in f64 (norms and softmaxes too; angles stay
f32, they are part of the definition). A prompt is kept only if every greedy step's top-2 margin and every router
margin exceed 100 times the bound on that noise; else the next prompt seed is tried.
"""
import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

from model_cases import CASES, tensors
from named_values import random_bits, uniform

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "models"

# Bounds on what reordering f32 sums does to a log-probability and to a router logit; measured noise must lie below.
F32_LOGPROB_BOUND = 3e-5
F32_ROUTER_BOUND = 1e-5
MARGIN_FACTOR = 100

# (length, group, new tokens). Prompts of one group share a seed: the shorter is a prefix of the longer.
PROMPTS = [(300, 0, 16), (130, 0, 16), (61, 0, 16), (33, 1, 16), (7, 2, 16), (2, 3, 16), (1, 4, 8), (1, 5, 8),
           (1, 6, 8)]


def weight(case, name, shape, scale, offset):
    values = uniform(f"{case}/{name}", int(np.prod(shape)))
    return torch.from_numpy((offset + scale * values).astype(np.float32).reshape(shape))


def prompt_ids(case, seed, length, vocab):
    return [int(bits % np.uint64(vocab)) for bits in random_bits(f"{case}/prompt/{seed}", length)]


def write_folder(folder, case, config, shards):
    dtype = getattr(torch, config.get("dtype") or config["torch_dtype"])
    listing = tensors(config)
    weights = {name: weight(case, name, shape, scale, offset).to(dtype) for name, shape, scale, offset in listing}
    names = list(weights)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return listing
    index = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: weights[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        index |= {name: file for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return listing


class DoubleTorch:
    """Stands for `torch` in a modelling file: what asks for f32 gets f64."""

    float32 = torch.float64
    float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


class Model:
    """One model in one arithmetic: log-probabilities of a sequence and the router logits on the way."""

    def __init__(self, folder, dtype):
        self.model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager",
            output_loading_info=True)
        problems = {key: value for key, value in info.items() if value}
        assert not problems, problems
        self.model.eval()
        self.top_k = getattr(self.model.config, "num_experts_per_tok", None)
        self.router = []
        for module in self.model.modules():
            if type(module).__name__.endswith("TopKRouter"):
                module.register_forward_hook(lambda _m, _i, output: self.router.append(output[0].double()))
        self.double = dtype == torch.float64
        self.module = sys.modules[type(self.model).__module__]

    @torch.no_grad()
    def __call__(self, ids):
        """log-probabilities [T, V] f64, router logits [routers, T, E] f64 or None."""
        self.router.clear()
        if self.double:
            self.module.torch = DoubleTorch()
        try:
            logits = self.model(torch.tensor([ids]), use_cache=False).logits[0]
        finally:
            self.module.torch = torch
        assert not self.double or logits.dtype == torch.float64
        return torch.log_softmax(logits.double(), -1), torch.stack(self.router) if self.router else None

    def router_margins(self, router):
        """[T]: over the routers, the least distance of the k-th from the next logit; None if nothing is chosen."""
        if router is None or self.top_k >= router.shape[-1]:
            return None
        ordered = router.sort(-1, descending=True).values
        return (ordered[..., self.top_k - 1] - ordered[..., self.top_k]).amin(0)

    def routes(self, router):
        return router.topk(self.top_k, -1).indices.sort(-1).values


def router_is_clear(margins):
    return margins is None or margins.min() >= MARGIN_FACTOR * F32_ROUTER_BOUND


def run_prompt(model, ids, new_tokens):
    """Greedy continuation with everything that is recorded of it; None as soon as a margin is too small."""
    if not router_is_clear(model.router_margins(model(ids)[1])):
        return None
    sequence = list(ids)
    for _ in range(new_tokens):
        logprobs, _ = model(sequence)
        sequence.append(int(logprobs[-1].argmax()))
    fed = sequence[:-1]
    logprobs, router = model(fed)
    assert [int(t) for t in logprobs[len(ids) - 1:].argmax(-1)] == sequence[len(ids):]
    chosen = logprobs[:len(fed)].gather(-1, torch.tensor(sequence[1:])[:, None])[:, 0]
    top = logprobs[len(ids) - 1:].topk(2, -1).values
    routed = model.router_margins(router)
    margins = top[:, 0] - top[:, 1]
    if margins.min() < MARGIN_FACTOR * F32_LOGPROB_BOUND or not router_is_clear(routed):
        return None
    return {
        "sequence": sequence,
        "logprobs": chosen[:len(ids) - 1],
        "token_logprobs": chosen[len(ids) - 1:],
        "margins": margins,
        "router_margins": routed,
    }


def find_prompts(case, model, vocab):
    """Per prompt its result, trying seeds per group until all of the group have their margins."""
    found, rejected, seed = {}, 0, 0
    for group in sorted({group for _, group, _ in PROMPTS}):
        members = [i for i, (_, g, _) in enumerate(PROMPTS) if g == group]
        while True:
            seed += 1
            results = {}
            for i in members:
                length, _, new_tokens = PROMPTS[i]
                results[i] = run_prompt(model, prompt_ids(case, seed, length, vocab), new_tokens)
                if results[i] is None:
                    break
            else:
                found |= {i: (seed, result) for i, result in results.items()}
                break
            rejected += 1
    return [found[i] for i in range(len(PROMPTS))], rejected


def lows(margins):
    """[position, margin] wherever the running minimum of the margins falls."""
    if margins is None:
        return []
    out, least = [], float("inf")
    for position, margin in enumerate(margins.tolist()):
        if margin < least:
            least = margin
            out.append([position, round(margin, 6)])
    return out


def compare(model, reference, results):
    """Noise of `model` against `reference`: while both route alike, and over everything."""
    worst = {"logprob": 0.0, "router": 0.0}
    total, count = 0.0, 0
    for _, result in results:
        fed = result["sequence"][:-1]
        (mine, my_router), (theirs, their_router) = model(fed), reference(fed)
        agree = len(fed)
        if my_router is not None:
            same = (model.routes(my_router) == model.routes(their_router)).all(-1).all(0)
            agree = int(same.long().cumprod(0).sum())
            error = (my_router - their_router).abs()[:, :agree]
            worst["router"] = max(worst["router"], float(error.max()) if agree else 0.0)
        targets = torch.tensor(result["sequence"][1:])[:, None]
        error = (mine - theirs).gather(-1, targets)[:, 0].abs()
        if agree:
            worst["logprob"] = max(worst["logprob"], float((mine - theirs)[:agree].abs().max()))
        total += float(error.sum())
        count += len(error)
    return worst | {"mean_logprob": total / count}


def rounded(values):
    return [round(value, 6) for value in values.tolist()]


def figures(noise):
    return {key: float(f"{value:.3g}") for key, value in noise.items()}


def make_case(case):
    config, shards = CASES[case]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        listing = write_folder(folder, case, config, shards)
        f32, f64, bf16 = (Model(folder, dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16))
    prompts, rejected = find_prompts(case, f32, config["vocab_size"])
    f32_noise, bf16_noise = compare(f32, f64, prompts), compare(bf16, f32, prompts)
    assert f32_noise["logprob"] <= F32_LOGPROB_BOUND, f32_noise
    assert f32_noise["router"] <= F32_ROUTER_BOUND, f32_noise

    records = []
    for (length, _, _), (seed, result) in zip(PROMPTS, prompts):
        record = {
            "length": length,
            "seed": seed,
            "logprobs": rounded(result["logprobs"]),
            "tokens": result["sequence"][length:],
            "token_logprobs": rounded(result["token_logprobs"]),
            "margins": rounded(result["margins"]),
            "router_lows": lows(result["router_margins"]),
        }
        records.append(record)
    routed = [result["router_margins"].min() for _, result in prompts if result["router_margins"] is not None]
    golden = {
        "made_by": {"transformers": transformers.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "rejected_prompt_seeds": rejected,
        "least_margin": round(float(min(result["margins"].min() for _, result in prompts)), 6),
        "least_router_margin": round(float(min(routed)), 6) if routed else None,
        "f32_bound": {"logprob": F32_LOGPROB_BOUND, "router": F32_ROUTER_BOUND},
        "f32_noise": figures(f32_noise),
        "bf16_noise": figures(bf16_noise),
        "shards": shards,
        "tensors": listing,
        "prompts": records,
    }
    target = OUT / case
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    lines = ",\n".join(f"{json.dumps(key)}: {compact(value)}" for key, value in golden.items())
    (target / "golden.json").write_text("{\n" + lines + "\n}\n")
    print(case, f"rejected {rejected}, margin {golden['least_margin']}, router {golden['least_router_margin']},",
          "f32", golden["f32_noise"], "bf16", golden["bf16_noise"],
          "logprob sd %.2f" % float(torch.cat([r["logprobs"] for _, r in prompts]).std()),
          "distinct tokens", len({t for record in records for t in record["tokens"]}), flush=True)


def compact(value):
    if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        return "[\n" + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in value) + "]"
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in sys.argv[1:] or CASES:
        make_case(name)
