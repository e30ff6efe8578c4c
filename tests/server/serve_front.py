#!/usr/bin/env python3
"""`longspan serve --comm mpi`: the ranks are processes, which a front starts, watches and starts again. The same answers as
with threads; a rank that is killed or stopped; a drain; a front that is killed; wrong input; and the same under mpirun.

usage: serve_front.py SOURCE_DIR LONGSPAN MPIRUN CHECK...
"""
import contextlib
import glob
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import live_server
from job_server import JobServer, in_background
from live_server import PATIENCE, Server, expect, expect_equal, wait_for

SOURCE, LONGSPAN, MPIRUN = sys.argv[1:4]
sys.path.insert(0, os.path.join(SOURCE, "tests/support"))
from job_processes import job_processes  # noqa: E402

MODEL = os.path.join(SOURCE, "models/recall-moe")
WORDS = (pathlib.Path(MODEL) / "demo/document.txt").read_text().split()
M = {"model": "recall-moe"}
SHORT = {**M, "prompt": " ".join(WORDS[:300]), "max_tokens": 16, "temperature": 0}
LONG = {**M, "prompt": [100 + i % 900 for i in range(30000)], "max_tokens": 1}
ENDLESS = {**M, "prompt": "x", "max_tokens": 30000, "ignore_eos": True, "stream": True}
COMPUTE = ["-m", MODEL, "--cp", "2", "--dtype", "f32", "--chunked-prefill-size", "512"]
COMM_TIMEOUT = 5  # seconds; more than MPI takes to start on a busy machine
RANKS = [*COMPUTE, "--comm", "mpi", "--threads", "1"]


class Job(JobServer):
    """A server whose processes, of whatever kind, have a mark in their environment."""

    count = 0

    def __init__(self, *flags, program=LONGSPAN, ranks=RANKS, env=None, **more):
        Job.count += 1
        self.mark = f"SERVE_FRONT_TEST={os.getpid()}.{Job.count}"
        folder = tempfile.TemporaryDirectory(prefix="serve_front_")
        super().__init__(folder, program, *ranks, *flags, **more,
                         env={"SERVE_FRONT_TEST": self.mark.split("=")[1], "TMPDIR": folder.name, **(env or {})})

    def processes(self):
        """Those that run, by rank; None: no rank."""
        return job_processes(self.mark)

    def kill_rank(self, rank, sign=signal.SIGKILL):
        victims = [pid for pid, of in self.processes().items() if of == rank]
        expect_equal(len(victims), 1, f"processes of rank {rank}")
        for pid in victims:
            os.kill(pid, sign)

    def health(self):
        status, _, body = self.ask("GET", "/health")
        return status, body["status"]

    def computes(self, count=1):
        """Until that many requests have begun to be computed."""
        def begun():
            status, _, body = self.ask("GET", "/v1/requests")
            return status == 200 and sum(request["processed_tokens"] > 0 for request in body["data"]) >= count
        wait_for(begun, f"{count} requests are being computed")


def text_of(server, body):
    return server.post("/v1/completions", body)[2]["choices"][0]["text"]


def check_answers():
    with Server(LONGSPAN, *COMPUTE) as threads:
        wanted = text_of(threads, SHORT)
        page, models = threads.ask("GET", "/")[2], threads.ask("GET", "/v1/models")[2]["data"][0]["id"]
        expect_equal(threads.stop()[0], 0, "exit code with threads")
    with Job("--drain-timeout", str(PATIENCE), env={"LONGSPAN_API_KEY": "sk-test"}) as front:
        key = {"key": "sk-test"}
        expect_equal(front.health(), (200, "ok"), "health needs no key")
        for method, path in (("POST", "/v1/completions"), ("GET", "/metrics")):
            expect_equal(front.ask(method, path, SHORT if method == "POST" else None)[0], 401, f"{path} without a key")
        expect_equal(front.post("/v1/completions", SHORT, **key)[2]["choices"][0]["text"], wanted, "an answer")
        expect_equal(front.ask("GET", "/v1/models", **key)[2]["data"][0]["id"], models, "the model")
        expect_equal(front.ask("GET", "/")[2], page, "the page")
        expect_equal(front.post("/v1/completions", {**SHORT, "n": 0}, **key)[0], 400, "a refusal")
        metrics = front.ask("GET", "/metrics", **key)[2]
        expect("longspan_ready{model=\"recall-moe\"} 1" in metrics, "the metrics of rank 0")
        expect("\nlongspan_rank_job_restarts_total 0\n" in metrics, "the counter of restarts")
        whole, results = in_background(lambda: front.post("/v1/completions", {**ENDLESS, "stream": False, "max_tokens": 200}, **key))
        wait_for(lambda: front.ask("GET", "/v1/requests", **key)[2]["data"], "a request runs")
        code, said = front.stop()
        whole.join()
        expect_equal(results[0][0], 200, "status of a request under way in a drain")
        expect_equal(results[0][2]["usage"]["completion_tokens"], 200, "its tokens")
        expect_equal((code, said.count("stopping:"), said.count("error")), (0, 1, 0), f"a drain; it said {said}")
        expect_equal(glob.glob(front.folder.name + "/longspan-*"), [], "folders left")


def check_hccl():
    """On cards of the CANN simulator that ASCEND_HOME_PATH names."""
    cards = ["-m", MODEL, "--backend", "ascend", "--comm", "hccl", "--cp", "2", "--max-total-tokens", "4096", "--comm-timeout",
             str(COMM_TIMEOUT)]
    with Server(LONGSPAN, *cards) as threads:
        wanted = text_of(threads, SHORT)
        expect_equal(threads.stop()[0], 0, "exit code with threads")
    with Job("--restart-on-failure", "1", ranks=cards) as front:
        expect_equal(sorted(rank for rank in front.processes().values() if rank is not None), [0, 1], "ranks")
        expect_equal(text_of(front, SHORT), wanted, "an answer")
        stream, streamed = in_background(lambda: list(front.stream("/v1/completions", {**ENDLESS, "max_tokens": 3000})))
        front.computes()
        front.kill_rank(1)
        stream.join()
        expect_equal(streamed[0][-1]["error"]["code"], "rank_lost", "a stream in flight")
        wait_for(lambda: front.health() != (200, "ok"), "health of a server without a rank")
        wait_for(lambda: front.health() == (200, "ok"), "health is green again")
        expect_equal(text_of(front, SHORT), wanted, "the next answer")
        expect_equal(front.stop()[0], 0, "exit code of a drain")


def check_restart():
    with Job("--restart-on-failure", "2") as front:
        wanted = text_of(front, SHORT)
        whole, results = in_background(front.post, "/v1/completions", LONG)
        stream, streamed = in_background(lambda: list(front.stream("/v1/completions", ENDLESS)))
        front.computes(2)
        front.kill_rank(1)
        whole.join()
        stream.join()
        expect_equal((results[0][0], results[0][2]["error"]["code"]), (503, "rank_lost"), "a request in flight")
        expect_equal((streamed[0][-1]["error"]["code"], sum("error" in event for event in streamed[0])), ("rank_lost", 1),
                     "a stream in flight")
        expect_equal(front.health()[0], 503, "health of a server without a rank")
        wait_for(lambda: front.health() == (200, "ok"), "health is green again")
        expect_equal(text_of(front, SHORT), wanted, "the next answer")
        expect("\nlongspan_rank_job_restarts_total 1\n" in front.ask("GET", "/metrics")[2], "a restart is counted")
        front.kill_rank(0)  # while nothing is asked
        wait_for(lambda: front.health()[0] == 503, "health without rank 0")
        wait_for(lambda: front.health() == (200, "ok"), "health is green once more")
        expect_equal(text_of(front, SHORT), wanted, "the answer after that")
        code, said = front.stop()
        expect_equal((code, said.count("starting the ranks again in")), (0, 2), f"exit code and notes; it said {said}")


def check_loss():
    with Job("--comm-timeout", str(COMM_TIMEOUT)) as front:
        whole, results = in_background(front.post, "/v1/completions", LONG)
        front.computes()
        front.kill_rank(1, signal.SIGSTOP)
        whole.join()
        error = results[0][2]["error"]
        expect_equal((results[0][0], error["code"]), (503, "rank_lost"), "a request in flight")
        expect("rank 1" in error["message"], f"the rank is named: {error['message']}")
        code, said = front.end()
        expect_equal(code, 5, f"exit code; it said {said}")


def check_idle_loss():
    with Job("--comm-timeout", str(COMM_TIMEOUT)) as front:
        front.kill_rank(1, signal.SIGSTOP)
        code, said = front.end()
        expect_equal(code, 5, f"exit code of a server whose idle rank is stopped; it said {said}")
        expect("rank 1 has given rank 0 no sign of life" in said, f"the rank is named: {said}")


def check_killed_front():
    with Job() as front:
        stream, _ = in_background(lambda: list(front.stream("/v1/completions", ENDLESS)))
        front.computes()
        front.process.kill()
        with contextlib.suppress(Exception):
            stream.join()
        front.end()
        expect_equal(glob.glob(front.folder.name + "/longspan-*"), [], "folders left")


def refused(what, code, says, *flags, lines=1):
    run = subprocess.run([LONGSPAN, "serve", "--port", "0", *RANKS, *flags], capture_output=True, text=True, timeout=PATIENCE)
    errors = [line for line in run.stderr.splitlines() if line.startswith("longspan: error:")]
    expect_equal((run.returncode, len(errors)), (code, 1), f"{what}: exit code and errors: {run.stderr}")
    expect(says in run.stderr, f"{what}: {run.stderr}")
    expect(lines is None or len(run.stderr.splitlines()) == lines, f"{what}: lines: {run.stderr}")


def check_refusals():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused("a port in use", 2, f"can't listen at 127.0.0.1:{port}", "--port", str(port))
    refused("no launcher", 2, "can't run /nonexistent/mpirun", "--mpirun", "/nonexistent/mpirun --bind-to none", lines=2)
    refused("a layout that is none", 2, "nearest legal setting", "--tp", "3")
    refused("no model", 3, "/nonexistent", "-m", "/nonexistent")
    # What only the ranks find out is told once, and they are not started again.
    refused("too little memory", 4, "the KV pool needs", "--mem-fraction-static", "0.000001", "--restart-on-failure", "3", lines=None)
    refused("too few places", 2, "before rank 0 was there", "--mpirun", f"{MPIRUN} --nooversubscribe -H localhost:1",
            "--restart-on-failure", "3", lines=None)


def check_under_mpirun():
    """No front: rank 0 listens itself."""
    with tempfile.TemporaryDirectory(prefix="serve_front_") as folder:
        launcher = pathlib.Path(folder) / "launched"
        launcher.write_text(f'#!/bin/sh\nexec {MPIRUN} -n 2 {LONGSPAN} "$@"\n')
        launcher.chmod(0o755)
        for deed in ("drain", "stop"):
            with Job("--comm-timeout", str(COMM_TIMEOUT), program=str(launcher)) as server:
                time.sleep(COMM_TIMEOUT + 1)  # with nothing to do
                whole, results = in_background(server.post, "/v1/completions", LONG if deed == "stop" else SHORT)
                if deed == "stop":
                    server.computes()
                    server.kill_rank(1, signal.SIGSTOP)
                    whole.join()
                    expect_equal((results[0][0], results[0][2]["error"]["code"]), (503, "rank_lost"), "a request in flight")
                else:
                    whole.join()
                    expect_equal(results[0][0], 200, "an answer under mpirun")
                    server.kill_rank(0, signal.SIGTERM)
                expect_equal(server.end()[0], {"drain": 0, "stop": 5}[deed], f"exit code of mpirun after a {deed}")


for check in sys.argv[4:]:
    begin = time.monotonic()
    globals()[f"check_{check}"]()
    print(f"{check}: {time.monotonic() - begin:.1f} s", flush=True)
live_server.finish("serve front")
