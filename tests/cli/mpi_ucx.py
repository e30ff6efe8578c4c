#!/usr/bin/env python3
"""Messages by UCX instead of Open MPI's own transports, over shared memory and TCP: the same tokens as with threads, KV copied and
sharded, experts spread. Exits with 77 and says why where this Open MPI has no UCX, or UCX no transport.

usage: mpi_ucx.py SOURCE_DIR LONGSPAN MPIRUN
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SOURCE, LONGSPAN, MPIRUN = sys.argv[1:4]
MODEL = os.path.join(SOURCE, "models/recall-moe")
PATIENCE = 120  # seconds
SKIPPED = 77
# UCX leaves itself out where it finds no InfiniBand, unless told that any transport will do.
UCX = "--mca pml ucx --mca pml_ucx_tls any --mca pml_ucx_devices any".split()
LAYOUTS = ["--cp 2", "--tp 2 --cp 1", "--cp 2 --moe-dp 1 --ep 2", "--cp 2 --kv shard --kv-exchange ring", "--cp 2 --kv shard --kv-exchange gather-q"]


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit(SKIPPED)


def tokens(work, launcher, flags):
    results = work / "results.jsonl"
    results.unlink(missing_ok=True)
    done = subprocess.run(launcher + [LONGSPAN, "batch", "-m", MODEL, "-i", str(work / "in.jsonl"), "-o", str(results), "-q",
                                      "--dtype", "f32", "--chunked-prefill-size", "150", "--page-size", "16", "--threads", "1"] + flags,
                          capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"{flags}: exit code {done.returncode}: {done.stderr}"
    return [json.loads(line)["token_ids"] for line in results.read_text().splitlines()]


def main():
    info = shutil.which("ompi_info")
    listed = subprocess.run([info, "--parsable"], capture_output=True, text=True).stdout if info else ""
    if "mca:pml:ucx:" not in listed:
        skip("this Open MPI was built without UCX (ompi_info lists no pml ucx)")
    with tempfile.TemporaryDirectory(prefix="mpi_ucx_") as folder:
        work = pathlib.Path(folder)
        words = (pathlib.Path(MODEL) / "demo/document.txt").read_text().split()
        requests = [{"prompt": " ".join(words[:300]), "max_tokens": 8}, {"prompt": "The code word", "max_tokens": 12}]
        (work / "in.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
        alone = tokens(work, [], [])
        for i, flags in enumerate(LAYOUTS):
            transports = ["-x", "UCX_TLS=tcp,self"] if i % 2 == 0 else []  # else the fastest: shared memory
            try:
                got = tokens(work, [MPIRUN, "-n", "2"] + UCX + transports, flags.split() + ["--comm", "mpi"])
            except AssertionError as error:
                if i == 0 and "No components were able to be opened in the pml framework" in str(error):
                    skip(f"UCX finds no transport on this machine: {error}")
                raise
            assert got == alone, f"{flags}: tokens {got}, not {alone}"
            print(f"{' '.join(transports + [flags])}: the same tokens by UCX", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
