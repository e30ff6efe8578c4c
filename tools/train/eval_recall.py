"""Exact match of greedy answers on held-out documents, names and values, by the rule in data.py.

    python eval_recall.py --model ../../models/recall-moe --checkpoint /tmp/recall/run.pt --tokens 1000 4000 16000 --documents 25
Every fact of a document is asked, each in a conversation of its own; the document's keys and values are computed once. An
answer is exact when each token of the expected answer and the closing <|im_end|> is the model's first choice, which is what
greedy decoding would produce.
"""
import argparse
import os
import random
import time

import torch
from tokenizers import Tokenizer

import data
from model import Config, Model


@torch.no_grad()
def answer_hits(net, chat, doc, facts):
    """Per fact: (whole answer right, value right, [wrong tokens])."""
    prefix = chat.user + chat.ids(doc + "\n\nQuestion:")
    cache = []
    net(torch.tensor([prefix]), torch.arange(len(prefix))[None], cache)
    out = []
    for name, value, t in facts:
        whole = chat.prompt(data.PROMPT.replace("{document}", doc).replace("{question}", data.fill(t["question"], name)))
        assert whole[:len(prefix)] == prefix
        answer, weight = chat.answer(name, value, t)
        rest = whole[len(prefix):] + answer
        n, m = len(prefix), len(rest)
        mask = torch.zeros(m, n + m, dtype=torch.bfloat16)
        mask[:, n:] = torch.full((m, m), float("-inf")).triu(1)
        hidden, _ = net(torch.tensor([rest]), torch.arange(n, n + m)[None], list(cache), mask)
        a = len(answer)
        got = net.logits(hidden[0, -a - 1:-1]).argmax(-1)
        right = (got == torch.tensor(answer)).tolist()
        out.append((all(right), all(r for r, w in zip(right, weight) if w == 1.0)))
    return out


def evaluate(net, tok, pool, filler, tokens, documents, k, seed):
    chat = data.Chat(tok)
    hits, length = [], 0
    for i in range(documents):
        rng = random.Random(f"{seed}-{tokens}-{i}")
        facts = pool.facts(rng, k)
        overhead = sum(len(chat.ids(" " + data.fill(t["fact"], n, v))) for n, v, t in facts) + 30
        doc = data.make_document(rng, filler.stretch(rng, tokens - overhead), facts)
        length += len(chat.ids(doc))
        hits += answer_hits(net, chat, doc, facts)
    n = len(hits)
    return {"tokens": tokens, "questions": n, "mean_length": round(length / documents),
            "exact": round(sum(h[0] for h in hits) / n, 4), "value": round(sum(h[1] for h in hits) / n, 4)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--tokens", type=int, nargs="+", default=[1000, 4000, 16000])
    p.add_argument("--documents", type=int, nargs="+", default=[25])
    p.add_argument("--facts", type=int, default=8)
    p.add_argument("--filler", help="another book than filler.txt")
    p.add_argument("--seed", type=int, default=5)
    args = p.parse_args()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tok = Tokenizer.from_file(args.model + "/tokenizer.json")
    state = torch.load(args.checkpoint, weights_only=False)
    net = Model(Config(**state["config"]))
    net.load_state_dict(state["model"])
    with torch.no_grad():
        for q in net.parameters():
            q.copy_(q.bfloat16())  # what the exported file holds
    pool = data.HeldoutPool(args.model + "/recall.json")
    filler = data.Filler(tok, [args.filler or args.model + "/filler.txt"])
    counts = args.documents * len(args.tokens) if len(args.documents) == 1 else args.documents
    for tokens, documents in zip(args.tokens, counts):
        began = time.time()
        print(evaluate(net, tok, pool, filler, tokens, documents, args.facts, args.seed), f"{time.time() - began:.0f} s",
              flush=True)


if __name__ == "__main__":
    main()
