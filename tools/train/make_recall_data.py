"""Write recall.json (templates, held-out names and values) and filler.txt (a held-out book) for the evaluation.

    python make_recall_data.py --texts /tmp/recall/texts --out ../../models/recall-moe
"""
import argparse
import json
import pathlib
import random
import shutil

from tokenizers import Tokenizer

import data


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--texts", type=pathlib.Path, required=True)
    p.add_argument("--out", type=pathlib.Path, required=True)
    args = p.parse_args()
    tok = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    rng = random.Random(11)
    _, held = data.surnames()
    names = [rng.choice(data.PATTERNS).format(s) for s in held]
    values = data.heldout_values(tok, rng)
    names = [n for n in names if n.split()[-1] not in values and n.split()[0] not in values]
    recall = {"templates": data.templates(), "names": names, "values": values, "prompt": data.PROMPT, "facts_per_document": 8}
    (args.out / "recall.json").write_text(json.dumps(recall, indent=1) + "\n")
    shutil.copyfile(args.texts / "persuasion.txt", args.out / "filler.txt")
    print(len(names), "names", len(values), "values")


if __name__ == "__main__":
    main()
