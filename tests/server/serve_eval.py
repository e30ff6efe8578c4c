#!/usr/bin/env python3
"""`longspan eval --url` scores a server as `longspan eval` scores the engine.

usage: serve_eval.py SOURCE_DIR LONGSPAN
"""
import json
import os
import subprocess
import sys

import live_server
from live_server import KEY, Server, expect, expect_equal

SOURCE, LONGSPAN = sys.argv[1:3]
MODEL = os.path.join(SOURCE, "models/recall-moe")


def evaluate(*arguments, code=0, env=None):
    run = subprocess.run([LONGSPAN, "eval", *arguments, "--json", "-q"], capture_output=True, text=True,
                         timeout=live_server.PATIENCE, env={**os.environ, **(env or {})})
    expect_equal(run.returncode, code, f"exit code of eval {' '.join(arguments)}: {run.stderr}")
    return json.loads(run.stdout) if run.stdout.startswith("{") else {}


with Server(LONGSPAN, "-m", MODEL, "--dtype", "f32", env={"LONGSPAN_API_KEY": KEY}) as live:
    key = {"LONGSPAN_API_KEY": KEY}
    recall = ["recall", "-m", MODEL, "--lengths", "700,1200", "--limit", "6"]
    local = evaluate(*recall, "--dtype", "f32")
    for url in [live.url(), live.url() + "/v1/"]:
        remote = evaluate(*recall, "--url", url, "--parallel", "4", env=key)
        for field in ["total", "correct", "exact_match", "lengths", "failed"]:
            expect_equal(remote.get(field), local[field], f"{field} through {url}")
    expect(local["correct"] >= 11, "the model recalls")
    gsm8k = evaluate("gsm8k", "--url", live.url(), "--limit", "5", "--max-tokens", "8", env=key)
    expect_equal((gsm8k["total"], gsm8k["failed"]), (5, 0), "gsm8k")
    wrong = evaluate("gsm8k", "--url", live.url(), "--limit", "2", env={"LONGSPAN_API_KEY": "sk-no"}, code=3)
    expect("401" in wrong["error"]["message"], "a wrong key")
    evaluate("gsm8k", "--url", live.url(), "--limit", "2", "--max-tokens", "2", "--served-model-name", "other", env=key, code=1)
    evaluate("recall", "--url", live.url(), env=key, code=2)
    evaluate("gsm8k", "--url", "https://example.org", code=2)
    evaluate("ppl", "--data", __file__, "--url", live.url(), code=2)
evaluate("gsm8k", "--url", live.url(), code=3)
live_server.finish("serve eval")
