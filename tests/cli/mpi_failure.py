#!/usr/bin/env python3
"""A rank that is stopped or killed, at load, in prefill, in decode, while rank 0 waits for requests: the job ends, says who
it was and in which collective the others were, keeps what was done, and leaves nobody behind; also while KV that is on one
rank each meets the queries (ring, gather-q). A job that is stopped as a whole for longer than its time limit goes on.

usage: mpi_failure.py SOURCE_DIR LONGSPAN PRELOAD MPIRUN [CASE...]
CASE: {stop,kill}-{load,prefill,decode,idle,ring,gather_q}-RANK, freeze
Without cases: every deed at every moment to one rank, with FULL_TESTS=1 to every rank; freeze.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

SOURCE, LONGSPAN, PRELOAD, MPIRUN = sys.argv[1:5]
sys.path.insert(0, os.path.join(SOURCE, "tests/support"))
from job_processes import job_processes  # noqa: E402

MODEL = os.path.join(SOURCE, "models/recall-moe")
RANKS = 3
COMM_TIMEOUT = 2  # seconds; what a case waits for at most is far above it, for a busy machine
PATIENCE = 90
# mpirun waits so long before it tells the others to stop, and again before it kills them.
MPIRUN_PATIENCE = 2
SHORT = {"id": "short", "prompt": "a", "max_tokens": 1}
LONG_PROMPT = {"id": "long", "prompt_token_ids": [100 + i % 900 for i in range(30000)], "max_tokens": 1}
LONG_ANSWER = {"id": "long", "prompt": "b", "max_tokens": 30000, "ignore_eos": True}
# With the first as a start that is found in the cache, every step of the second meets earlier keys.
SHARDED = [dict(LONG_PROMPT, id="short", prompt_token_ids=LONG_PROMPT["prompt_token_ids"][:1024]), LONG_PROMPT]
SHARD_EXCHANGES = {"ring": "ring", "gather_q": "gather-q"}
SHARD_COLLECTIVE = re.compile(r'"(kv|earlier kv|queries|partial attention) of layer \d+"')
SOME_ANSWER = dict(LONG_ANSWER, max_tokens=500)
# What a survivor says when mpirun, which has seen a process die, tells it to stop.
TOLD_TO_STOP = re.compile(r'^longspan: error: .*rank (\d) left \w+ ".+": rank \1 was told to stop while it waited for rank', re.M)


class LauncherCrashed(Exception):
    """mpirun of Open MPI 4.1.4 now and then crashes itself, in its forwarding of output, when a rank is killed."""


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {PATIENCE} s until {what}")
        time.sleep(0.02)


def check_results(content, deed, moment, rank):
    assert content.endswith(b"\n"), "the last line is cut"
    lines = [json.loads(line) for line in content.splitlines()]
    got = [(line["id"], line["finish_reason"], line.get("error", {}).get("code")) for line in lines]
    expected = [("short", "length", None)]
    # What had not finished is told by rank 0, unless that is the lost one; mpirun wakes a stopped one before it kills it.
    if moment != "idle" and (rank != 0 or deed == "stop" and len(got) > 1):
        # Between two steps mpirun's signal is an interrupt like any other.
        interrupted = deed == "kill" and got[1:] == [("long", "error", "cancelled")]
        expected.append(("long", "error", "cancelled" if interrupted else "rank_lost"))
    assert got == expected, f"results {got}, not {expected}"


def freeze(work, marker):
    """All ranks, for twice the limit, and wakes them up again."""
    ranks = {pid: rank for pid, rank in job_processes(marker).items() if rank is not None}
    assert sorted(ranks.values()) == list(range(RANKS)), ranks
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in ranks:
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(2 * COMM_TIMEOUT)


def run_case(case, work):
    deed, moment, rank = case.split("-") if case != "freeze" else ("freeze", "decode", "0")
    rank = int(rank)
    number = {"stop": signal.SIGSTOP, "kill": signal.SIGKILL}.get(deed)
    results, requests, errors = work / "results.jsonl", work / "requests.jsonl", work / "stderr"
    second = SOME_ANSWER if deed == "freeze" else LONG_PROMPT if moment == "prefill" else LONG_ANSWER
    asked = SHARDED if moment in SHARD_EXCHANGES else [SHORT] if moment in ("load", "idle") else [SHORT, second]
    requests.write_text("".join(json.dumps(r) + "\n" for r in asked))
    name = f"{work.parent.name}/{work.name}"
    marker = f"MPI_FAILURE_CASE={name}"
    environment = dict(os.environ, MPI_FAILURE_CASE=name)
    command = [MPIRUN, "--mca", "odls_base_sigkill_timeout", str(MPIRUN_PATIENCE), "-n", str(RANKS), "-x", "MPI_FAILURE_CASE"]
    if moment == "load":
        command += ["-x", f"LD_PRELOAD={PRELOAD}", "-x", "SIGNAL_AT_OPEN=model.safetensors", "-x", f"SIGNAL_RANK={rank}",
                    "-x", f"SIGNAL_NUMBER={int(number)}"]
    # One token a step and a chunk of 512: a step takes long enough to be hit, and the limit is not.
    command += [LONGSPAN, "batch", "-m", MODEL, "-i", "-", "-o", str(results), "--comm", "mpi", "--cp", str(RANKS),
                "--comm-timeout", str(COMM_TIMEOUT if deed != "kill" else PATIENCE), "--chunked-prefill-size", "512", "--threads", "1"]
    if moment in SHARD_EXCHANGES:
        command += ["--kv", "shard", "--kv-exchange", SHARD_EXCHANGES[moment], "--max-running-requests", "1"]
    with open(errors, "wb") as stderr:
        job = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
    try:
        job.stdin.write(requests.read_bytes())
        job.stdin.flush()
        if moment != "idle":
            job.stdin.close()
        if moment != "load":
            wait_until(lambda: results.exists() and results.stat().st_size > 0, "the first result is on disk")
        if deed == "freeze":
            freeze(work, marker)
        elif moment != "load":
            victims = [pid for pid, of in job_processes(marker).items() if of == rank]
            assert len(victims) == 1, f"one process of rank {rank}: {victims}"
            os.kill(victims[0], number)
        code = job.wait(PATIENCE)
        if code < 0:
            raise LauncherCrashed(f"mpirun died of signal {-code}")
        text = errors.read_text(errors="replace")
        if deed == "freeze":
            assert code == 0, f"exit code {code}, not 0"
            lines = [json.loads(line) for line in results.read_text().splitlines()]
            assert [line["usage"]["completion_tokens"] for line in lines] == [1, SOME_ANSWER["max_tokens"]], lines
            return
        if deed == "stop":
            assert code == 5, f"exit code {code}, not 5"
            said = [line for line in text.splitlines() if line.startswith("longspan: error:") and f"rank {rank}" in line]
            assert said, f"no line of ours names rank {rank}"
            assert any(' "' in line for line in said), f"no collective is named: {said}"
            # Without rank 0 they may have come to the end of the step and wait for the next one.
            shown = moment not in SHARD_EXCHANGES or rank == 0 or any(map(SHARD_COLLECTIVE.search, said))
            assert shown, f"no exchange of KV is named: {said}"
        else:
            assert code != 0, "exit code 0"
            assert f"rank {rank}" in text, f"stderr does not name rank {rank}"
            interrupted = results.exists() and b'"cancelled"' in results.read_bytes()
            assert moment == "idle" or interrupted or TOLD_TO_STOP.search(text), "no survivor names its collective"
        if moment != "load":
            check_results(results.read_bytes(), deed, moment, rank)
        assert job.stdout.read() == b"", "something on standard output"
        wait_until(lambda: not job_processes(marker), "no process is left")
    except BaseException:
        print(f"--- stderr of {case}:\n{errors.read_text(errors='replace')}---")
        raise
    finally:
        for pid in job_processes(marker):
            os.kill(pid, signal.SIGKILL)
        job.wait()


def default_cases():
    deeds = [f"{deed}-{moment}" for moment in ("load", "prefill", "decode", "idle") for deed in ("stop", "kill")]
    sharded = [f"{deed}-{moment}" for moment in SHARD_EXCHANGES for deed in ("stop", "kill")]
    if os.environ.get("FULL_TESTS") == "1":
        return [f"{deed}-{rank}" for deed in deeds + sharded for rank in range(RANKS)] + ["freeze"]
    return ([f"{deed}-{(2 * i + 1) % RANKS}" for i, deed in enumerate(deeds)] +
            [f"{deed}-{1 + i % 2}" for i, deed in enumerate(sharded)] + ["freeze"])


def main():
    failures = 0
    for case in sys.argv[5:] or default_cases():
        with tempfile.TemporaryDirectory(prefix="mpi_failure_") as work:
            start = time.monotonic()
            try:
                try:
                    run_case(case, pathlib.Path(work))
                except LauncherCrashed as crash:
                    print(f"{case}: {crash}; once more", flush=True)
                    again = pathlib.Path(work) / "again"
                    again.mkdir()
                    run_case(case, again)
                print(f"{case}: as documented ({time.monotonic() - start:.1f} s)", flush=True)
            except (AssertionError, LauncherCrashed) as error:
                failures += 1
                print(f"FAILED: {case}: {error}", flush=True)
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
