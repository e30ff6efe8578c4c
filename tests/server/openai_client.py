#!/usr/bin/env python3
"""The official openai client against the real program. Skipped, loudly, where PyPI can't be reached.

usage: openai_client.py SOURCE_DIR LONGSPAN BUILD_DIR     (keeps a virtual environment in BUILD_DIR)
"""
import json
import os
import pathlib
import subprocess
import sys
import venv

SOURCE, LONGSPAN, BUILD = sys.argv[1:4]
ENVIRONMENT = pathlib.Path(BUILD) / "openai-client"
MARK = "OPENAI_CLIENT_TEST"

if MARK not in os.environ:
    python = ENVIRONMENT / "bin/python"
    if subprocess.run([python, "-c", "import openai"], capture_output=True).returncode if python.exists() else True:
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        install = subprocess.run([python, "-m", "pip", "install", "-q", "openai"], capture_output=True, text=True)
        if install.returncode:
            print(f"SKIPPED: the openai client can't be installed here: {install.stderr.strip().splitlines()[-1]}")
            sys.exit(0)
    os.execve(python, [python, *sys.argv], {**os.environ, MARK: "1"})

import openai  # noqa: E402

import live_server  # noqa: E402
from live_server import KEY, Server, expect, expect_equal  # noqa: E402

MODEL = "recall-moe"
USER = [{"role": "user", "content": "What is the code word?"}]


def status_of(call):
    try:
        call()
        return 200, None
    except openai.APIStatusError as error:
        return error.status_code, type(error).__name__


def check(client):
    expect_equal([m.id for m in client.models.list()], [MODEL], "models")
    chat = client.chat.completions.create(model=MODEL, messages=USER, max_completion_tokens=8, temperature=0, logprobs=True,
                                          top_logprobs=2)
    message = chat.choices[0].message
    expect_equal(message.role, "assistant", "role")
    expect_equal(len(chat.choices[0].logprobs.content), chat.usage.completion_tokens, "log-probabilities")
    expect_equal(chat.usage.prompt_tokens_details.cached_tokens, 0, "cached tokens")
    chunks = list(client.chat.completions.create(model=MODEL, messages=USER, max_completion_tokens=8, temperature=0,
                                                 stream=True, stream_options={"include_usage": True}))
    expect_equal("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), message.content, "a streamed chat")
    expect_equal(chunks[-1].usage.completion_tokens, chat.usage.completion_tokens, "usage of a stream")
    expect_equal(chunks[-2].choices[0].finish_reason, chat.choices[0].finish_reason, "finish_reason")

    text = client.completions.create(model=MODEL, prompt=["The", "A"], max_tokens=5, n=2, logprobs=1, echo=True, seed=3)
    expect_equal([c.text[:1] for c in text.choices], ["T", "T", "A", "A"], "prompts and choices")
    streamed = client.completions.create(model=MODEL, prompt="The", max_tokens=5, temperature=0, stream=True)
    whole = client.completions.create(model=MODEL, prompt="The", max_tokens=5, temperature=0)
    expect_equal("".join(c.choices[0].text for c in streamed), whole.choices[0].text, "a streamed completion")
    tuned = client.chat.completions.create(model=MODEL, messages=USER, max_tokens=4, presence_penalty=0.5, frequency_penalty=0.5,
                                           logit_bias={"300": 100}, stop=["never"], user="me", extra_body={"min_p": 0.1, "top_k": 5})
    expect_equal(tuned.usage.completion_tokens, 4, "further fields")
    progress = [c.prompt_progress for c in client.chat.completions.create(
        model=MODEL, messages=USER, max_tokens=1, stream=True, extra_body={"return_progress": True}) if hasattr(c, "prompt_progress")]
    expect_equal(progress[-1]["processed"], progress[-1]["total"], "progress")

    fact = client.chat.completions.create(model=MODEL, messages=USER, max_tokens=100, temperature=0, response_format={
        "type": "json_schema", "json_schema": {"name": "fact", "strict": True, "schema": {
            "type": "object", "properties": {"word": {"type": "string", "maxLength": 8}}, "required": ["word"]}}})
    expect_equal(list(json.loads(fact.choices[0].message.content)), ["word"], "an answer to a schema")

    create = client.chat.completions.create
    expect_equal(status_of(lambda: create(model=MODEL, messages=USER, temperature=9e99)), (400, "BadRequestError"), "400")
    expect_equal(status_of(lambda: create(model="gpt-4", messages=USER)), (404, "NotFoundError"), "404")
    wrong = client.with_options(api_key="sk-wrong")
    expect_equal(status_of(lambda: wrong.models.list()), (401, "AuthenticationError"), "401")
    try:
        create(model=MODEL, messages=USER, extra_body={"max_token": 1})
        expect(False, "an unknown field is refused")
    except openai.BadRequestError as error:
        expect_equal((error.param, error.type), ("max_token", "invalid_request_error"), "the field is named")

    stream = create(model=MODEL, messages=USER, max_tokens=20000, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    live_server.wait_for(lambda: live.ask("GET", "/v1/requests", key=KEY)[2]["data"] == [], "a closed stream is cancelled")


with Server(LONGSPAN, "-m", os.path.join(SOURCE, "models/recall-moe"), "--cp", "2", env={"LONGSPAN_API_KEY": KEY}) as live:
    check(openai.OpenAI(base_url=live.url() + "/v1", api_key=KEY, max_retries=0))
live_server.finish("openai client")
