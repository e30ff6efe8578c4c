#!/usr/bin/env python3
"""The page at "/" in headless Chromium, against the real program. Skipped, loudly, where there is no Chromium.

usage: serve_page.py SOURCE_DIR LONGSPAN [SCREENSHOT_FOLDER]
"""
import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import live_server
from live_server import Server, expect, expect_equal, wait_for

SOURCE, LONGSPAN = sys.argv[1:3]
SHOTS = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
MODEL = pathlib.Path(SOURCE) / "models/recall-moe"
DOCUMENT = (MODEL / "demo/document.txt").read_text()
QUESTION, ANSWER = (MODEL / "demo/questions.txt").read_text().splitlines()[0].split("\t")
LONG = {"model": "recall-moe", "prompt": "x", "max_tokens": 30000}


class Browser:
    """Chromium's DevTools protocol over a pipe: one page."""

    def __init__(self, program, profile):
        to_browser, self.commands = os.pipe()
        self.answers, from_browser = os.pipe()
        os.set_inheritable(to_browser, True)
        os.set_inheritable(from_browser, True)
        shell = f"exec 3<&{to_browser} 4>&{from_browser}; exec \"$@\""
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"],
            close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.held, self.last, self.session, self.complaints = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log"]:
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            if answer.get("method") in ["Runtime.exceptionThrown", "Log.entryAdded"]:
                self.complaints.append(json.dumps(answer["params"])[:500])

    def receive(self):
        while b"\0" not in self.held:
            piece = os.read(self.answers, 1 << 20)
            if not piece:
                raise RuntimeError("Chromium is gone")
            self.held += piece
        message, self.held = self.held.split(b"\0", 1)
        return json.loads(message)

    def evaluate(self, script):
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def fill(self, name, text):
        self.evaluate(f"{{ const field = document.getElementById({json.dumps(name)}); field.value = {json.dumps(text)};"
                      "field.dispatchEvent(new Event('input')); }")

    def text(self, name):
        return self.evaluate(f"document.getElementById({json.dumps(name)}).textContent")

    def screenshot(self, name):
        if SHOTS:
            SHOTS.mkdir(parents=True, exist_ok=True)
            data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
            (SHOTS / f"{name}.png").write_bytes(base64.b64decode(data))

    def close(self):
        self.process.kill()
        self.process.wait()


def check_question(browser, server):
    browser.fill("document", DOCUMENT)
    browser.fill("question", QUESTION)
    browser.evaluate("document.getElementById('ask').click()")
    wait_for(lambda: "prompt tokens" in browser.text("outcome"), "an answer")
    expect_equal(browser.text("answer"), ANSWER, "the answer")
    expect_equal(browser.evaluate("document.getElementById('bar').getAttribute('aria-valuenow')"), "100", "the bar")
    rects = browser.evaluate("document.querySelectorAll('#zigzag rect').length")
    expect(rects >= 4 and rects % 4 == 0, f"2 x cp blocks for each chunk: {rects}")
    expect("rank 0" in browser.text("legend") and "rank 1" in browser.text("legend"), "the legend")
    browser.screenshot("answered")
    browser.evaluate("document.getElementById('ask').click()")
    wait_for(lambda: "prefix tree" in browser.text("numbers") and "prompt tokens" in browser.text("outcome"), "a cached prompt")
    browser.screenshot("cached")


def check_stop(browser, server):
    browser.fill("document", "")
    browser.fill("tokens", "20000")
    browser.fill("question", "Go on")
    browser.fill("temperature", "3")
    for _ in range(5):  # an answer may end by itself before it is stopped
        browser.evaluate("document.getElementById('ask').click()")
        wait_for(lambda: browser.text("answer"), "a long answer begins")
        browser.evaluate("document.getElementById('stop').click()")
        wait_for(lambda: browser.text("outcome") == "stopped" or "prompt tokens" in browser.text("outcome"), "it ends")
        if browser.text("outcome") == "stopped":
            break
    expect_equal(browser.text("outcome"), "stopped", "the outcome")
    wait_for(lambda: server.ask("GET", "/v1/requests")[2]["data"] == [], "the server knows")


def check_errors_and_access(browser):
    browser.fill("document", DOCUMENT * 12)
    browser.evaluate("document.getElementById('ask').click()")
    wait_for(lambda: "context holds" in browser.text("outcome"), "a document that is too long is explained")
    unlabelled = browser.evaluate("[...document.querySelectorAll('input, textarea')].filter((f) => !f.labels.length).map((f) => f.id)")
    expect_equal(unlabelled, [], "every field has a label")
    small = browser.evaluate("[...document.querySelectorAll('button')].filter((b) => b.getBoundingClientRect().height < 44).length")
    expect_equal(small, 0, "buttons are large enough for fingers")
    browser.evaluate("document.getElementById('theme').click()")
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    browser.screenshot("theme")
    browser.evaluate("document.getElementById('theme').click()")
    expect(dark != browser.evaluate("getComputedStyle(document.body).backgroundColor"), "the theme changes")
    browser.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    wide = browser.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    expect_equal(wide, 0, "a phone needs no scrolling sideways")
    browser.screenshot("phone")


program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if not program:
    print("SKIPPED: there is no Chromium here for the page's test")
    sys.exit(0)
with tempfile.TemporaryDirectory() as profile, Server(LONGSPAN, "-m", str(MODEL), "--cp", "2") as live:
    page = Browser(program, profile)
    try:
        page.call("Page.navigate", url=live.url() + "/")
        wait_for(lambda: page.evaluate("document.readyState") == "complete" and "recall-moe" in page.text("model"), "the model's name")
        page.screenshot("start")
        check_question(page, live)
        check_stop(page, live)
        expect_equal(page.complaints, [], "the console")
        check_errors_and_access(page)
    finally:
        page.close()
live_server.finish("serve page")
