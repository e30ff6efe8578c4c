#!/usr/bin/env python3
"""`longspan serve --tls-cert --tls-key`: the same answers over TLS, clients that go, and refusals.

usage: serve_tls.py SOURCE_DIR LONGSPAN
"""
import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile

import live_server
from live_server import Server, ask, expect, expect_equal, open_stream, wait_for

SOURCE, LONGSPAN = sys.argv[1:3]
MODEL = os.path.join(SOURCE, "models/recall-moe")
FLAGS = ["-m", MODEL, "--dtype", "f32"]
WORDS = (pathlib.Path(MODEL) / "demo/document.txt").read_text().split()
M = {"model": "recall-moe"}
BODY = {**M, "prompt": " ".join(WORDS[:80]), "max_tokens": 16, "temperature": 0}


def make_pair(folder, name):
    certificate, key = f"{folder}/{name}.pem", f"{folder}/{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", certificate,
                    "-keyout", key], check=True, capture_output=True)
    return certificate, key


def refused(code, *flags):
    run = subprocess.run([LONGSPAN, "serve", "--port", "0", *FLAGS, *flags], capture_output=True, text=True, timeout=live_server.PATIENCE)
    expect_equal(run.returncode, code, f"exit code of {flags}: {run.stderr}")
    expect_equal(run.stderr.count("\n"), 1, f"one line of {flags}: {run.stderr}")
    return run.stderr


def check_refusals(folder, pair, other):
    missing = f"{folder}/none.pem"
    expect("--tls-cert needs --tls-key" in refused(2, "--tls-cert", pair[0]), "a certificate alone")
    expect("--tls-key needs --tls-cert" in refused(2, "--tls-key", pair[1]), "a key alone")
    expect(f"--tls-cert {missing}: No such file" in refused(3, "--tls-cert", missing, "--tls-key", pair[1]), "a missing certificate")
    expect(f"--tls-key {missing}: No such file" in refused(3, "--tls-cert", pair[0], "--tls-key", missing), "a missing key")
    expect("not the key of the certificate" in refused(2, "--tls-cert", pair[0], "--tls-key", other[1]), "a key that does not fit")
    expect("holds no certificate" in refused(3, "--tls-cert", pair[1], "--tls-key", pair[1]), "a key for a certificate")
    expect("holds no private key" in refused(3, "--tls-cert", pair[0], "--tls-key", pair[0]), "a certificate for a key")
    locked = f"{folder}/locked.key"
    subprocess.run(["openssl", "ec", "-in", pair[1], "-aes128", "-passout", "pass:secret", "-out", locked], check=True, capture_output=True)
    expect("holds no private key" in refused(3, "--tls-cert", pair[0], "--tls-key", locked), "a key with a passphrase")


def check_answers(server, wanted):
    expect_equal(server.post("/v1/completions", BODY)[2]["choices"][0]["text"], wanted, "an answer over TLS")
    for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
        context = ssl.create_default_context(cafile=server.certificate)
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", server.port), live_server.PATIENCE) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                expect_equal(connection.version(), "TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3", "the version")
                # Two requests in one write: the second waits for its turn.
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                got = b""
                while piece := connection.recv(4096):
                    got += piece
                expect(got.count(b"HTTP/1.1 200") == 2 and got.endswith(b"}"), f"pipelined requests: {got[:200]}")
    with contextlib.closing(server.connect()) as connection:
        for _ in range(3):
            expect_equal(ask(connection, "GET", "/health")[0], 200, "a connection that is kept")
        long = {**M, "prompt": "x " * 400000, "max_tokens": 1}
        expect_equal(ask(connection, "POST", "/v1/completions", long)[0], 400, "a body of many records")
        tokens = list(range(300, 400)) * 2000
        status, _, text = ask(connection, "POST", "/detokenize", {**M, "tokens": tokens})
        expect(status == 200 and len(text["prompt"]) > 200000, "an answer of many records")

    def one(_):
        chunks = list(server.stream("/v1/completions", {**BODY, "stream": True}))
        return "".join(c["choices"][0]["text"] for c in chunks[:-1]), chunks[-1]

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        expect_equal(set(pool.map(one, range(20))), {(wanted, "[DONE]")}, "streams at the same time")


def check_clients_that_go(server):
    def running():
        return len(server.ask("GET", "/v1/requests")[2]["data"])

    forever = {**M, "prompt": "x", "max_tokens": 30000, "ignore_eos": True}
    for stream in [True, False]:
        for orderly in [True, False]:
            connection = open_stream(server.port, "/v1/completions", {**forever, "stream": stream}, tls=server.tls)
            wait_for(lambda: running() == 1, "a request runs")
            if orderly:
                with contextlib.suppress(OSError):
                    connection.unwrap()  # a goodbye
            connection.close()
            wait_for(lambda: running() == 0, f"a client that goes cancels (stream {stream}, goodbye {orderly})")
    with socket.create_connection(("127.0.0.1", server.port), live_server.PATIENCE) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        expect(not plain.recv(100).startswith(b"HTTP"), "who speaks no TLS gets no answer")
    socket.create_connection(("127.0.0.1", server.port)).close()
    expect_equal(server.ask("GET", "/health")[0], 200, "still there")


def check_a_cut_request(server):
    """Half a request and then nothing, without a goodbye: no answer, as over TCP."""
    context = ssl.create_default_context(cafile=server.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose records show what they are
    plain = socket.create_connection(("127.0.0.1", server.port), live_server.PATIENCE)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        connection.shutdown(socket.SHUT_WR)  # of the socket below; what is received from here on is records
        got = b""
        while piece := connection.recv(4096):
            got += piece
    kinds = []
    while got:
        kinds.append(got[0])
        got = got[5 + int.from_bytes(got[3:5], "big"):]
    expect(23 not in kinds, f"no record of data, but {kinds}")


if not shutil.which("openssl"):
    print("SKIPPED: openssl, which makes the certificates, is not here")
    sys.exit(0)
with tempfile.TemporaryDirectory() as folder:
    pair, other = make_pair(folder, "one"), make_pair(folder, "two")
    check_refusals(folder, pair, other)
    with Server(LONGSPAN, *FLAGS) as plain:
        wanted = plain.post("/v1/completions", BODY)[2]["choices"][0]["text"]
    with Server(LONGSPAN, *FLAGS, "--tls-cert", pair[0], "--tls-key", pair[1], certificate=pair[0]) as live:
        expect(live.url().startswith("https://"), "what it says")
        check_answers(live, wanted)
        check_clients_that_go(live)
        check_a_cut_request(live)
        strict = ssl.create_default_context(cafile=other[0])
        try:
            strict.wrap_socket(socket.create_connection(("127.0.0.1", live.port)), server_hostname="localhost")
            expect(False, "a client that trusts another certificate goes")
        except ssl.SSLError:
            pass
        expect_equal(live.stop()[0], 0, "exit code")
live_server.finish("serve tls")
