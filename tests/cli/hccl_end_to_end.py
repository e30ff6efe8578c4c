#!/usr/bin/env python3
"""The serving command line on cards of the CANN simulator, word for word: ranks as threads of one process and as processes of
mpirun give the same log-probabilities to the bit, and one card's tokens; a lost rank ends the run by name; the server answers.

usage: hccl_end_to_end.py SOURCE_DIR LONGSPAN MPIRUN RELEASE_FOLDER answers|lost|serve
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

SOURCE, LONGSPAN, MPIRUN, RELEASE, WHAT = sys.argv[1:6]
sys.path.insert(0, os.path.join(SOURCE, "tests/support"))
from job_processes import job_processes  # noqa: E402

MODEL = os.path.join(SOURCE, "models/recall-moe")
PATIENCE = 120  # seconds
COMM_TIMEOUT = 3
# What serving engineers type.
REFERENCE = (f"--model-path {MODEL} --trust-remote-code --mem-fraction-static 0.7 --max-running-requests 32 "
             "--attention-backend ascend --tp-size 4 --moe-dp-size 2 --attn-cp-size 2 --cuda-graph-max-bs-decode 32 "
             "--enable-prefill-context-parallel").split()
os.environ |= {"ASCEND_HOME_PATH": RELEASE, "ASCEND_OPP_PATH": "/opt/simulated/opp", "CANN_SIM_HBM_BYTES": str(256 << 20)}
failures = []


def expect(ok, what):
    if not ok:
        failures.append(what)
        print(f"FAILED: {what}", flush=True)


def question():
    """A fact between other words, and what is asked about it."""
    words = (pathlib.Path(MODEL) / "demo/document.txt").read_text().split()
    text = " ".join(words[:60]) + ". The code word of Mr. Kenfield is 7907. " + " ".join(words[60:90])
    return [{"role": "user", "content": text + ".\n\nQuestion: What is the code word of Mr. Kenfield?"}]


ANSWER = "The code word of Mr. Kenfield is 7907."
REQUESTS = [{"messages": question(), "max_tokens": 24, "logprobs": 1, "prompt_logprobs": True},
            {"prompt": "The code word", "max_tokens": 4, "logprobs": 1}]


def batch(work, launcher, flags, requests=REQUESTS, **environment):
    """The run, and its results without their timing."""
    (work / "in.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    results = work / "results.jsonl"
    results.unlink(missing_ok=True)
    done = subprocess.run(launcher + [LONGSPAN, "batch", *flags, "-i", str(work / "in.jsonl"), "-o", str(results), "-q"],
                          capture_output=True, text=True, timeout=PATIENCE, env=os.environ | environment)
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for line in lines:
        line.pop("timing", None)
    return done, lines


def refused(work, what, processes, flags, says, **environment):
    done, _ = batch(work, [MPIRUN, "-n", str(processes)], flags, **environment)
    expect(done.returncode == 2, f"{what}: exit code {done.returncode}")
    expect(done.stderr.count("longspan: error:") == 1 and says in done.stderr, f"{what}: {done.stderr}")


def answers(work):
    done, alone = batch(work, [], ["-m", MODEL, "--backend", "ascend"])
    expect(done.returncode == 0, f"one card: {done.stderr}")
    expect(alone[0]["text"].strip() == ANSWER, f"one card answers {alone[0]['text']!r}")
    done, threads = batch(work, [], REFERENCE)
    expect(done.returncode == 0, f"threads: {done.stderr}")
    expect([line["token_ids"] for line in threads] == [line["token_ids"] for line in alone], "threads: one card's tokens")
    done, processes = batch(work, [MPIRUN, "-n", "4"], REFERENCE)
    expect(done.returncode == 0, f"processes: {done.stderr}")
    expect(done.stdout == "", f"processes: standard output is {done.stdout!r}")
    expect(len(processes) == len(threads), f"processes: {len(processes)} results")
    for mine, other in zip(processes, threads):
        differ = [field for field in other if mine.get(field) != other[field]]
        expect(not differ, f"processes: {differ} differ from those of threads")
    # Pages dealt out to the cp ranks, in chunks, so that there are earlier keys; what travels is measured at the start.
    sharded = REFERENCE + ["--kv", "shard", "--chunked-prefill-size", "64"]
    done, dealt = batch(work, [MPIRUN, "-n", "4"], sharded, XDG_CACHE_HOME=str(work))
    expect(done.returncode == 0, f"sharded: {done.stderr}")
    expect([line["token_ids"] for line in dealt] == [line["token_ids"] for line in alone], "sharded: one card's tokens")
    expect(list((work / "longspan").glob("transfer-*.txt")), "sharded: what was measured is kept")
    refused(work, "too few processes", 2, REFERENCE, "needs as many processes, and the job has 2")
    refused(work, "too few cards", 4, REFERENCE, "rank 3: backend ascend: device 3 is not there: 3 devices are seen",
            CANN_SIM_DEVICES="3")


def rank_pid(marker, rank):
    return next((pid for pid, of in job_processes(marker).items() if of == rank), None)


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {PATIENCE} s until {what}")
        time.sleep(0.02)


def lose(work, deed):
    """Rank 2 in the middle of an answer: the others end in time and say why, and what was done is kept."""
    results, errors = work / "lost.jsonl", work / "stderr"
    results.unlink(missing_ok=True)
    marker = f"HCCL_END_TO_END={work.name}/{deed}"
    requests = [{"prompt": "a", "max_tokens": 1}, {"prompt": "b", "max_tokens": 30000, "ignore_eos": True}]
    command = [MPIRUN, "--mca", "odls_base_sigkill_timeout", "2", "-n", "4", "-x", marker.split("=")[0], LONGSPAN, "batch", *REFERENCE,
               "-i", "-", "-o", str(results), "--comm-timeout", str(COMM_TIMEOUT if deed == "stop" else PATIENCE)]
    with open(errors, "wb") as stderr:
        job = subprocess.Popen(command, env=os.environ | dict([marker.split("=")]), stdin=subprocess.PIPE, stderr=stderr)
    try:
        job.stdin.write("".join(json.dumps(request) + "\n" for request in requests).encode())
        job.stdin.close()
        wait_until(lambda: results.exists() and results.stat().st_size > 0 or job.poll() is not None, "the first result is there")
        victim = rank_pid(marker, 2)
        expect(victim is not None, f"{deed}: rank 2 runs: {errors.read_text()}")
        if victim is None:
            return
        begin = time.monotonic()
        os.kill(victim, signal.SIGSTOP if deed == "stop" else signal.SIGKILL)
        code = job.wait(PATIENCE)
        took, text = time.monotonic() - begin, errors.read_text(errors="replace")
        expect(took < COMM_TIMEOUT + 15, f"{deed}: it took {took:.1f} s")
        expect(code == 5 if deed == "stop" else code != 0, f"{deed}: exit code {code}: {text}")
        expect("rank 2" in text or "ranks that never came: 2" in text, f"{deed}: nobody names rank 2: {text}")
        expect("longspan: error: " in text, f"{deed}: nobody says why: {text}")
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        expect(lines[0]["finish_reason"] == "length" and len(lines[0]["token_ids"]) == 1, f"{deed}: results {lines}")
        wait_until(lambda: not job_processes(marker), "no process is left")
        print(f"{deed}: as documented ({took:.1f} s)", flush=True)
    finally:
        for pid in job_processes(marker):
            os.kill(pid, signal.SIGKILL)
        job.wait()


def serve(work):
    """As threads, and as processes, of which rank 0 is told to stop."""
    sys.path.insert(0, os.path.join(SOURCE, "tests/server"))
    import live_server
    launched = work / "launched"
    launched.write_text(f'#!/bin/sh\nexec {MPIRUN} -n 4 {LONGSPAN} "$@"\n')
    launched.chmod(0o755)
    marker = f"HCCL_END_TO_END={work.name}/serve"
    for program in (LONGSPAN, str(launched)):
        with live_server.Server(program, *REFERENCE, env=dict([marker.split("=")])) as server:
            status, _, body = server.post("/v1/chat/completions", {"model": "recall-moe", "messages": question(), "max_tokens": 24,
                                                                   "temperature": 0})
            answer = body["choices"][0]["message"]["content"].strip() if status == 200 else f"{status}: {body}"
            expect(answer == ANSWER, f"{program}: the server answers {answer!r}")
            if program == LONGSPAN:
                code, said = server.stop()
            else:
                os.kill(rank_pid(marker, 0), signal.SIGTERM)
                code, said = server.process.wait(PATIENCE), server.process.stderr.read()
            expect(code == 0, f"{program}: exit code {code}: {said}")
    expect(not job_processes(marker), "processes are left")


def main():
    shared_memory = set(os.listdir("/dev/shm"))
    with tempfile.TemporaryDirectory(prefix="hccl_end_to_end_") as folder:
        work = pathlib.Path(folder)
        if WHAT == "answers":
            answers(work)
        elif WHAT == "lost":
            for deed in ("stop", "kill"):
                lose(work, deed)
        else:
            serve(work)
    left = [name for name in set(os.listdir("/dev/shm")) - shared_memory if "cann" in name]
    expect(not left, f"left in /dev/shm: {left}")
    print(f"hccl end to end, {WHAT}: " + ("as documented" if not failures else f"{len(failures)} failed"))
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
