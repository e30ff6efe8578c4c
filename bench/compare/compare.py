"""Measure the engines side by side and write results.json; bench/compare/run sets everything up and calls this.

Every sample is a fresh process that loads, warms up and then times one prefill; rounds go over all engines in turn, so a
busy or throttled machine hits all alike.
"""
import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess

import geometry
from agree import agreement
from engines import Failed, Setup, Variant, longspan_command, measure, run, worker

LONG = 8192  # tokens; longer prompts may get fewer rounds
LLAMA_FLOAT, UBATCHES = ("bf16", "f16", "f32"), ("512", "2048")
TRANSFORMERS = [("bfloat16", "grouped_mm"), ("bfloat16", "eager"), ("float32", "grouped_mm")]
# What, cp, threads, cores: two ranks on two cores against one on one, and against one rank with two threads.
CP_CASES = [("cp 1, 1 core", 1, 1, "0"), ("cp 2, 2 cores", 2, 2, "0,1"), ("cp 1, 2 threads", 1, 2, "0,1")]
CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def say(text):
    print(text, flush=True)


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    field = lambda name: next(l.split(":", 1)[1].strip() for l in info.splitlines() if l.startswith(name))
    flags = field("flags").split()
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) * 1024
    return {"cpu": f"{field('model name')} (family {field('cpu family')}, model {field('model')})",
            "cores": len(os.sched_getaffinity(0)), "flags": [f for f in CPU_FLAGS if f in flags], "memory": memory,
            "system": f"{platform.system()} {platform.release().split('-')[0]}"}


def versions(longspan):
    said = subprocess.run([longspan, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    return {"longspan": said} | {p: importlib.metadata.version(p) for p in ("llama-cpp-python", "transformers", "torch")}


def dtype_of_longspan(setup, dtype):
    """The word is known and runs."""
    try:
        run(longspan_command(setup, dtype, 16))
        return True
    except Failed as error:
        say(f"longspan {dtype}: not in this build ({error})")
        return False


def fastest(setup, candidates, length):
    """(the fastest, what each did), one sample each."""
    tried = {}
    for variant in candidates:
        try:
            tried[variant] = measure(setup, variant, length)[0]
            say(f"settings: {variant.label}: {1000 * length / tried[variant]:.0f} tokens/s at {length}")
        except Failed as error:
            say(f"settings: {variant.label}: {error}")
    best = min(tried, key=tried.get)
    return best, [{"variant": v.label, "length": length, "ms": ms} for v, ms in tried.items()]


def sample(setup, row, length, call):
    ms, ran = call()
    row["ms"].append(ms)
    row["peak_rss"] = max(row["peak_rss"], ran.peak_rss)
    row["others"].append(ran.others)
    say(f"{length:>6} {row['variant']:<36} {1000 * length / ms:>7.0f} tokens/s, peak {ran.peak_rss / 2**30:.2f} GiB, "
        f"others kept {ran.others:.1f} cores busy")


def rounds(setup, variants, args, save):
    """All engines in turn at one length, round by round, then context parallelism; saved after each step."""
    cp = {(c, n): {"variant": c[0], "length": n, "ms": [], "peak_rss": 0, "others": []} for n in args.cp_lengths for c in CP_CASES}
    rows = {(v, n): {"variant": v.label, "engine": v.engine, "length": n, "ms": [], "peak_rss": 0, "others": []}
            for v in variants for n in args.lengths
            if v.engine != "transformers" or n <= args.transformers_up_to}
    short, long = ([n for n in args.lengths if (n > LONG) == x] for x in (False, True))
    steps = [(i, n) for i in range(args.rounds) for n in short] + [(i, n) for i in range(args.long_rounds) for n in long]
    for number, length in steps:
        order = [v for v in variants if (v, length) in rows]
        turn = number % len(order)
        for variant in order[turn:] + order[:turn]:
            sample(setup, rows[variant, length], length, lambda: measure(setup, variant, length))
        save(rows, cp)
    for _ in range(args.long_rounds):
        for (case, length), row in cp.items():
            sample(setup, row, length, lambda: context_parallel(setup, case, length))
        save(rows, cp)


def context_parallel(setup, case, length):
    _, cp, threads, cpus = case
    ran = run(longspan_command(setup, "bf16", length, cp=cp, threads=threads), cpus=cpus)
    return ran.out["results"][0]["prefill_ms"]["median"], ran


def main():
    p = argparse.ArgumentParser()
    numbers = lambda text: [int(x) for x in text.split(",")]
    p.add_argument("--longspan", required=True)
    p.add_argument("--work", type=pathlib.Path, required=True)
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--quick", action="store_true", help="512 and 2048 tokens, 2 rounds")
    p.add_argument("--lengths", type=numbers)
    p.add_argument("--rounds", type=int)
    p.add_argument("--long-rounds", type=int, help=f"rounds over {LONG} tokens, and of context parallelism; default: --rounds")
    p.add_argument("--settings-length", type=int, help="prompt with which the peers' best settings are chosen")
    p.add_argument("--transformers-up-to", type=int, default=16384)
    p.add_argument("--cp-lengths", type=numbers)
    p.add_argument("--skip-agreement", action="store_true")
    args = p.parse_args()
    args.lengths = args.lengths or ([512, 2048] if args.quick else [512, 4096, 16384, 32768])
    args.cp_lengths = args.cp_lengths or ([2048] if args.quick else [8192, 16384])
    args.rounds = args.rounds or (2 if args.quick else 3)
    args.long_rounds = args.long_rounds or args.rounds
    args.settings_length = args.settings_length or (1024 if args.quick else 4096)

    setup = Setup(args.longspan, args.work, args.threads)
    results = {"date": datetime.date.today().isoformat(), "quick": args.quick, "machine": machine(),
               "versions": versions(args.longspan), "threads": args.threads, "rounds": args.rounds,
               "long_rounds": args.long_rounds, "wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
               "load_average_at_start": os.getloadavg()[0]}
    ours = [Variant("longspan", "bf16")]
    if dtype_of_longspan(setup, "int8"):
        ours.append(Variant("longspan", "int8"))
    results["longspan_int8"] = len(ours) == 2

    llama_float, tried = fastest(setup, [Variant("llama.cpp", d, u) for d in LLAMA_FLOAT for u in UBATCHES], args.settings_length)
    llama_int8, more = fastest(setup, [Variant("llama.cpp", "q8_0", u) for u in UBATCHES], args.settings_length)
    # Loading and small products dominate here; what wins at 512 wins by far.
    torch_best, last = fastest(setup, [Variant("transformers", *x) for x in TRANSFORMERS], min(512, args.settings_length))
    results["settings"] = tried + more + last
    variants = [*ours, llama_float, llama_int8, torch_best]
    results["roles"] = {"longspan bf16": ours[0].label, "llama.cpp float": llama_float.label,
                        "llama.cpp q8_0": llama_int8.label, "transformers": torch_best.label}
    if results["longspan_int8"]:
        results["roles"]["longspan int8"] = ours[1].label

    if not args.skip_agreement:
        checked = [Variant("longspan", "f32"), *variants, *([] if llama_float.dtype == "f32" else [Variant("llama.cpp", "f32", "512")])]
        results["agreement"] = agreement(setup, checked, geometry.VOCAB, say)

    peaks = []
    results["flops"] = {n: geometry.prefill_flops(n) for n in args.lengths}

    def save(rows, cp):
        peaks.append(run(worker("peak_worker.py", "--threads", args.threads)).out)
        results.update(rows=[r for r in rows.values() if r["ms"]], cp=[r for r in cp.values() if r["ms"]],
                       load_average_at_end=os.getloadavg()[0],
                       peak_gflops={k: statistics.median(x[k] for x in peaks) for k in ("f32", "bf16")})
        args.out.write_text(json.dumps(results, indent=1) + "\n")

    rounds(setup, variants, args, save)


if __name__ == "__main__":
    main()
