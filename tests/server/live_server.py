"""What the tests of `longspan serve` share: the real program on the model in the box, and plain HTTP to it."""
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

PATIENCE = 120  # seconds
KEY = "sk-test"
failures = []


def expect(ok, what):
    if not ok:
        failures.append(what)
        print(f"FAILED: {what}", flush=True)


def expect_equal(got, wanted, what):
    expect(got == wanted, f"{what}: expected {wanted!r}, got {got!r}")


def finish(name):
    print(f"{name}: {'as documented' if not failures else f'{len(failures)} failures'}", flush=True)
    sys.exit(1 if failures else 0)


class Server:
    """`longspan serve` at a free port; the model in the box unless flags say otherwise. `certificate`: what a client trusts,
    of a server that is given it to speak TLS."""

    def __init__(self, longspan, *flags, env=None, ready=True, certificate=None):
        self.certificate = certificate
        self.tls = ssl.create_default_context(cafile=certificate) if certificate else None
        self.process = subprocess.Popen([longspan, "serve", "--port", "0", *flags], stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})})
        line = self.process.stderr.readline()
        while line.startswith("longspan: note: "):
            line = self.process.stderr.readline()
        if f"listening at {self.scheme()}://" not in line:
            self.process.kill()
            raise RuntimeError(f"the server did not start: {line}{self.process.stderr.read()}")
        self.port = int(line.rsplit(":", 1)[1])
        if ready:
            self.wait_until_ready()

    def wait_until_ready(self):
        line = self.process.stderr.readline()
        if not line.startswith("ready: "):
            self.process.kill()
            raise RuntimeError(f"the server did not become ready: {line}{self.process.stderr.read()}")

    def scheme(self):
        return "https" if self.tls else "http"

    def url(self):
        return f"{self.scheme()}://127.0.0.1:{self.port}"

    def connect(self):
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, method, path, body=None, key=None, headers=None):
        """(status, headers, JSON or text)"""
        with contextlib.closing(self.connect()) as connection:
            return ask(connection, method, path, body, key, headers)

    def post(self, path, body, **more):
        return self.ask("POST", path, body, **more)

    def stream(self, path, body):
        """The events of a stream, "[DONE]" as a string."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            expect_equal(response.status, 200, f"status of a stream of {path}")
            expect(response.headers["Content-Type"].startswith("text/event-stream"), "a stream's content type")
            yield from events(response)

    def stop(self, sign=signal.SIGTERM):
        """(exit code, what was said)"""
        self.process.send_signal(sign)
        said = self.process.stderr.read()
        return self.process.wait(PATIENCE), said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        said = self.process.stderr.read()
        self.process.wait()
        if any(word in said for word in ("Sanitizer", "runtime error")):
            failures.append("a sanitizer's report")
            print(said, flush=True)


def ask(connection, method, path, body=None, key=None, headers=None):
    headers = dict(headers or {})
    if body is not None and not isinstance(body, (str, bytes)):
        body = json.dumps(body)
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    text = response.read().decode()
    kind = response.headers.get("Content-Type", "")
    return response.status, response.headers, json.loads(text) if kind.startswith("application/json") else text


def events(response):
    for line in response:
        line = line.decode().rstrip("\n")
        if line.startswith("data: "):
            data = line[len("data: "):]
            yield data if data == "[DONE]" else json.loads(data)


def open_stream(port, path, body, receive_buffer=None, tls=None):
    """A socket on which a stream was asked for and nothing read."""
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(PATIENCE)
    connection.connect(("127.0.0.1", port))
    if tls:
        connection = tls.wrap_socket(connection, server_hostname="127.0.0.1")
    data = json.dumps(body).encode()
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
                       f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


def wait_for(condition, what):
    end = time.time() + PATIENCE
    while time.time() < end:
        if condition():
            return
        time.sleep(0.05)
    expect(False, what)


def batch(longspan, model, requests, *flags):
    """The results of `longspan batch`, which knows nothing of servers."""
    run = subprocess.run([longspan, "batch", "-m", model, "-i", "-", "-o", "-", "-q", *flags], text=True, check=True,
                         input="\n".join(map(json.dumps, requests)), capture_output=True, timeout=PATIENCE)
    return [json.loads(line) for line in run.stdout.splitlines()]
