"""One llama.cpp process (llama-cpp-python): loads a GGUF, then times prefills or scores a prompt. Prints one JSON object.

    python llama_worker.py MODEL.gguf --ubatch 512 --threads 2 --length 4096 --repeats 1
    python llama_worker.py MODEL.gguf --ubatch 512 --threads 2 --score IDS.json
"""
import argparse
import ctypes
import json
import sys
import time

import llama_cpp
import numpy as np

from prompts import prompts


class Llama:
    def __init__(self, path, ubatch, threads, tokens):
        llama_cpp.llama_backend_init()
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        p = llama_cpp.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch = tokens + 8, tokens, min(tokens, ubatch)
        p.n_threads = p.n_threads_batch = threads
        p.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.context = llama_cpp.llama_init_from_model(self.model, p)
        if not self.model or not self.context:
            sys.exit(f"llama_worker: {path} can't be loaded")
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def prefill(self, ids, all_rows=False):
        """Logits of the last row, or of all."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        n = len(ids)
        batch = llama_cpp.llama_batch_init(n, 0, 1)
        batch.n_tokens = n
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, i, 1, 0
            batch.logits[i] = all_rows or i == n - 1
        start = time.monotonic()
        if llama_cpp.llama_decode(self.context, batch) != 0:
            sys.exit("llama_worker: llama_decode failed")
        rows = [np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, i), (self.vocab,))
                for i in (range(n) if all_rows else [n - 1])]
        first = int(rows[-1].argmax())
        ms = (time.monotonic() - start) * 1000
        llama_cpp.llama_batch_free(batch)
        return rows, first, ms


def log_probabilities(rows, ids):
    """Of every id but the first, given those before it."""
    out = []
    for row, target in zip(rows, ids[1:]):
        row = row.astype(np.float64)
        top = row.max()
        out.append(float(row[target] - top - np.log(np.exp(row - top).sum())))
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--ubatch", type=int, default=512)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--length", type=int)
    p.add_argument("--repeats", type=int, default=1)
    p.add_argument("--score")
    a = p.parse_args()
    if a.score:
        ids = json.load(open(a.score))
        rows, first, _ = Llama(a.model, a.ubatch, a.threads, len(ids)).prefill(ids, all_rows=True)
        print(json.dumps({"logprobs": log_probabilities(rows, ids), "first": first}))
        return
    engine = Llama(a.model, a.ubatch, a.threads, a.length)
    warm, *timed = prompts(a.length, 1 + a.repeats, engine.vocab)
    engine.prefill(warm[:2048])  # touches every expert and buffer
    print(json.dumps({"prefill_ms": [engine.prefill(ids)[2] for ids in timed],
                      "system": llama_cpp.llama_print_system_info().decode()}))


if __name__ == "__main__":
    main()
