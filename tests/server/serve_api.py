#!/usr/bin/env python3
"""OpenAI's API on the real program: fields, shapes, errors with their exact status, and the same tokens as `batch` gives.

usage: serve_api.py SOURCE_DIR LONGSPAN CP
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

import live_server
from live_server import KEY, PATIENCE, Server, batch, expect, expect_equal

SOURCE, LONGSPAN, CP = sys.argv[1:4]
MODEL = os.path.join(SOURCE, "models/recall-moe")
FLAGS = ["-m", MODEL, "--dtype", "f32", "--cp", CP, "--min-tokens-per-rank", "0", "--context-length", "4096", "--max-total-tokens", "8192"]
WORDS = (pathlib.Path(MODEL) / "demo/document.txt").read_text().split()
M = {"model": "recall-moe"}


def text(words, first=0):
    return " ".join(WORDS[first:first + words])


def check_completions(server):
    prompts = [text(30), text(200, 100), text(15, 400)]
    wanted = batch(LONGSPAN, MODEL, [{"prompt": p, "max_tokens": 12, "logprobs": 2, "prompt_logprobs": True} for p in prompts],
                   *FLAGS[2:])
    for prompt, result in zip(prompts, wanted):
        status, _, answer = server.post("/v1/completions", {**M, "prompt": prompt, "max_tokens": 12, "temperature": 0,
                                                            "logprobs": 2, "echo": True})
        expect_equal(status, 200, "a completion")
        choice = answer["choices"][0]
        expect_equal(choice["text"], prompt + result["text"], "echo and text")
        expect_equal(choice["finish_reason"], result["finish_reason"], "finish_reason")
        usage = answer["usage"]
        expect_equal(usage["prompt_tokens"], result["usage"]["prompt_tokens"], "prompt_tokens")
        expect_equal(usage["completion_tokens"], result["usage"]["completion_tokens"], "completion_tokens")
        expect_equal(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"], "total_tokens")
        logprobs = choice["logprobs"]
        numbers = result["prompt_logprobs"] + [x["logprob"] for x in result["logprobs"]]
        expect_equal(logprobs["token_logprobs"][0], None, "the first prompt token has no log-probability")
        expect(len(numbers) == len(logprobs["token_logprobs"]) and
               all(abs(a - b) < 1e-3 for a, b in zip(numbers[1:], logprobs["token_logprobs"][1:])), "log-probabilities")
        expect_equal(logprobs["top_logprobs"][0], None, "no alternatives for prompt tokens")
        expect_equal(len(logprobs["top_logprobs"][-1]), 2, "alternatives")
        whole = choice["text"]
        if whole.isascii():
            for token, offset in zip(logprobs["tokens"], logprobs["text_offset"]):
                expect(whole[offset:].startswith(token) or token.startswith("<|"), f"text_offset of {token!r}")
    status, _, answer = server.post("/v1/completions", {**M, "prompt": prompts, "max_tokens": 12, "temperature": 0, "n": 2})
    expect_equal([c["text"] for c in answer["choices"]], [r["text"] for r in wanted for _ in range(2)], "prompts times n")
    expect_equal([c["index"] for c in answer["choices"]], list(range(6)), "indices")
    expect_equal(answer["object"], "text_completion", "object")
    expect_equal(answer["usage"]["prompt_tokens"], sum(r["usage"]["prompt_tokens"] for r in wanted), "each prompt counts once")

    _, _, scored = server.post("/v1/completions", {**M, "prompt": prompts[0], "max_tokens": 0, "logprobs": 0, "echo": True})
    expect_equal(scored["choices"][0]["text"], prompts[0], "scoring alone")
    expect_equal(scored["usage"]["completion_tokens"], 0, "scoring makes no tokens")
    _, _, ids = server.post("/tokenize", {"prompt": prompts[0]})
    _, _, by_id = server.post("/v1/completions", {**M, "prompt": ids["tokens"], "max_tokens": 12})
    expect_equal(by_id["choices"][0]["text"], wanted[0]["text"], "a prompt of token ids")
    _, _, short = server.post("/v1/completions", {**M, "prompt": prompts[0]})
    expect_equal(short["usage"]["completion_tokens"], 16, "16 tokens where max_tokens is not given")
    expect_equal(short["choices"][0]["logprobs"], None, "no log-probabilities unless asked for")


def check_stop_and_sampling(server):
    _, _, plain = server.post("/v1/completions", {**M, "prompt": text(40), "max_tokens": 20})
    whole = plain["choices"][0]["text"]
    stop = whole[10:14]
    _, _, cut = server.post("/v1/completions", {**M, "prompt": text(40), "max_tokens": 20, "stop": ["never there", stop]})
    expect_equal(cut["choices"][0]["text"], whole[:whole.index(stop)], "cut before a stop string")
    expect_equal(cut["choices"][0]["finish_reason"], "stop", "stopped")

    def drawn(**fields):
        body = {**M, "prompt": text(40), "max_tokens": 12, "temperature": 1.5, **fields}
        return [c["text"] for c in server.post("/v1/completions", body)[2]["choices"]]

    expect_equal(drawn(seed=7), drawn(seed=7), "the same seed")
    expect(drawn(seed=7) != drawn(seed=8), "another seed")
    expect(drawn() != drawn(), "no seed: another one each time")
    expect_equal(drawn(seed=7, n=3)[0], drawn(seed=7)[0], "the first choice is that of n 1")
    expect(len(set(drawn(seed=7, n=3))) == 3, "choices differ")
    expect_equal(drawn(top_k=1), [whole_greedy(server)], "top_k 1 is greedy")
    expect_equal(drawn(top_p=1e-6), [whole_greedy(server)], "a tiny top_p is greedy")


def whole_greedy(server):
    return server.post("/v1/completions", {**M, "prompt": text(40), "max_tokens": 12, "temperature": 0})[2]["choices"][0]["text"]


def check_chat(server):
    recall = json.loads((pathlib.Path(MODEL) / "recall.json").read_text())
    question = (pathlib.Path(MODEL) / "demo/questions.txt").read_text().splitlines()[0].split("\t")[0]
    messages = [{"role": "user", "content": text(300) + "\n\n" + question}]
    wanted = batch(LONGSPAN, MODEL, [{"messages": messages, "max_tokens": 10, "logprobs": 3}], *FLAGS[2:])[0]
    body = {**M, "messages": messages, "max_completion_tokens": 10, "logprobs": True, "top_logprobs": 3}
    status, _, answer = server.post("/v1/chat/completions", body)
    expect_equal(status, 200, "a chat")
    expect_equal(answer["object"], "chat.completion", "object")
    expect(answer["id"].startswith("chatcmpl-"), "id")
    choice = answer["choices"][0]
    expect_equal(choice["message"]["role"], "assistant", "role")
    expect_equal(choice["message"]["content"], wanted["text"], "content")
    content = choice["logprobs"]["content"]
    expect_equal(len(content), len(wanted["token_ids"]), "one entry a token")
    for entry, token in zip(content, wanted["logprobs"]):
        expect(abs(entry["logprob"] - token["logprob"]) < 1e-3, "a chat's log-probability")
        expect_equal(len(entry["top_logprobs"]), 3, "top_logprobs")
        expect_equal(bytes(entry["bytes"]).decode(errors="replace"), entry["token"], "bytes of a token")
    again = server.post("/v1/chat/completions", body)[2]
    cached = again["usage"]["prompt_tokens_details"]["cached_tokens"]
    expect_equal(cached, again["usage"]["prompt_tokens"] - 1, "a second time all but the last token is cached")
    expect_equal(again["choices"][0]["message"]["content"], wanted["text"], "the same from the prefix tree")

    chunks = list(server.stream("/v1/chat/completions", {**body, "stream": True, "stream_options": {"include_usage": True}}))
    expect_equal(chunks[-1], "[DONE]", "the end of a stream")
    expect_equal(chunks[-2]["choices"], [], "the usage chunk has no choices")
    expect_equal(chunks[-2]["usage"]["completion_tokens"], len(wanted["token_ids"]), "usage of a stream")
    expect(all(c["usage"] is None for c in chunks[:-2]), "usage is null before")
    expect_equal(chunks[0]["choices"][0]["delta"], {"role": "assistant", "content": ""}, "the first delta")
    expect_equal("".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-2]), wanted["text"], "streamed text")
    expect_equal([x["token"] for c in chunks[:-2] for x in c["choices"][0]["logprobs"]["content"]],
                 [x["token"] for x in content], "streamed log-probabilities")
    expect_equal([c["choices"][0]["finish_reason"] for c in chunks[:-2]],
                 [None] * (len(chunks) - 3) + [choice["finish_reason"]], "finish_reason comes last")
    expect(len({c["id"] for c in chunks[:-1]}) == 1, "one id")

    streamed = list(server.stream("/v1/completions", {**M, "prompt": text(30), "max_tokens": 9, "n": 2, "echo": True, "stream": True}))
    whole = server.post("/v1/completions", {**M, "prompt": text(30), "max_tokens": 9, "echo": True})[2]["choices"][0]["text"]
    for index in range(2):
        expect_equal("".join(c["choices"][0]["text"] for c in streamed[:-1] if c["choices"][0]["index"] == index), whole,
                     "a streamed choice")
    _, _, default = server.post("/v1/chat/completions", {**M, "messages": [{"role": "user", "content": "Hello"}], "ignore_eos": True})
    expect_equal(default["usage"]["completion_tokens"], 64, "max_new_tokens of generation_config.json")
    expect(recall["prompt"], "the model's data")


def check_cache_salt(server):
    def usage(**fields):
        answer = server.post("/v1/completions", {**M, "prompt": text(150, 1000), "max_tokens": 2, **fields})[2]
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["usage"]["prompt_tokens"], answer["choices"][0]["text"]

    plain = usage()
    for salt in ["red", "blue"]:
        expect_equal(usage(cache_salt=salt), (0, *plain[1:]), f"nothing is cached under {salt} yet")
        expect_equal(usage(cache_salt=salt), (plain[1] - 1, *plain[1:]), f"all but the last token is cached under {salt}")


def check_tokens(server):
    for sample in ["", "Hello world", "naïve 日本 🙂", text(50)]:
        _, _, tokens = server.post("/tokenize", {**M, "prompt": sample})
        expect_equal(tokens["count"], len(tokens["tokens"]), "count")
        expect_equal(server.post("/detokenize", {**M, "tokens": tokens["tokens"]})[2]["prompt"], sample, "there and back")
    _, _, chat = server.post("/tokenize", {"messages": [{"role": "user", "content": "Hi"}]})
    expect(chat["count"] > 3, "a chat's tokens")
    expect_equal(chat["max_model_len"], 4096, "max_model_len")


def check_refusals(server):
    def refusal(path, body, **more):
        status, headers, answer = server.post(path, body, **more)
        error = answer["error"]
        expect_equal(sorted(error), ["code", "message", "param", "type"], "the shape of an error")
        return status, error["type"], error["param"], error["code"], error["message"]

    C, CHAT = "/v1/completions", "/v1/chat/completions"
    user = [{"role": "user", "content": "Hi"}]
    bad = "invalid_request_error"
    for path, body, param in [
            (C, {**M, "prompt": "x", "max_token": 1}, "max_token"),
            (C, {**M, "prompt": "x", "temperature": "hot"}, "temperature"),
            (C, {**M, "prompt": {"text": "x"}}, "prompt"),
            (C, {**M, "prompt": "x", "n": 0}, "n"),
            (C, {"prompt": "x"}, "model"),
            (CHAT, {**M, "messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
            (CHAT, {**M, "messages": user, "logprobs": 1}, "logprobs"),
            (CHAT, {**M, "messages": user, "tools": [{"type": "function"}]}, "tools"),
            (CHAT, {**M, "messages": user, "response_format": {"type": "xml"}}, "response_format.type"),
            (CHAT, {**M, "messages": user, "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
            (CHAT, {**M, "messages": user, "response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos"),
            (CHAT, {**M, "messages": user, "response_format": {"type": "json_schema", "json_schema": {
                "name": "n", "schema": {"properties": {"a": {"type": "string", "pattern": "x"}}}}}},
             "response_format.json_schema.schema.properties.a.pattern"),
            ("/tokenize", {"text": "x"}, "text"),
            ("/detokenize", {"tokens": ["x"]}, "tokens[0]")]:
        expect_equal(refusal(path, body)[:3], (400, bad, param), f"{path} {body}")
    for body in ["", "{", "[]", "{\"model\":" + "[" * 1000, "\xff", b"\xff\xfe"]:
        expect_equal(refusal(C, body)[:3], (400, bad, None), f"a body {body[:20]!r}")
    expect_equal(refusal(C, {"model": "other", "prompt": "x"})[:4], (404, bad, "model", "model_not_found"), "another model")
    expect_equal(refusal(C, {**M, "prompt": ""})[0], 400, "an empty prompt")
    expect_equal(refusal(C, {**M, "prompt": [4096]})[0], 400, "an id outside the vocabulary")

    status, _, _, code, message = refusal(C, {**M, "prompt": text(4000)})
    expect_equal((status, code), (400, "context_length_exceeded"), "over the context")
    tokens = server.post("/tokenize", {"prompt": text(4000)})[2]["count"]
    expect(str(tokens) in message and "4096" in message, f"both numbers: {message}")
    expect_equal(refusal(C, {**M, "prompt": text(100), "stream": True, "max_tokens": 1, "temperature": -1})[0], 400,
                 "a stream that can't begin has a status")
    expect_equal(refusal(C, {**M, "prompt": text(4000), "stream": True})[0], 400, "a stream over the context has a status")

    expect_equal(server.ask("GET", "/nothing")[0], 404, "an unknown path")
    status, headers, _ = server.ask("GET", C)
    expect_equal((status, headers["Allow"]), (405, "POST"), "another method")
    expect_equal(server.post(C, {**M, "prompt": "x"}, headers={"Content-Type": "text/plain"})[0], 415, "another content type")
    status, headers, models = server.ask("GET", "/v1/models")
    expect_equal((status, [m["id"] for m in models["data"]]), (200, ["recall-moe"]), "models")
    expect("Access-Control-Allow-Origin" not in headers, "CORS is off")
    expect_equal(server.ask("GET", "/v1/models/recall-moe")[2]["id"], "recall-moe", "one model")
    expect_equal(server.ask("GET", "/v1/models/other")[0], 404, "an unknown model")
    status, _, health = server.ask("GET", "/health")
    expect_equal((status, health), (200, {"status": "ok"}), "health")


def check_requests(server):
    """What runs is listed, told about and cancelled."""
    events = server.stream("/v1/completions", {**M, "prompt": text(1500), "max_tokens": 2000, "ignore_eos": True, "stream": True,
                                               "return_progress": True})
    first = next(events)
    progress = first["prompt_progress"]
    expect_equal(first["choices"], [], "progress has no choices")
    tokens = server.post("/tokenize", {"prompt": text(1500)})[2]["count"]
    expect_equal((progress["total"], progress["cp"]), (tokens, int(CP)), "progress")
    expect_equal(progress["processed"], tokens, "one chunk holds the whole prompt")
    expect_equal(progress["eta_ms"], 0, "nothing is left")
    if int(CP) > 1:
        expect_equal(sum(progress["rank_tokens"]), tokens - progress["cached"], "shares of the ranks")
        expect(max(progress["rank_tokens"]) - min(progress["rank_tokens"]) <= 2, "even shares")
    listed = server.ask("GET", "/v1/requests")[2]["data"]
    expect_equal([(r["id"], r["state"], r["prompt_tokens"]) for r in listed], [(first["id"], "running", tokens)], "the list")
    expect(listed[0]["pages"] >= tokens // 128, "pages")
    expect_equal(server.ask("DELETE", "/v1/requests/nothing")[0], 404, "an unknown request")
    expect_equal(server.ask("DELETE", f"/v1/requests/{first['id']}")[0], 200, "cancel")
    last = list(events)[-1]
    expect_equal(last["error"]["code"], "cancelled", "a cancelled stream says so")
    expect_equal(server.ask("GET", "/v1/requests")[2]["data"], [], "nothing runs")
    metrics = server.ask("GET", "/metrics")[2]
    for line in ['longspan_ready{model="recall-moe"} 1', 'longspan_requests_total{model="recall-moe",reason="cancelled"} 1',
                 'longspan_refused_total{model="recall-moe",status="400"}', 'longspan_kv_pages{model="recall-moe",state="free"}',
                 "# TYPE longspan_time_to_first_token_seconds histogram"]:
        expect(line in metrics, f"metrics have {line}")


def check_extras(server):
    """Fields beyond the basic ones have an effect, and the one they should."""
    body = {**M, "prompt": text(40), "max_tokens": 12, "temperature": 0}
    plain = server.post("/v1/completions", {**body, "logprobs": 0})[2]["choices"][0]
    _, _, ids = server.post("/tokenize", {"prompt": plain["text"]})
    banned = ids["tokens"][0]
    without = server.post("/v1/completions", {**body, "logit_bias": {str(banned): -100}, "logprobs": 0})[2]["choices"][0]
    expect(plain["logprobs"]["tokens"][0] != without["logprobs"]["tokens"][0], "a banned token")
    forced = server.post("/v1/completions", {**body, "logit_bias": {"300": 100}, "max_tokens": 3})[2]["choices"][0]["text"]
    expect_equal(forced, server.post("/detokenize", {"tokens": [300] * 3})[2]["prompt"], "a forced token")
    varied = server.post("/v1/completions", {**body, "logit_bias": {"300": 30}, "frequency_penalty": 2, "presence_penalty": 2,
                                             "max_tokens": 60, "ignore_eos": True, "logprobs": 0})[2]["choices"][0]
    piece = server.post("/detokenize", {"tokens": [300]})[2]["prompt"]
    count = varied["logprobs"]["tokens"].count(piece)
    expect(2 < count < 60, f"penalties end repetition ({count} of 60)")
    likely = server.post("/v1/completions", {**body, "temperature": 2, "min_p": 1, "seed": 1})[2]["choices"][0]["text"]
    expect_equal(likely, plain["text"], "min_p 1 is greedy")


def check_json(server):
    """Answers fit the schema whatever the model would rather say, and stop where the value ends."""
    schema = {"type": "object", "properties": {"who": {"type": "string", "maxLength": 12}, "code": {"type": "integer"},
                                               "kind": {"enum": ["book", "letter"]},
                                               "all": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}},
              "required": ["who", "code", "kind", "all"], "additionalProperties": False}
    body = {**M, "messages": [{"role": "user", "content": text(60)}], "max_tokens": 500,
            "response_format": {"type": "json_schema", "json_schema": {"name": "fact", "strict": True, "schema": schema}}}
    drawn = {"temperature": 1.5, "seed": 3, "n": 8}
    for more in [{"temperature": 0}, drawn, {**drawn, "top_p": 0.5}, {**drawn, "top_k": 1}, {**drawn, "frequency_penalty": 2}]:
        for choice in server.post("/v1/chat/completions", {**body, **more})[2]["choices"]:
            expect_equal(choice["finish_reason"], "stop", f"an answer to a schema ends: {choice['message']['content']!r}")
            value = json.loads(choice["message"]["content"])
            expect_equal(list(value), ["who", "code", "kind", "all"], "members, in order")
            expect(isinstance(value["who"], str) and len(value["who"]) <= 12 and type(value["code"]) is int and
                   value["kind"] in ("book", "letter") and len(value["all"]) <= 3 and all(type(x) is bool for x in value["all"]),
                   f"an answer fits its schema: {value}")
    whole = server.post("/v1/chat/completions", {**body, "temperature": 0})[2]["choices"][0]["message"]["content"]
    chunks = list(server.stream("/v1/chat/completions", {**body, "temperature": 0, "stream": True}))
    expect_equal("".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]), whole, "streamed JSON")
    free = server.post("/v1/chat/completions", {**body, "response_format": {"type": "json_object"}, "max_tokens": 30})[2]["choices"][0]
    expect(free["message"]["content"].startswith("{"), "an object")
    if free["finish_reason"] == "stop":
        expect(isinstance(json.loads(free["message"]["content"]), dict), "a whole object")
    plain = server.post("/v1/chat/completions", {**body, "response_format": {"type": "text"}, "temperature": 0})[2]
    expect(not plain["choices"][0]["message"]["content"].startswith("{"), "which the model would not have said by itself")
    # Lists in lists, each of one of two kinds that tell only at their end which of them they are.
    kinds = {"a0": {"type": "null"}}
    for i in range(1, 21):
        items = {"items": {"$ref": f"#/$defs/a{i - 1}"}, "minItems": 1}
        kinds[f"a{i}"] = {"anyOf": [items, {**items, "maxItems": 2}]}
    heavy = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"$ref": "#/$defs/a20", "$defs": kinds}}}
    status, _, answer = server.post("/v1/chat/completions", {**body, "response_format": heavy})
    expect_equal((status, answer["error"]["code"]), (400, "invalid_request"), f"a schema that asks too much: {answer}")
    again = server.post("/v1/chat/completions", {**body, "temperature": 0})[2]["choices"][0]["message"]["content"]
    expect_equal(again, whole, "the server goes on")


def check_together_as_alone(server):
    """Long prompts, short ones and shared starts at the same time: the tokens of each alone."""
    bodies = [{**M, "prompt": text(20 + 37 * i, 11 * i), "max_tokens": 10 + i, "temperature": 0} for i in range(12)]
    bodies += [{**M, "prompt": text(300, 5), "max_tokens": 12, "temperature": 1.0, "seed": i} for i in range(6)]
    with Server(LONGSPAN, *FLAGS, "--disable-radix-cache", "--max-running-requests", "1") as alone:
        wanted = [alone.post("/v1/completions", body)[2]["choices"][0]["text"] for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        got = list(pool.map(lambda body: server.post("/v1/completions", body)[2]["choices"][0]["text"], bodies))
    expect_equal(got, wanted, "together as alone")


def check_keys():
    with Server(LONGSPAN, *FLAGS, "--served-model-name", "mine", env={"LONGSPAN_API_KEY": KEY}) as server:
        for key in [None, "", "sk-tes", "sk-testt"]:
            status, headers, answer = server.post("/v1/completions", {"model": "mine", "prompt": "x"}, key=key)
            expect_equal((status, answer["error"]["code"]), (401, "invalid_api_key"), f"the key {key!r}")
        expect_equal(server.ask("GET", "/v1/models")[0], 401, "models need the key")
        expect_equal(server.ask("GET", "/health")[0], 200, "health needs no key")
        expect_equal(server.post("/v1/completions", {"model": "mine", "prompt": "x", "max_tokens": 1}, key=KEY)[0], 200,
                     "the right key and name")


def check_start():
    run = subprocess.run([LONGSPAN, "serve", "--port", "0", "-m", "/nowhere"], capture_output=True, text=True, timeout=PATIENCE)
    expect_equal(run.returncode, 3, "a model that is not there")
    run = subprocess.run([LONGSPAN, "serve", "--comm", "nccl"], capture_output=True, text=True, timeout=PATIENCE)
    expect_equal(run.returncode, 2, "nccl")
    with Server(LONGSPAN) as boxed:
        expect_equal(boxed.ask("GET", "/v1/models")[2]["data"][0]["id"], "recall-moe", "the model in the box is the default")
    with Server(LONGSPAN, *FLAGS) as server:
        run = subprocess.run([LONGSPAN, "serve", "--port", str(server.port), *FLAGS], capture_output=True, text=True, timeout=PATIENCE)
        expect_equal(run.returncode, 2, "a port that is taken")
        expect(str(server.port) in run.stderr, "the port's number")


with Server(LONGSPAN, *FLAGS) as live:
    check_completions(live)
    check_stop_and_sampling(live)
    check_chat(live)
    check_cache_salt(live)
    check_tokens(live)
    check_refusals(live)
    check_requests(live)
    check_extras(live)
    check_json(live)
    check_together_as_alone(live)
    code, _ = live.stop()
    expect_equal(code, 0, "exit code after SIGTERM")
check_keys()
check_start()
live_server.finish(f"serve API at cp {CP}")
