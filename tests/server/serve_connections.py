#!/usr/bin/env python3
"""Connections of the real program: many at once, clients that go or do not read, a full queue, a drain.

usage: serve_connections.py SOURCE_DIR LONGSPAN
"""
import concurrent.futures
import contextlib
import os
import pathlib
import signal
import socket
import sys
import threading
import time

import live_server
from live_server import Server, ask, expect, expect_equal, open_stream, wait_for

SOURCE, LONGSPAN = sys.argv[1:3]
MODEL = os.path.join(SOURCE, "models/recall-moe")
WORDS = (pathlib.Path(MODEL) / "demo/document.txt").read_text().split()
M = {"model": "recall-moe"}
FOREVER = {**M, "prompt": "x", "max_tokens": 30000, "ignore_eos": True}
STREAMS, IDLE = 200, 1000


def running(server):
    return len(server.ask("GET", "/v1/requests")[2]["data"])


def check_many():
    """200 streams over 1,000 idle connections, all whole and equal to one alone."""
    with Server(LONGSPAN, "-m", MODEL, "--dtype", "f32") as server:
        body = {**M, "prompt": " ".join(WORDS[:60]), "max_tokens": 24, "temperature": 0}
        alone = server.post("/v1/completions", body)[2]["choices"][0]["text"]
        with contextlib.ExitStack() as stack:
            idle = [stack.enter_context(contextlib.closing(server.connect())) for _ in range(IDLE)]
            for connection in idle:
                expect_equal(ask(connection, "GET", "/health")[0], 200, "an idle connection")

            def one(_):
                chunks = list(server.stream("/v1/completions", {**body, "stream": True}))
                return "".join(c["choices"][0]["text"] for c in chunks[:-1]), chunks[-1]

            with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
                answers = list(pool.map(one, range(STREAMS)))
            expect_equal(sum(a == (alone, "[DONE]") for a in answers), STREAMS, "whole and equal streams")
            for connection in idle:
                expect_equal(ask(connection, "GET", "/health")[0], 200, "an idle connection, later")
        expect_equal(server.stop()[0], 0, "exit code")


def check_clients_that_go():
    with Server(LONGSPAN, "-m", MODEL, "--max-running-requests", "4") as server:
        streams = [open_stream(server.port, "/v1/completions", {**FOREVER, "stream": True}) for _ in range(4)]
        for stream in streams:
            expect(b"200 OK" in stream.recv(4096), "a stream begins")
        waiting = open_stream(server.port, "/v1/completions", FOREVER)  # no stream, and no place in the batch
        wait_for(lambda: running(server) == 5, "five requests are listed")
        for connection in [*streams, waiting]:
            connection.close()
        wait_for(lambda: running(server) == 0, "requests of clients that went are cancelled")

        reader = open_stream(server.port, "/v1/completions", {**FOREVER, "stream": True, "n": 4, "logprobs": 20}, receive_buffer=4096)
        wait_for(lambda: running(server) == 4, "a slow reader's requests run")
        wait_for(lambda: running(server) == 0, "a client that does not read is cut off")
        reader.close()
        half = socket.create_connection(("127.0.0.1", server.port))
        half.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        half.close()
        expect_equal(server.post("/v1/completions", {**M, "prompt": "x", "max_tokens": 1})[0], 200, "still there")
        expect_equal(server.stop()[0], 0, "exit code")


def check_full_queue():
    with Server(LONGSPAN, "-m", MODEL, "--max-running-requests", "1", "--max-queued-requests", "2") as server:
        streams = [open_stream(server.port, "/v1/completions", FOREVER) for _ in range(3)]
        wait_for(lambda: running(server) == 3, "one runs and two wait")
        status, headers, answer = server.post("/v1/completions", {**M, "prompt": "x", "max_tokens": 1})
        expect_equal((status, answer["error"]["code"]), (429, "queue_full"), "a full queue")
        expect(int(headers["Retry-After"]) >= 1, "Retry-After")
        expect_equal(server.post("/v1/completions", {**M, "prompt": "x", "n": 4})[0], 400, "more choices than can ever be taken")
        for stream in streams:
            stream.close()
        wait_for(lambda: running(server) == 0, "the queue is empty")
        expect_equal(server.post("/v1/completions", {**M, "prompt": "x", "max_tokens": 1})[0], 200, "room again")


def check_drain():
    with Server(LONGSPAN, "-m", MODEL) as server:
        results = []
        body = {**M, "prompt": "x", "max_tokens": 400, "ignore_eos": True}
        threads = [threading.Thread(target=lambda: results.append(server.post("/v1/completions", body))) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: running(server) == 4, "four requests run")
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        expect_equal([r[0] for r in results], [200] * 4, "requests under way are answered")
        expect_equal([r[2]["usage"]["completion_tokens"] for r in results], [400] * 4, "in full")
        expect_equal(server.process.wait(live_server.PATIENCE), 0, "exit code of a drain")

    with Server(LONGSPAN, "-m", MODEL, "--drain-timeout", "0.3") as server:
        with contextlib.closing(server.connect()) as kept:
            expect_equal(ask(kept, "GET", "/health")[0], 200, "health before")
            results = []
            thread = threading.Thread(target=lambda: results.append(server.post("/v1/completions", FOREVER)))
            thread.start()
            stream = open_stream(server.port, "/v1/completions", {**FOREVER, "stream": True})
            wait_for(lambda: running(server) == 2, "two requests run")
            begin = time.time()
            server.process.send_signal(signal.SIGTERM)
            thread.join()
            expect_equal((results[0][0], results[0][2]["error"]["message"]), (503, "the server is shutting down"),
                         "what takes too long is cancelled")
            text = b""
            while piece := stream.recv(65536):
                text += piece
            expect(b"the server is shutting down" in text and text.endswith(b"0\r\n\r\n"), "a stream is told, and ends")
            expect_equal(server.process.wait(live_server.PATIENCE), 0, "exit code")
            expect(time.time() - begin < 30, "the drain's time limit")


check_many()
check_clients_that_go()
check_full_queue()
check_drain()
live_server.finish("serve connections")
