#!/usr/bin/env python3
"""The model in the box over mpirun: the same tokens and log-probabilities as on one rank, in layouts; what goes wrong at
start-up is told once; standard output is rank 0's alone.

usage: mpi_end_to_end.py SOURCE_DIR LONGSPAN MPIRUN     with FULL_TESTS=1: every legal layout of 2, 3, 4 ranks
"""
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SOURCE, LONGSPAN, MPIRUN = sys.argv[1:4]
MODEL = os.path.join(SOURCE, "models/recall-moe")
TIMEOUT = 120  # seconds
# The bound that the golden tests have for f32.
LOGPROB_BOUND = 1e-3
# What serving engineers type.
SERVING = ("--trust-remote-code --mem-fraction-static 0.7 --max-running-requests 32 --attention-backend cpu --tp-size 4 "
           "--moe-dp-size 2 --attn-cp-size 2 --cuda-graph-max-bs-decode 32 --enable-prefill-context-parallel").split()
FEW = ["--tp 2 --cp 2", "--tp 2 --cp 1 --ep 2", "--tp 3 --cp 3 --moe-dp 1 --ep 3", "--tp 4 --cp 2 --moe-dp 1 --ep 2",
       "--tp 4 --cp 4 --moe-dp 2 --ep 2", "--tp 4 --cp 1 --moe-dp 1", "--tp 2 --cp 2 --kv shard",
       "--tp 3 --cp 3 --kv shard --kv-exchange ring", "--tp 4 --cp 2 --moe-dp 2 --kv shard --kv-exchange gather-q"]
COMPUTE = ("--dtype f32 --chunked-prefill-size 150 --page-size 16 --max-total-tokens 4096 --threads 1").split()
failures = []


def expect(ok, what):
    if not ok:
        failures.append(what)
        print(f"FAILED: {what}", flush=True)


def run(command, **more):
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, **more)


def requests():
    """Long ones that are cut, short ones that are not, one that shares a prefix, sampling."""
    words = (pathlib.Path(MODEL) / "demo/document.txt").read_text().split()
    return [
        {"prompt": " ".join(words[:300]), "max_tokens": 8, "prompt_logprobs": True},
        {"prompt": " ".join(words[:200] + words[400:450]), "max_tokens": 8, "logprobs": 2},
        {"prompt": "The code word", "max_tokens": 12, "logprobs": 1},
        {"prompt": "x", "max_tokens": 6, "temperature": 0.8, "top_p": 0.9, "seed": 7},
        {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5},
    ]


def numbers(line):
    """Log-probabilities of a result."""
    chosen = [token["logprob"] for token in line.get("logprobs", [])]
    return chosen + [x for x in line.get("prompt_logprobs", []) if x is not None]


def answer(work, launcher, flags):
    """The closing object's text and the results of a batch."""
    results = work / "results.jsonl"
    results.unlink(missing_ok=True)
    return run(launcher + [LONGSPAN, "batch", "-m", MODEL, "-i", str(work / "in.jsonl"), "-o", str(results), "--json"] +
               COMPUTE + flags)


def compare_layout(work, flags, ranks, expected, code=0):
    name = " ".join(flags)
    done = answer(work, [MPIRUN, "-n", str(ranks)], ["--comm", "mpi"] + flags)
    expect(done.returncode == code, f"{name}: exit code {done.returncode}: {done.stderr}")
    expect(len(done.stdout.splitlines()) == 1, f"{name}: standard output is rank 0's line alone: {done.stdout!r}")
    plan = run([LONGSPAN, "plan", "-m", MODEL, "--lengths", "10", "--comm", "mpi", "--json"] + COMPUTE + flags)
    predicted, held = json.loads(plan.stdout)["message_bytes"], json.loads(done.stdout)["engine"]["message_bytes"]
    expect(0 < held <= predicted, f"{name}: {held} bytes held for messages, {predicted} predicted")
    got = [json.loads(line) for line in (work / "results.jsonl").read_text().splitlines()]
    expect(len(got) == len(expected), f"{name}: {len(got)} lines")
    for mine, wanted in zip(got, expected):
        what = f"{name}: request {wanted['id']}"
        for field in ("token_ids", "text", "finish_reason", "error", "usage"):
            expect(mine.get(field) == wanted.get(field), f"{what}: {field} is {mine.get(field)}, not {wanted.get(field)}")
        far = max((abs(a - b) for a, b in zip(numbers(mine), numbers(wanted))), default=0)
        expect(len(numbers(mine)) == len(numbers(wanted)) and far <= LOGPROB_BOUND, f"{what}: log-probabilities {far} apart")
    print(f"{name}: compared", flush=True)


def compare_recall():
    """The serving layout answers as many questions as one rank does."""
    eval_recall = [LONGSPAN, "eval", "recall", "-m", MODEL, "--limit", "32", "--lengths", "1024", "--parallel", "32", "--json"]
    alone = run(eval_recall)
    job = run([MPIRUN, "-n", "4"] + eval_recall + ["--comm", "mpi", "--threads", "1"] + SERVING)
    scores = [json.loads(done.stdout) for done in (alone, job)]
    for score in scores:
        for field in ("seconds", "peak_memory_bytes", "engine"):
            del score[field]
    expect(scores[0] == scores[1], f"recall: {scores[1]} over MPI, {scores[0]} on one rank")
    print(f"recall: {scores[0]}", flush=True)


def layouts():
    if os.environ.get("FULL_TESTS") != "1":
        return [flags.split() for flags in FEW]
    legal = []
    for tp, cp, moe_dp, ep in itertools.product((2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)):
        flags = f"--tp {tp} --cp {cp} --moe-dp {moe_dp} --ep {ep}".split()
        if run([LONGSPAN, "plan", "-m", MODEL, "--lengths", "10"] + flags).returncode == 0:
            legal.append(flags)
    exchanges = itertools.cycle(("gather-kv", "ring", "gather-q", "auto"))
    sharded = [flags + ["--kv", "shard", "--kv-exchange", next(exchanges)] for flags in legal if flags[3] != "1"]
    return legal + sharded


def refused(what, command, code, says):
    done = run(command)
    expect(done.returncode == code, f"{what}: exit code {done.returncode}, not {code}")
    expect(done.stderr.count("longspan: error:") == 1 and says in done.stderr, f"{what}: {done.stderr}")
    expect(done.stdout == "", f"{what}: {done.stdout!r} on standard output")


def main():
    with tempfile.TemporaryDirectory(prefix="mpi_end_to_end_") as folder:
        work = pathlib.Path(folder)
        os.environ["XDG_CACHE_HOME"] = str(work / "cache")
        asked = [json.dumps(request) + "\n" for request in requests()]
        (work / "in.jsonl").write_text("".join(asked))
        answer(work, [], [])
        expected = [json.loads(line) for line in (work / "results.jsonl").read_text().splitlines()]
        compare_layout(work, SERVING, 4, expected)
        for flags in layouts():
            compare_layout(work, flags, int(flags[1]), expected)
        # A request that fails: its line says why, the others are answered, and so does the exit code.
        (work / "in.jsonl").write_text("".join(asked[:2]) + '{"prompt": "x", "max_tokens": -1}\n')
        answer(work, [], [])
        expected = [json.loads(line) for line in (work / "results.jsonl").read_text().splitlines()]
        compare_layout(work, ["--cp", "2"], 2, expected, code=1)
        if os.environ.get("FULL_TESTS") == "1":
            compare_recall()

        ask = ["generate", "-m", MODEL, "-p", "Hello", "--comm", "mpi", "-q"]
        done = run([LONGSPAN] + ask + ["-n", "2"])
        expect(done.returncode == 0, f"a job of one without a launcher: {done.stderr}")
        refused("too few processes", [MPIRUN, "-n", "2", LONGSPAN] + ask + ["--cp", "4"], 2, "start it with mpirun -n 4")
        refused("an illegal layout", [MPIRUN, "-n", "3", LONGSPAN] + ask + ["--tp", "3"], 2, "nearest legal setting")
        refused("a prompt that rank 0 can't read",
                [MPIRUN, "-n", "2", LONGSPAN, "generate", "-m", MODEL, "-f", "/nonexistent", "--comm", "mpi", "--cp", "2"], 3, "/nonexistent")
        (work / "empty").mkdir()
        # The model is missing where only rank 1 looks.
        script = f'if [ "$OMPI_COMM_WORLD_RANK" = 1 ]; then m={work}/empty; else m={MODEL}; fi; exec {LONGSPAN} generate -m $m '
        refused("a model that rank 1 lacks",
                [MPIRUN, "-n", "2", "sh", "-c", script + "-p x --comm mpi --cp 2"], 3, "rank 1: ")
        script = f'exec {LONGSPAN} generate -m {MODEL} --page-size $((16 + OMPI_COMM_WORLD_RANK)) '
        refused("ranks with other flags", [MPIRUN, "-n", "2", "sh", "-c", script + "-p x --comm mpi --cp 2"], 2,
                "the processes of the job disagree")
        script = f'[ "$OMPI_COMM_WORLD_RANK" = 1 ] && export LONGSPAN_BACKEND=reference; exec {LONGSPAN} generate -m {MODEL} '
        refused("a rank with another backend", [MPIRUN, "-n", "2", "sh", "-c", script + "-p x --comm mpi --cp 2"], 2,
                "--backend reference")
        # Told once, by rank 0, however many processes it is about.
        threads = f"--threads {len(os.sched_getaffinity(0)) + 1}"
        done = run([MPIRUN, "-n", "2", LONGSPAN] + ask + ["-n", "2", "--cp", "2"] + threads.split())
        expect(done.returncode == 0, f"more threads than cores: {done.stderr}")
        expect(done.stderr.count(f"{threads}: rank 0 may use") == 1 and done.stderr.count(threads) == 1,
               f"more threads than cores are told once: {done.stderr!r}")
    print("mpi end to end: as documented" if not failures else f"{len(failures)} failed")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
