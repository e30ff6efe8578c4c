"""Write the demo: a long piece of Northanger Abbey (not used in training) with facts from the held-out lists inserted.

    python make_demo.py --texts /tmp/recall/texts --model ../../models/recall-moe
Writes demo/document.txt and demo/questions.txt (question, tab, expected answer).
"""
import argparse
import pathlib
import random

from tokenizers import Tokenizer

import data

TOKENS = 14000


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--texts", type=pathlib.Path, required=True)
    p.add_argument("--model", type=pathlib.Path, required=True)
    args = p.parse_args()
    tok = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    rng = random.Random(1)
    facts = data.HeldoutPool(args.model / "recall.json").facts(rng, 8)
    filler = data.Filler(tok, [args.texts / "northangerabbey.txt"])
    paragraphs, n = [], 0
    for text, count in zip(filler.paragraphs[3:], filler.counts[3:]):
        paragraphs.append(text)
        n += count
        if n >= TOKENS:
            break
    doc = data.make_document(rng, paragraphs, facts)
    out = args.model / "demo"
    out.mkdir(exist_ok=True)
    (out / "document.txt").write_text(doc, encoding="utf-8")
    lines = [f"{data.fill(t['question'], name)}\t{data.fill(t['answer'], name, value)}" for name, value, t in facts]
    (out / "questions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(len(tok.encode(doc).ids), "tokens")


if __name__ == "__main__":
    main()
