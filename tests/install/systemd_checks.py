#!/usr/bin/env python3
"""The installed systemd unit, asked inside of the system that systemd_unit.sh has started: /mnt is the source.

usage: systemd_checks.py
"""
import http.client
import os
import pathlib
import signal
import ssl
import subprocess
import sys
import threading
import time

SOURCE = pathlib.Path("/mnt")
sys.path.insert(0, str(SOURCE / "tests/server"))
sys.path.insert(0, str(SOURCE / "tests/support"))
from live_server import ask, expect, expect_equal, finish, wait_for  # noqa: E402

UNIT = "longspan.service"
SETTINGS = pathlib.Path("/etc/longspan/serve.env")
GROUP = pathlib.Path("/sys/fs/cgroup/system.slice", UNIT, "cgroup.procs")
M = {"model": "recall-moe", "temperature": 0}
SHORT = {**M, "messages": [{"role": "user", "content": "The code word of Mr. Kenfield is 7907.\n\nWhat is it?"}], "max_tokens": 12}
LONG = {**M, "prompt": "x", "max_tokens": 1500, "ignore_eos": True}


def run(*command):
    """What it says, of its errors too."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}")
    return done.stdout


def shown(name):
    return run("systemctl", "show", "--value", "--property", name, UNIT).strip()


def request(method, path, body=None, tls=None):
    connection = (http.client.HTTPSConnection("localhost", 8080, timeout=60, context=tls) if tls
                  else http.client.HTTPConnection("localhost", 8080, timeout=60))
    try:
        return ask(connection, method, path, body)
    finally:
        connection.close()


def health(tls=None):
    try:
        status, _, body = request("GET", "/health", tls=tls)
        return status, body["status"]
    except OSError:
        return None


def start(tls=None):
    run("systemctl", "start", UNIT)
    wait_for(lambda: health(tls) == (200, "ok"), "health is green after a start")


def answer():
    return request("POST", "/v1/chat/completions", SHORT)[2]["choices"][0]["message"]["content"]


def stop():
    run("systemctl", "stop", UNIT)
    expect_equal((shown("ActiveState"), shown("Result"), GROUP.exists()), ("inactive", "success", False),
                 "state, result and whether a process is left after a stop")


def settings(**variables):
    SETTINGS.parent.mkdir(exist_ok=True)
    SETTINGS.write_text("".join(f"LONGSPAN_{name}={value}\n" for name, value in variables.items()))
    SETTINGS.chmod(0o600)


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: line.split(":")[1].split() for line in lines if ":" in line}


def check_threads():
    expect_equal(run("systemd-analyze", "verify", f"/lib/systemd/system/{UNIT}"), "", "what systemd-analyze has to say")
    settings(DTYPE="f32")
    start()
    status = status_of(shown("MainPID"))
    expect("0" not in status["Uid"] and "0" not in status["Gid"], f"a user without privileges: {status['Uid']}")
    expect_equal((int(status["CapBnd"][0], 16), status["NoNewPrivs"], status["Seccomp"]), (0, ["1"], ["2"]), "what it may do")
    text = answer()
    expect(text, "an answer")

    run("systemctl", "kill", "--signal=KILL", UNIT)
    wait_for(lambda: shown("NRestarts") == "1" and health() == (200, "ok"), "a killed server is started again")
    expect_equal(answer(), text, "an answer after that")

    results = []
    asked = threading.Thread(target=lambda: results.append(request("POST", "/v1/completions", LONG)))
    asked.start()
    wait_for(lambda: request("GET", "/v1/requests")[2]["data"], "a request runs")
    stop()
    asked.join()
    expect_equal((results[0][0], results[0][2]["usage"]["completion_tokens"]), (200, LONG["max_tokens"]),
                 "status and tokens of a request under way at a stop")
    return text


def rank_processes():
    found = {}
    for pid in GROUP.read_text().split():
        try:
            environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        for entry in environment:
            if entry.startswith(b"OMPI_COMM_WORLD_RANK="):
                found[int(entry.split(b"=")[1])] = int(pid)
    return found


def check_processes(text):
    settings(DTYPE="f32", COMM="mpi", CP=2, KV="shard", RESTART_ON_FAILURE=5, MPIRUN="mpirun --bind-to none --oversubscribe")
    start()
    expect_equal(answer(), text, "an answer of two ranks")
    expect(list(pathlib.Path("/var/cache/longspan").iterdir()), "what was measured at start-up is kept")
    front, first = shown("MainPID"), rank_processes()
    expect_equal(sorted(first), [0, 1], "ranks")
    os.kill(first[1], signal.SIGKILL)
    wait_for(lambda: sorted(rank_processes()) == [0, 1] and rank_processes()[1] != first[1] and health() == (200, "ok"),
             "the front starts lost ranks again")
    expect_equal(shown("MainPID"), front, "the front is the same")
    expect_equal(answer(), text, "an answer of the new ranks")
    os.kill(int(front), signal.SIGKILL)
    wait_for(lambda: shown("MainPID") not in ("0", front) and health() == (200, "ok"), "systemd starts a lost front again")
    expect_equal(answer(), text, "an answer of the new front")
    stop()


def drop_in():
    """What the manual says to write for TLS."""
    lines = (SOURCE / "docs/serving.md").read_text().splitlines()
    begin = lines.index("    [Service]")
    end = next(i for i in range(begin, len(lines)) if not lines[i].startswith("    "))
    return "".join(line.strip() + "\n" for line in lines[begin:end])


def check_tls(text):
    key, certificate = SETTINGS.parent / "server.key", SETTINGS.parent / "server.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate))
    key.chmod(0o600)
    folder = pathlib.Path(f"/etc/systemd/system/{UNIT}.d")
    folder.mkdir()
    (folder / "override.conf").write_text(drop_in())
    settings(DTYPE="f32")
    run("systemctl", "daemon-reload")
    tls = ssl.create_default_context(cafile=str(certificate))
    start(tls)
    expect_equal(request("POST", "/v1/chat/completions", SHORT, tls)[2]["choices"][0]["message"]["content"], text, "over TLS")
    stop()


def timed(check, *arguments):
    begin = time.monotonic()
    result = check(*arguments)
    print(f"{check.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
    return result


try:
    first_answer = timed(check_threads)
    timed(check_processes, first_answer)
    timed(check_tls, first_answer)
finally:
    print(run("journalctl", "--no-pager", "--unit", UNIT, "--output=cat"), flush=True)
finish("systemd unit")
