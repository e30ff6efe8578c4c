"""Compare the exported folder in transformers with the training model: largest logit difference, in f32.

    python check_export.py --model ../../models/recall-moe --checkpoint /tmp/recall/ckpt.pt
"""
import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import model as model_module
from model import Config, Model


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--checkpoint")
    p.add_argument("--random-seed", type=int)
    args = p.parse_args()
    torch.set_num_threads(1)
    tok = AutoTokenizer.from_pretrained(args.model)
    hf = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    if args.checkpoint:
        state = torch.load(args.checkpoint, weights_only=False)
        mine = Model(Config(**state["config"]))
        mine.load_state_dict(state["model"])
    else:
        torch.manual_seed(args.random_seed)
        mine = Model(Config())
    model_module.COMPUTE = torch.float32
    with torch.no_grad():
        for p in mine.parameters():
            p.copy_(p.bfloat16())  # what the exported file holds
    text = tok.apply_chat_template([{"role": "user", "content": "The password of Mr. Hale is river.\n\nQuestion: What?"}],
                                   tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tok(text).input_ids * 4])
    with torch.no_grad():
        a = hf(ids).logits
        h, _ = mine(ids, torch.arange(ids.shape[1])[None])
        b = mine.logits(h)
    print("tokens", ids.shape[1], "logit std %.3f" % a.std(), "largest difference %.4f" % (a - b).abs().max(),
          "mean %.5f" % (a - b).abs().mean())
    print("same argmax: %.3f" % (a.argmax(-1) == b.argmax(-1)).float().mean())


if __name__ == "__main__":
    main()
