"""Train one phase of the recall model, starting from or resuming a checkpoint. The phases used are in README.md.

    python train_recall.py --texts /tmp/recall/texts --model ../../models/recall-moe --state /tmp/recall/run.pt \
        --seq 256 --batch 32 --steps 1000 --repeats 0.5 --lr 0.02 0.02
One CPU core is enough (and is what is used); bf16 products want AMX or AVX-512 bf16. Stop it (SIGTERM) at any time: the same
command continues from the state file. `--phase` names the phase; a new name starts its step count at 0 with the weights as they are.
"""
import argparse
import dataclasses
import json
import math
import os
import pathlib
import random
import signal
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import data
import model as model_module
from make_tokenizer import TRAIN_BOOKS
from model import Config, Model


def orthogonalize(g):
    """Newton-Schulz iteration on [.., rows, cols]: about U V^T of g = U S V^T (the Muon update)."""
    x = g.bfloat16()
    wide = x.shape[-2] <= x.shape[-1]
    if not wide:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x if wide else x.mT).float()


class Optimizer:
    """Muon for the matrices of attention and experts, Adam for embedding, router and norms. State is plain tensors."""

    def __init__(self, named):
        self.muon = {n: p for n, p in named if p.dim() >= 2 and "embed" not in n and "router" not in n}
        self.adam = {n: p for n, p in named if n not in self.muon}
        self.buf = {n: torch.zeros_like(p) for n, p in self.muon.items()}
        self.m = {n: torch.zeros_like(p) for n, p in self.adam.items()}
        self.v = {n: torch.zeros_like(p) for n, p in self.adam.items()}
        self.t = 0

    @torch.no_grad()
    def step(self, lr, adam_lr):
        self.t += 1
        for n, p in self.muon.items():
            b = self.buf[n].mul_(0.95).add_(p.grad)
            u = orthogonalize(p.grad + 0.95 * b)
            p.mul_(1 - lr * 0.02).add_(u, alpha=-lr * math.sqrt(max(1.0, p.shape[-2] / p.shape[-1])))
        for n, p in self.adam.items():
            self.m[n].lerp_(p.grad, 0.1)
            self.v[n].mul_(0.98).addcmul_(p.grad, p.grad, value=0.02)
            mh, vh = self.m[n] / (1 - 0.9 ** self.t), self.v[n] / (1 - 0.98 ** self.t)
            p.add_(mh / (vh.sqrt() + 1e-9), alpha=-adam_lr)

    def state(self):
        return {"buf": self.buf, "m": self.m, "v": self.v, "t": self.t}

    def load(self, s):
        self.buf, self.m, self.v, self.t = s["buf"], s["m"], s["v"], s["t"]


class Batches:
    def __init__(self, args, tok):
        self.args, self.vocab = args, tok.get_vocab_size()
        self.chat = data.Chat(tok)
        self.filler = data.Filler(tok, [args.texts / f"{b}.txt" for b in TRAIN_BOOKS])
        self.pool = data.TrainPool(tok, self.filler)

    def row(self, rng):
        """ids, weight of predicting each id, positions, kind."""
        a = self.args
        if rng.random() < a.repeats:
            ids, w = data.sample_repeats(rng, a.seq, self.vocab)
            kind = 0
        else:
            k = rng.randint(2, max(2, min(a.max_facts, a.seq // 50)))
            ids, w = data.sample_chat(rng, self.chat, self.filler, self.pool, a.seq, k, rng.randint((k + 1) // 2, k))
            kind = 1
            pad = a.seq - len(ids)
            if a.tail:  # the questions must lie in the tail: pad by text before the document
                ids, w = self.before(rng, pad) + ids, [0.0] * pad + w
            else:
                ids, w = ids + [self.chat.end] * pad, w + [0.0] * pad
        pose = a.pose > a.seq and rng.random() < a.pose_share
        return ids, w, data.skip_positions(rng, a.seq, a.pose) if pose else range(a.seq), kind

    def before(self, rng, n):
        return self.chat.ids("\n\n".join(self.filler.stretch(rng, n + 1)))[:n]

    def batch(self, step):
        rng = random.Random(f"{self.args.seed}-{self.args.phase}-{step}")
        rows = [self.row(rng) for _ in range(self.args.batch)]
        ids, w = torch.tensor([r[0] for r in rows]), torch.tensor([r[1] for r in rows])
        lm = (torch.rand(w.shape, generator=torch.Generator().manual_seed(step)) < self.args.text_share) & (w == 0)
        lm &= (torch.tensor([r[3] for r in rows]).unsqueeze(1) == 1) & (ids != self.chat.end)
        return ids, w, lm, torch.tensor([list(r[2]) for r in rows]), torch.tensor([r[3] for r in rows])


def frozen_prefix(model, ids, pos, cut):
    """Keys and values of the first `cut` tokens without gradients, and the mask for the tokens after them."""
    cache, tail = [], ids.shape[1] - cut
    with torch.no_grad():
        model(ids[:, :cut], pos[:, :cut], cache)
    mask = torch.zeros(tail, ids.shape[1], dtype=torch.bfloat16)
    mask[:, cut:] = torch.full((tail, tail), float("-inf")).triu(1)
    return cache, mask


def loss_of(model, batch, balance_weight, text_weight, tail=0):
    """tail > 0: only the last `tail` tokens get gradients, which makes real long documents affordable."""
    ids, w, lm, pos, kind = batch
    if 0 < tail < ids.shape[1]:
        cut = ids.shape[1] - tail
        cache, mask = frozen_prefix(model, ids, pos, cut)
        ids, w, lm, pos = ids[:, cut:], w[:, cut:], lm[:, cut:], pos[:, cut:]
        hidden, balance = model(ids, pos, cache, mask)
    else:
        hidden, balance = model(ids, pos)
    picked = ((w > 0) | lm)[:, 1:].flatten().nonzero().squeeze(1)
    target, weight = ids[:, 1:].flatten()[picked], w[:, 1:].flatten()[picked]
    text = lm[:, 1:].flatten()[picked]
    kinds = kind.unsqueeze(1).expand(-1, ids.shape[1] - 1).flatten()[picked]
    logits = model.logits(hidden[:, :-1].flatten(0, 1)[picked])
    ce = F.cross_entropy(logits, target, reduction="none")
    repeat, ask = (kinds == 0) & ~text, (kinds == 1) & ~text
    total = (ce * weight).sum() / weight.sum().clamp(min=1)
    if text.any():
        total = total + text_weight * ce[text].mean()
    value = ask & (weight == 1.0)
    hit = (logits.detach().argmax(-1) == target).float()

    def mean(x, sel):
        return x[sel].mean().item() if sel.any() else float("nan")

    with torch.no_grad():
        stats = {"repeat": mean(ce, repeat), "value": mean(ce, value), "text": mean(ce, text), "acc": mean(hit, value),
                 "repeat_acc": mean(hit, repeat), "balance": float(balance)}
    return total + balance_weight * balance, stats


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--texts", type=pathlib.Path, required=True)
    p.add_argument("--model", type=pathlib.Path, required=True, help="folder with tokenizer.json")
    p.add_argument("--state", type=pathlib.Path, required=True)
    p.add_argument("--phase", default="1")
    p.add_argument("--seq", type=int, default=256)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--steps", type=int, default=1000)
    p.add_argument("--repeats", type=float, default=0.5, help="share of rows that are repeated random tokens")
    p.add_argument("--max-facts", type=int, default=12)
    p.add_argument("--pose", type=int, default=0, help="largest position; 0: none skipped")
    p.add_argument("--pose-share", type=float, default=0.7)
    p.add_argument("--tail", type=int, default=0, help="gradients for the last TAIL tokens only; 0: for all")
    p.add_argument("--text-share", type=float, default=0.1, help="share of book tokens that carry a language loss")
    p.add_argument("--text-weight", type=float, default=0.2)
    p.add_argument("--lr", type=float, nargs=2, default=[0.02, 0.02], help="at the first and last step of the phase")
    p.add_argument("--adam-ratio", type=float, default=0.15, help="Adam's rate as a share of lr")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tok = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    config = Config(vocab_size=tok.get_vocab_size())
    net = Model(config)
    model_module.seed_induction(net)
    opt = Optimizer(list(net.named_parameters()))
    step, elapsed, tokens = 0, 0.0, 0
    if args.state.exists():
        s = torch.load(args.state, weights_only=False)
        net.load_state_dict(s["model"])
        opt.load(s["opt"])
        elapsed, tokens = s["elapsed"], s["tokens"]
        step = s["step"] if s["phase"] == args.phase else 0
    model_module.compile_pieces()
    batches = Batches(args, tok)

    def save():
        tmp = args.state.with_suffix(".tmp")
        torch.save({"model": net.state_dict(), "opt": opt.state(), "config": dataclasses.asdict(config), "step": step,
                    "phase": args.phase, "elapsed": elapsed, "tokens": tokens}, tmp)
        tmp.replace(args.state)

    log = args.state.with_suffix(".jsonl").open("a")
    start = {"phase": args.phase, "start": step, "tokens": tokens, "elapsed": round(elapsed), "torch": torch.__version__,
             "config": dataclasses.asdict(config), "args": {k: v for k, v in vars(args).items() if not isinstance(v, pathlib.Path)}}
    print(json.dumps(start), file=log, flush=True)
    sums, last_save, stop = {}, time.time(), []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    while step < args.steps and not stop:
        began = time.time()
        loss, stats = loss_of(net, batches.batch(step), 0.03, args.text_weight, args.tail)
        for q in net.parameters():
            q.grad = None
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(opt.adam.values(), 1.0))
        f = step / max(1, args.steps - 1)
        warm = min(1.0, (opt.t + 1) / 50)
        lr = warm * (args.lr[0] * (1 - f) + args.lr[1] * f)
        opt.step(lr, lr * args.adam_ratio)
        step += 1
        tokens += args.seq * args.batch
        elapsed += time.time() - began
        for k, v in stats.items():
            if v == v:
                sums.setdefault(k, []).append(v)
        if step % 20 == 0:
            means = {k: round(sum(v) / len(v), 4) for k, v in sums.items()}
            line = {"phase": args.phase, "step": step, "tokens": tokens, "elapsed": round(elapsed), "lr": round(lr, 5),
                    "grad": round(norm, 3), "step_s": round(time.time() - began, 2)} | means
            print(json.dumps(line), file=log, flush=True)
            sums = {}
        if time.time() - last_save > 180:
            save()
            last_save = time.time()
    save()


if __name__ == "__main__":
    main()
