#!/usr/bin/env python3
"""Two hosts, which are network namespaces with a cable between them: the same tokens as with threads; and, with
FULL_TESTS=1, when the cable is cut at load, in prefill or in decode, the job ends and says so. Exits with 77 where the
machine forbids namespaces.

usage: mpi_hosts.py SOURCE_DIR LONGSPAN PRELOAD MPIRUN
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

SOURCE, LONGSPAN, PRELOAD, MPIRUN = sys.argv[1:5]
sys.path.insert(0, os.path.join(SOURCE, "tests/support"))
from network_hosts import Hosts, NoNamespaces  # noqa: E402

MODEL = os.path.join(SOURCE, "models/recall-moe")
PATIENCE = 120  # seconds
SKIPPED = 77
LAYOUT = ["--tp", "4", "--cp", "2", "--moe-dp", "2", "--threads", "1"]


def batch(work, requests, results):
    (work / "in.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    return [LONGSPAN, "batch", "-m", MODEL, "-i", str(work / "in.jsonl"), "-o", str(work / results), "--dtype", "f32", "-q"]


def lines(work, results):
    return [json.loads(line) for line in (work / results).read_text().splitlines()]


def same_tokens(hosts, work):
    words = (pathlib.Path(MODEL) / "demo/document.txt").read_text().split()
    requests = [{"prompt": " ".join(words[:500]), "max_tokens": 10}, {"prompt": "The code word", "max_tokens": 10}]
    subprocess.run(batch(work, requests, "alone.jsonl"), check=True, timeout=PATIENCE)
    before = hosts.bytes_sent()
    done = subprocess.run(hosts.mpirun(MPIRUN, 2) + batch(work, requests, "hosts.jsonl") + ["--comm", "mpi"] + LAYOUT,
                          capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
    tokens = [[line["token_ids"] for line in lines(work, results)] for results in ("alone.jsonl", "hosts.jsonl")]
    assert tokens[0] == tokens[1], f"tokens of one process and of two hosts: {tokens}"
    assert hosts.bytes_sent() - before > 500 * 128 * 4, "keys and values went over the cable"


SHORT = {"id": "short", "prompt": "a", "max_tokens": 1}
LONG = {"prefill": {"id": "long", "prompt_token_ids": [100 + i % 900 for i in range(30000)], "max_tokens": 1},
        "decode": {"id": "long", "prompt": "b", "max_tokens": 30000, "ignore_eos": True}}


def stopped(pids):
    return [pid for pid in pids if pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"]


def cut_cable(hosts, work, moment):
    results = work / f"{moment}.jsonl"
    at_load = ["-x", f"LD_PRELOAD={PRELOAD}", "-x", "SIGNAL_AT_OPEN=model.safetensors", "-x", "SIGNAL_RANK=3",
               "-x", f"SIGNAL_NUMBER={int(signal.SIGSTOP)}"]
    job = subprocess.Popen(hosts.mpirun(MPIRUN, 2) + (at_load if moment == "load" else []) +
                           batch(work, [SHORT, LONG.get(moment, SHORT)], results.name) +
                           ["--comm", "mpi", "--comm-timeout", "2", "--chunked-prefill-size", "512"] + LAYOUT,
                           stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + PATIENCE

    def wait_until(condition, what):
        while not condition():
            assert time.monotonic() < end and job.poll() is None, what
            time.sleep(0.02)

    if moment == "load":
        wait_until(lambda: stopped(hosts.processes(hosts.names[1])), "rank 3 stops as it opens the weights")
    else:
        wait_until(lambda: results.exists() and results.stat().st_size, "the first result is on disk")
    hosts.ip("-n", hosts.names[0], "link", "set", "cable", "down")
    for pid in stopped(hosts.processes(hosts.names[1])):
        os.kill(pid, signal.SIGCONT)
    _, errors = job.communicate(timeout=PATIENCE)
    assert job.returncode != 0, f"exit code 0: {errors}"
    assert any("longspan: error:" in line and ("rank 2" in line or "rank 3" in line) and ' "' in line
               for line in errors.splitlines()), f"no line names a rank beyond the cut and a collective: {errors}"
    if moment != "load":
        got = lines(work, results.name)
        assert [line.get("finish_reason") for line in got] == ["length", "error"], got
    while any(hosts.processes(name) for name in hosts.names):
        assert time.monotonic() < end, "no process is left"
        time.sleep(0.1)


def main():
    try:
        with Hosts() as hosts, tempfile.TemporaryDirectory(prefix="mpi_hosts_") as work:
            same_tokens(hosts, pathlib.Path(work))
            print("two hosts: the same tokens", flush=True)
        for moment in ("load", "prefill", "decode") if os.environ.get("FULL_TESTS") == "1" else ():
            with Hosts() as hosts, tempfile.TemporaryDirectory(prefix="mpi_hosts_") as work:
                cut_cable(hosts, pathlib.Path(work), moment)
                print(f"a cable cut at {moment}: as documented", flush=True)
    except NoNamespaces as error:
        print(f"SKIPPED: no network namespaces here: {error}")
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
