"""The engines under comparison: the command that measures or scores each, and how one process is run and watched."""
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Setup:
    longspan: str      # the binary
    work: pathlib.Path  # hf/ and the GGUF files
    threads: int


@dataclasses.dataclass(frozen=True)
class Variant:
    engine: str   # longspan, llama.cpp, transformers
    dtype: str    # in the engine's own words
    option: str = ""  # llama.cpp: ubatch; transformers: experts; longspan: cp

    @property
    def label(self):
        return f"{self.engine} {self.dtype}" + (f" {self.option}" if self.option else "")


@dataclasses.dataclass
class Ran:
    out: dict
    seconds: float
    peak_rss: int       # bytes; mapped files included; longspan: before `bench` measures the machine's limits
    others: float       # cores that other processes kept busy meanwhile


class Failed(Exception):
    """A process that did not answer; the text is its last words."""


def busy_seconds():
    user, nice, system, _, _, irq, softirq, *_ = map(int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def run(command, cpus=None):
    """Runs to the end and reads its JSON. `cpus`: a taskset list."""
    if cpus is not None:
        command = ["taskset", "-c", cpus, *command]
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as answer:
        start, busy = time.monotonic(), busy_seconds()
        process = subprocess.Popen(command, stdout=answer, stderr=errors, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds, busy = time.monotonic() - start, busy_seconds() - busy
        errors.seek(0)
        answer.seek(0)
        if process.returncode != 0:
            words = errors.read().decode(errors="replace").strip().splitlines()
            raise Failed(f"{' '.join(map(str, command))}: exit {process.returncode}: {words[-1] if words else 'no message'}")
        out = json.loads(answer.read() or b"{}")
    return Ran(out, seconds, out.get("peak_memory_bytes", usage.ru_maxrss * 1024), max(0.0, busy - usage.ru_utime - usage.ru_stime) / seconds)


def worker(name, *arguments):
    return [sys.executable, str(HERE / name), *map(str, arguments)]


def longspan_command(setup, dtype, length, cp=1, threads=None):
    """The warm-up runs the whole length once, then one prefill is timed."""
    return [setup.longspan, "bench", "--json", "-m", str(setup.work / "hf"), "--dtype", dtype, "-p", str(length), "-n", "0",
            "-r", "1", "--cp", str(cp), "--threads", str(threads or setup.threads)]


def measure(setup, variant, length):
    """One process, one prefill timed after a warm-up: (milliseconds, Ran)."""
    if variant.engine == "longspan":
        ran = run(longspan_command(setup, variant.dtype, length))
        return ran.out["results"][0]["prefill_ms"]["median"], ran
    if variant.engine == "llama.cpp":
        command = worker("llama_worker.py", setup.work / f"{variant.dtype}.gguf", "--ubatch", variant.option)
    else:
        command = worker("transformers_worker.py", setup.work / "hf", "--dtype", variant.dtype, "--experts", variant.option)
    ran = run([*command, "--threads", str(setup.threads), "--length", str(length), "--repeats", "1"])
    return ran.out["prefill_ms"][0], ran


def score(setup, variant, ids):
    """{logprobs of ids[1:], first: the likeliest next token}"""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = pathlib.Path(folder, "in"), pathlib.Path(folder, "out")
        if variant.engine == "longspan":
            asked.write_text(json.dumps({"prompt_token_ids": ids, "max_tokens": 1, "prompt_logprobs": True, "ignore_eos": True}))
            run([setup.longspan, "batch", "-q", "-m", str(setup.work / "hf"), "--dtype", variant.dtype, "-i", str(asked), "-o",
                 str(answered), "--threads", str(setup.threads)])
            line = json.loads(answered.read_text())
            return {"logprobs": line["prompt_logprobs"][1:], "first": line["token_ids"][0]}
        asked.write_text(json.dumps(ids))
        if variant.engine == "llama.cpp":
            command = worker("llama_worker.py", setup.work / f"{variant.dtype}.gguf", "--ubatch", variant.option)
        else:
            command = worker("transformers_worker.py", setup.work / "hf", "--dtype", variant.dtype, "--experts", variant.option)
        return run([*command, "--threads", str(setup.threads), "--score", str(asked)]).out
