"""One transformers process (torch, CPU): loads the folder, then times prefills or scores a prompt. Prints one JSON object.

    python transformers_worker.py FOLDER --dtype bfloat16 --experts grouped_mm --threads 2 --length 4096 --repeats 1
    python transformers_worker.py FOLDER --dtype float32 --experts eager --threads 2 --score IDS.json
"""
import argparse
import json
import time

import torch
import transformers

from prompts import prompts


def load(folder, dtype, experts):
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation="sdpa", experts_implementation=experts)
    return model.eval()


def prefill(model, ids):
    start = time.monotonic()
    logits = model(input_ids=torch.tensor([ids]), use_cache=True, logits_to_keep=1).logits
    int(logits[0, -1].argmax())
    return (time.monotonic() - start) * 1000


def score(model, ids):
    """Log-probabilities of every id but the first, the next token, and the rows that each layer's experts get."""
    loads = []
    def count(module, args, out):
        loads.append(torch.bincount(out[2].flatten(), minlength=module.num_experts))
    for layer in model.model.layers:
        layer.mlp.gate.register_forward_hook(count)
    logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    chosen = torch.log_softmax(logits[:-1], -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return {"logprobs": chosen.tolist(), "first": int(logits[-1].argmax()),
            "expert_rows": [[int(x.min()), int(x.median()), int(x.max())] for x in loads]}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("folder")
    p.add_argument("--dtype", default="bfloat16")
    p.add_argument("--experts", default="grouped_mm")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--length", type=int)
    p.add_argument("--repeats", type=int, default=1)
    p.add_argument("--score")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    model = load(a.folder, a.dtype, a.experts)
    with torch.inference_mode():
        if a.score:
            print(json.dumps(score(model, json.load(open(a.score)))))
            return
        warm, *timed = prompts(a.length, 1 + a.repeats, model.config.vocab_size)
        prefill(model, warm[:2048])
        print(json.dumps({"prefill_ms": [prefill(model, ids) for ids in timed]}))


if __name__ == "__main__":
    main()
