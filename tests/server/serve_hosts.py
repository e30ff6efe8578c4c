#!/usr/bin/env python3
"""`longspan serve --comm mpi` with ranks on two hosts, which are network namespaces with a cable between them: the tokens of
`longspan generate`; a cable that is cut and mended; a far rank that is killed; a rank 0 on the other host. Exits with 77
where the machine forbids namespaces.

usage: serve_hosts.py SOURCE_DIR LONGSPAN MPIRUN
"""
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import live_server
from job_server import JobServer, in_background
from live_server import PATIENCE, expect, expect_equal, wait_for

SOURCE, LONGSPAN, MPIRUN = sys.argv[1:4]
sys.path.insert(0, os.path.join(SOURCE, "tests/support"))
from network_hosts import SSH, Hosts, NoNamespaces  # noqa: E402

SKIPPED = 77
COMM_TIMEOUT = 5  # seconds; more than MPI takes to start on a busy machine
MODEL = os.path.join(SOURCE, "models/recall-moe")
WORDS = (pathlib.Path(MODEL) / "demo/document.txt").read_text().split()
PROMPT = " ".join(WORDS[:500])
M = {"model": "recall-moe"}
SHORT = {**M, "prompt": PROMPT, "max_tokens": 16, "temperature": 0}
LONG = {**M, "prompt": [100 + i % 900 for i in range(30000)], "max_tokens": 1}
RANKS = ["-m", MODEL, "--dtype", "f32", "--threads", "1", "--comm", "mpi", "--cp", "2", "--chunked-prefill-size", "512",
         "--min-tokens-per-rank", "1"]


def program_on(host, folder):
    """The program as it is started on that host, in one process."""
    program = pathlib.Path(folder, "longspan")
    program.write_text(f"#!/bin/sh\nexec ip netns exec {host} unshare --uts sh -c "
                       f"'hostname {host} && exec {LONGSPAN} \"$@\"' sh \"$@\"\n")
    program.chmod(0o755)
    return str(program)


def environment(hosts, folder, *slots):
    """`slots`: of each host."""
    hostfile = pathlib.Path(folder, "HOSTS")
    hostfile.write_text("".join(f"{name} slots={count}\n" for name, count in zip(hosts.names, slots)))
    launcher = [*hosts.launcher(MPIRUN, SSH), "--bind-to", "none", "--hostfile", str(hostfile)]
    return {"LONGSPAN_MPIRUN": " ".join(launcher), "TMPDIR": folder}


class Front(JobServer):
    """A server on the first host, with one rank on each."""

    def __init__(self, hosts, *flags):
        self.hosts = hosts
        folder = tempfile.TemporaryDirectory(prefix="serve_hosts_")
        super().__init__(folder, program_on(hosts.names[0], folder.name), *RANKS, *flags,
                         env=environment(hosts, folder.name, 1, 1))

    def processes(self):
        return [pid for name in self.hosts.names for pid in self.hosts.processes(name)]

    def connect(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with self.hosts.here():
            connection.connect()
        return connection

    def health(self):
        status, _, body = self.ask("GET", "/health")
        return status, body["status"], body.get("reason", "")

    def begin_long(self):
        """A request that is being computed: its thread and where its answer comes."""
        thread, answers = in_background(self.post, "/v1/completions", LONG)
        wait_for(lambda: any(request["processed_tokens"] for request in self.ask("GET", "/v1/requests")[2]["data"]),
                 "the request is being computed")
        return thread, answers


def expect_lost(answers, says):
    status, _, body = answers[0]
    expect_equal((status, body["error"]["code"]), (503, "rank_lost"), "what was in flight")
    expect(says in body["error"]["message"], f"the reason: {body['error']['message']}")


def check_cable(hosts):
    done = subprocess.run([LONGSPAN, "generate", "-m", MODEL, "--dtype", "f32", "-p", PROMPT, "-n", "16", "--json"],
                          capture_output=True, text=True, check=True, timeout=PATIENCE)
    wanted = json.loads(done.stdout)["text"]
    with Front(hosts, "--comm-timeout", str(COMM_TIMEOUT), "--restart-on-failure", "5") as front:
        def answer():
            return front.post("/v1/completions", SHORT)[2]["choices"][0]["text"]

        before = hosts.bytes_sent()
        expect_equal(answer(), wanted, "the answer of two hosts")
        expect(hosts.bytes_sent() - before > 500 * 128 * 4, "keys and values went over the cable")
        thread, answers = front.begin_long()
        hosts.ip("-n", hosts.names[0], "link", "set", "cable", "down")
        thread.join()
        expect_lost(answers, "rank 1")
        wait_for(lambda: front.health()[:2] == (503, "failed"), "health without a cable")
        reason = front.health()[2]
        expect("rank 1" in reason, f"its reason: {reason}")
        hosts.ip("-n", hosts.names[0], "link", "set", "cable", "up")
        wait_for(lambda: front.health()[1] == "ok", "health is green when the cable is mended")
        expect_equal(answer(), wanted, "the answer after that")
        code, said = front.stop()
        expect_equal(code, 0, f"exit code after a drain; it said {said}")
        expect("starting the ranks again in" in said, f"a note of a new start: {said}")


def check_killed(hosts):
    with Front(hosts) as front:
        thread, answers = front.begin_long()
        far = [pid for pid in hosts.processes(hosts.names[1])
               if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().startswith(LONGSPAN.encode())]
        expect_equal(len(far), 1, "ranks on the other host")
        os.kill(far[0], signal.SIGKILL)
        thread.join()
        expect_lost(answers, "rank")
        code, said = front.end()
        expect_equal(code, 5, f"exit code without a far rank; it said {said}")


def check_elsewhere(hosts):
    """All ranks are on a machine that is not the front's."""
    with tempfile.TemporaryDirectory(prefix="serve_hosts_") as folder:
        run = subprocess.run([program_on(hosts.names[1], folder), "serve", "--port", "0", *RANKS], capture_output=True, text=True,
                             env={**os.environ, **environment(hosts, folder, 2)}, timeout=PATIENCE)
    expect_equal(run.returncode, 2, f"exit code: {run.stderr}")
    expect("rank 0 must run on the machine of the server that started it" in run.stderr, f"the reason: {run.stderr}")


try:
    for check in (check_cable, check_killed, check_elsewhere):
        begin = time.monotonic()
        with Hosts() as two_hosts:
            check(two_hosts)
        print(f"{check.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
except NoNamespaces as error:
    print(f"SKIPPED: no network namespaces here: {error}")
    sys.exit(SKIPPED)
live_server.finish("serve hosts")
