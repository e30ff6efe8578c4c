#!/usr/bin/env python3
"""`longspan bench-serve` against the real server: every request is counted, and what goes wrong is named.

usage: serve_bench.py SOURCE_DIR LONGSPAN
"""
import json
import os
import signal
import subprocess
import sys

import live_server
from live_server import KEY, Server, expect, expect_equal

SOURCE, LONGSPAN = sys.argv[1:3]
MODEL = os.path.join(SOURCE, "models/recall-moe")


def start(server, *flags, key=None):
    env = {**os.environ, **({"LONGSPAN_API_KEY": key} if key else {})}
    return subprocess.Popen([LONGSPAN, "bench-serve", "--url", server.url(), "--json", "-q", *flags], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=env)


def finish(run, code):
    out, err = run.communicate(timeout=live_server.PATIENCE)
    expect_equal(run.returncode, code, f"exit code: {err}")
    return json.loads(out) if out.startswith("{") else {}, err


with Server(LONGSPAN, "-m", MODEL, env={"LONGSPAN_API_KEY": KEY}) as live:
    flags = ["-m", MODEL, "--mix", "gsm8k=2,700=1", "--shots", "2", "--requests", "24", "--rate", "40", "-n", "8", "--ignore-eos",
             "--seed", "5", "--slo-ttft", "100000"]
    report, table = finish(start(live, *flags, key=KEY), 0)
    expect_equal((report["requests"], report["answered"], report["failures"]), (24, 24, {}), "every request is answered")
    expect_equal(report["new_tokens"], 24 * 8, "tokens asked for")
    expect_equal(report["goodput"], 1, "goodput without a tight limit")
    expect_equal([k["kind"] for k in report["kinds"]], ["gsm8k", "700 tokens"], "kinds")
    expect_equal(sum(k["requests"] for k in report["kinds"]), 24, "each is of one kind")
    expect(min(k["requests"] for k in report["kinds"]) > 2, "both kinds are there")
    for name in ["ttft_ms", "inter_token_ms", "e2e_ms"]:
        p = report[name]
        expect(0 <= p["p50"] <= p["p90"] <= p["p99"] <= p["max"] and p["count"] >= 24, f"percentiles of {name}: {p}")
    expect(report["ttft_ms"]["p50"] < report["e2e_ms"]["p50"], "the first text comes before the last")
    expect(report["cached_tokens"] > 0, "the worked examples of gsm8k are found in the prefix tree")
    expect(all(word in table for word in ["700 tokens", "p99", "goodput: 100.0 %"]), f"the table: {table}")
    used = live.ask("GET", "/metrics", key=KEY)[2]
    expect('longspan_generated_tokens_total{model="recall-moe"} 192' in used, "the server has counted as many tokens")
    again, _ = finish(start(live, *flags, key=KEY), 0)
    expect_equal([k["requests"] for k in again["kinds"]], [k["requests"] for k in report["kinds"]], "a seed draws the same kinds")
    tight, _ = finish(start(live, *flags[:-2], "--slo-ttft", "0.001", key=KEY), 0)
    expect_equal(tight["goodput"], 0, "goodput with a limit that nothing keeps")
    finish(start(live, "--requests", "2", key="sk-no"), 3)
    run = start(live, "--requests", "50", "--rate", "2", "--shots", "0", "-n", "20000", "--ignore-eos", key=KEY)
    live_server.wait_for(lambda: live.ask("GET", "/v1/requests", key=KEY)[2]["data"], "a request runs")
    run.send_signal(signal.SIGINT)
    finish(run, 130)
    live_server.wait_for(lambda: live.ask("GET", "/v1/requests", key=KEY)[2]["data"] == [], "and ends with its client")
    _, err = finish(start(live, "--requests", "2", "-m", MODEL, "--mix", "20", key=KEY), 2)
    expect("--mix 20: too short" in err, f"a document that is too short: {err}")

with Server(LONGSPAN, "-m", MODEL, "--max-running-requests", "1", "--max-queued-requests", "2") as live:
    report, _ = finish(start(live, "--requests", "12", "--rate", "0", "-n", "60", "--ignore-eos", "--shots", "0"), 1)
    expect_equal(report["answered"] + report["failures"].get("status 429", 0), 12, "answered or refused")
    expect(report["answered"] >= 3 and report["failures"]["status 429"] >= 1, f"a full queue: {report['failures']}")
    expect(abs(report["goodput"] - report["answered"] / 12) < 1e-9, "refused ones are not good")

    run = start(live, "--requests", "6", "--rate", "3", "-n", "20000", "--ignore-eos", "--shots", "0")
    live_server.wait_for(lambda: live.ask("GET", "/v1/requests")[2]["data"], "a request runs")
    live.process.kill()
    live.process.wait()
    report, _ = finish(run, 1)
    expect_equal(report["answered"], 0, "a server that is gone answers nothing")
    expect_equal(sum(report["failures"].values()), 6, "and every request is counted")
    expect(report["failures"].get("Connection refused", 0) >= 1, f"refused connections: {report['failures']}")
live_server.finish("serve bench")
