"""Make the random-weight checkpoint that every engine runs: two layers with Qwen3-30B-A3B's geometry, in bf16.

    python checkpoint.py FOLDER        writes FOLDER/hf, a Hugging Face folder (2.8 GB); does nothing when it is there

Weights are normal with standard deviation 1 / sqrt(fan in) times a gain, so that attention, experts and residual have about the
same size, and a wrong engine shows in the logits. A random router spreads random rows evenly over the experts.
"""
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from safetensors.torch import save_file

from geometry import VOCAB, config, shapes

SEED = 20260701


def weights():
    out = {}
    for index, (name, (shape, gain)) in enumerate(shapes().items()):
        random = np.random.default_rng([SEED, index])
        if gain is None:
            # Sharper than an untrained model: scores of q and k spread by about 2.
            x = random.uniform(0.7, 1.3, shape).astype(np.float32) * (1.4 if "self_attn" in name else 1.0)
        else:
            x = random.standard_normal(shape, np.float32) * np.float32(gain / shape[-1] ** 0.5)
        out[name] = torch.from_numpy(x).to(torch.bfloat16)
    return out


def byte_letters():
    """The 256 letters that byte-level BPE writes bytes with."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def vocabulary():
    """(tokens, merges): bytes, then pairs of them, then the end-of-text token. Prompts are token ids; none is used."""
    letters = byte_letters()
    merges = [(a, b) for a in letters for b in letters][: VOCAB - 257]
    return letters + [a + b for a, b in merges] + ["<|endoftext|>"], merges


def tokenizer():
    tokens, merges = vocabulary()
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": {"Regex":
             r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"}}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": {"type": "NFC"},
        "added_tokens": [{"id": VOCAB - 1, "content": "<|endoftext|>", "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]}, "post_processor": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens[:-1])}, "merges": merges}}


def make_hf(folder):
    if folder.is_dir():
        return
    part = folder.with_name("hf.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, value in {"config.json": config(), "tokenizer.json": tokenizer(),
                        "generation_config.json": {"do_sample": False, "eos_token_id": VOCAB - 1},
                        "tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>"}}.items():
        (part / name).write_text(json.dumps(value, indent=1), encoding="utf-8")
    save_file(weights(), part / "model.safetensors", metadata={"format": "pt", "seed": str(SEED)})
    part.rename(folder)  # whole or not at all


if __name__ == "__main__":
    make_hf(pathlib.Path(sys.argv[1]) / "hf")
