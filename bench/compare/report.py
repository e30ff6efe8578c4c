"""Turn results.json into performance.md and performance.svg.

    python report.py results.json DOCS_FOLDER
"""
import json
import pathlib
import statistics
import sys

from plot import plot

QUIET = 0.2  # cores that others keep busy, below which a machine counts as quiet
ROLES = ["longspan bf16", "longspan int8", "llama.cpp float", "llama.cpp q8_0", "transformers"]


def name(variant):
    """A variant's label in the words of the tables."""
    engine, dtype, *option = variant.split()
    if engine == "longspan":
        return f"Longspan {dtype}"
    return f"{engine} {dtype.upper()}, ubatch {option[0]}" if engine == "llama.cpp" else f"{engine} {dtype}, {option[0]}"


def rates(row):
    """(median, least, most) tokens/s"""
    ms = row["ms"]
    return tuple(1000 * row["length"] / x for x in (statistics.median(ms), max(ms), min(ms)))


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " --- |" * len(head),
                      *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def spread(row):
    median, least, most = rates(row)
    return f"**{median:,.0f}** ({least:,.0f} to {most:,.0f})"


def peak_share(r, variant, row):
    kind = "f32" if "f32" in variant or "float32" in variant else "bf16"
    if "q8_0" in variant or "int8" in variant:
        return "-"
    return f"{r['flops'][str(row['length'])] / statistics.median(row['ms']) / 1e6 / r['peak_gflops'][kind]:.0%}"


class Report:
    def __init__(self, results):
        self.r = results
        self.roles = {role: results["roles"][role] for role in ROLES if role in results["roles"]}
        self.rows = {(row["variant"], row["length"]): row for row in results["rows"]}
        self.lengths = sorted({row["length"] for row in results["rows"]})

    def each(self, cell, missing="not run"):
        """One line a role, one cell a length."""
        for role, variant in self.roles.items():
            yield [name(variant), *(cell(variant, self.rows[variant, n]) if (variant, n) in self.rows else missing
                                  for n in self.lengths)]
        if "longspan int8" not in self.roles:
            yield ["Longspan int8", *["not measured"] * len(self.lengths)]

    def ratio(self, ours, theirs):
        a, b = self.roles.get(ours), self.roles[theirs]
        cells = []
        for n in self.lengths:
            both = (a, n) in self.rows and (b, n) in self.rows
            cells.append(f"{rates(self.rows[a, n])[0] / rates(self.rows[b, n])[0]:.2f}" if both else "-")
        return [f"{name(a)} / {name(b)}", *cells]

    def context_parallel(self):
        lines = []
        for n in sorted({row["length"] for row in self.r["cp"]}):
            by = {row["variant"]: row for row in self.r["cp"] if row["length"] == n}
            one, two, wide = by["cp 1, 1 core"], by["cp 2, 2 cores"], by["cp 1, 2 threads"]
            lines.append([f"{n:,}", spread(one), spread(two), spread(wide), f"{rates(two)[0] / rates(one)[0]:.2f}",
                          f"{rates(two)[0] / rates(wide)[0]:.2f}"])
        return table(["prompt", "cp 1 on 1 core", "cp 2 on 2 cores", "cp 1 with 2 threads", "cp 2 / 1 core",
                      "cp 2 / 2 threads"], lines)

    def load(self):
        others = [x for row in self.r["rows"] + self.r["cp"] for x in row["others"]]
        return statistics.median(others), max(others)

    def agreement(self):
        if "agreement" not in self.r:
            return "Not checked in this run."
        a = self.r["agreement"]
        lines = [[x["variant"], f"{x['median']:.2%}", f"{x['bound'][0]:.1%}", f"{x['rms']:.1%}", f"{x['bound'][1]:.0%}",
                  "same" if x["same_next_token"] else "another"] for x in a["rows"]]
        loads = "; ".join(f"layer {i}: {x[0]} to {x[2]}, median {x[1]}" for i, x in enumerate(a["expert_rows"]))
        return (f"Before anything is timed, every engine scores the same {a['tokens']} tokens. Oracle: {a['oracle']}, on the same bf16 "
                f"weights. The log-probabilities of the {a['tokens'] - 1} tokens after the first spread by {a['spread_nats']:.2f} nats (standard deviation); an engine "
                "with an error in rope, norms, mask or routing would be off by more than that spread, and the run stops when one "
                "is out of its bound. Differences, as shares of the spread (the rms is that of rows whose 8th and 9th expert are a near "
                "tie, and of the rows that see them; no arithmetic decides these alike):\n\n"
                + table(["engine", "median", "bound", "rms", "bound", "next token"], lines)
                + f"\n\nRows that an expert got of these {a['tokens']} (8 each): {loads}.")

    def text(self):
        r, m = self.r, self.r["machine"]
        median, most = self.load()
        head = ["prompt", *(f"{n:,}" for n in self.lengths)]
        ratios = [self.ratio("longspan bf16", "llama.cpp float"), self.ratio("longspan bf16", "transformers")]
        ratios.append(self.ratio("longspan int8" if r["longspan_int8"] else "longspan bf16", "llama.cpp q8_0"))
        settings = table(["setting tried", "prompt", "tokens/s"],
                         [[x["variant"], f"{x['length']:,}", f"{1000 * x['length'] / x['ms']:,.0f}"] for x in r["settings"]])
        versions = ", ".join(f"{k} {v.replace('longspan ', '')}" for k, v in r["versions"].items())
        return f"""# Performance

Prefill of one prompt on CPU, Longspan beside llama.cpp and transformers. Written by `bench/compare/run`{' with `--quick`' if r['quick'] else ''} on {r['date']}.

While the samples ran, other processes kept {median:.1f} of the machine's {m['cores']} cores busy (median; {most:.1f} at worst){
    ", so absolute rates are lower than the machine's" if median >= QUIET else ""}.
All engines run in turn within one run, so read the ratios. Each cell is the median of {r['rounds']} samples ({r['long_rounds']} over 8,192 tokens and for context parallelism), with the least and the most.

- machine: {m['cpu']}, {m['cores']} cores, {m['memory'] / 2**30:.0f} GiB, {', '.join(m['flags'])}; {m['system']}
- versions: {versions}
- {r['threads']} thread{'s' if r['threads'] > 1 else ''} for every engine; OMP_WAIT_POLICY={r['wait_policy']} for all: spinning threads wait out whole time slices where a core has other work,
  and the peers lose most by it

![tokens per second by prompt length](performance.svg)

## Prefill, tokens/s: median (least to most)

{table(head, self.each(lambda v, row: spread(row)))}

The same as ratios of medians:

{table(head, ratios)}

Share of the peak, by the model's arithmetic (masked attention not counted). Peak: the best of three big torch multiplies in the same run, {r['peak_gflops']['bf16']:.0f} GFLOP/s in bf16 and
{r['peak_gflops']['f32']:.0f} in f32; each engine against the peak of its own dtype. The peak suffers from the load as the engines do.

{table(head, self.each(lambda v, row: peak_share(r, v, row)))}

Peak resident memory of the process, GiB (mapped checkpoint pages included):

{table(head, self.each(lambda v, row: f"{row['peak_rss'] / 2**30:.2f}"))}

## Context parallelism

One rank on one core, two ranks on two cores, and one rank with two threads; bf16, cores fixed by taskset.{
    " Others kept cores busy, so this says little about a quiet machine: two cores then have hardly more than one to give." if median >= QUIET else ""}

{self.context_parallel() if r['cp'] else 'Not run.'}

## Agreement

{self.agreement()}

## How it is measured

- Model: two layers with Qwen3-30B-A3B's geometry (hidden 2,048, 32 query and 4 KV heads of 128, 128 experts of width 768, top 8, qk-norm), vocabulary cut to
  32,768 entries (logits are computed for the last row only); random weights from a recorded seed, made once in bf16 as a Hugging Face folder, and from
  these as GGUF in BF16, F16, F32 and Q8_0 (norms and router in F32).
- Every sample is a fresh process with a warm file cache: it loads, warms up, and times one prefill from token ids to the last row's logits and the likeliest token.
  Loading is not timed. Longspan warms up with a whole prompt, the others with its first 2,048 tokens. Prompts are the ids that `longspan bench --seed 0` draws.
- llama.cpp: llama-cpp-python compiled from its source package for this CPU (the defaults of the package), flash attention on, K and V in f16, one
  `llama_decode` a prompt. transformers: SDPA attention, KV cache on, logits of the last row. Both at the fastest of these settings, one sample each:

{settings}
"""


def main():
    results, docs = json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
    report = Report(results)
    (docs / "performance.md").write_text(report.text())
    lines = {name(v): [(n, rates(report.rows[v, n])) for n in report.lengths if (v, n) in report.rows]
             for v in report.roles.values()}
    (docs / "performance.svg").write_text(plot(lines))


if __name__ == "__main__":
    main()
