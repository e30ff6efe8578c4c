#!/usr/bin/env python3
"""What `plan` predicts each rank's weights to take, against what its process holds in memory that is its own (RssAnon) once it has
answered a request. Two checkpoints that differ in their experts alone are compared, so that all else cancels out. Mapped pages of the
file are the kernel's to keep or drop, which maps up to 2 MiB around what is read: they are told, not checked.

usage: resident_memory.py SOURCE_DIR LONGSPAN MPIRUN
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SOURCE, LONGSPAN, MPIRUN = sys.argv[1:4]
sys.path.insert(0, os.path.join(SOURCE, "tests/support"))
from job_processes import job_processes  # noqa: E402

MODEL = pathlib.Path(SOURCE, "models/recall-moe").resolve()
PATIENCE = 120  # seconds
SHARED = {"hidden_size": 512, "num_hidden_layers": 1, "moe_intermediate_size": 1024, "num_experts_per_tok": 2, "tie_word_embeddings": True}
FEW, MANY = 4, 48  # experts: 12 and 144 MiB in bf16, half of it in int8
SHARE, SLACK = 0.01, 3 << 20  # of the predicted difference, and what huge pages and freed memory may make of it
LAYOUTS = ["--dtype bf16", "--dtype int8", "--tp 2 --cp 1", "--cp 2 --moe-dp 1 --ep 2", "--tp 4 --cp 2 --moe-dp 2"]


def write_model(folder, experts):
    """All matrices hold small numbers: what they are does not matter here, only that none is odd."""
    folder.mkdir()
    config = json.loads((MODEL / "config.json").read_text()) | SHARED | {"num_experts": experts}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (folder / name).symlink_to(MODEL / name)
    hidden, heads, dim = config["hidden_size"], config["num_attention_heads"], config["head_dim"]
    kv, width = config["num_key_value_heads"], config["moe_intermediate_size"]
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "model.norm.weight": [hidden]}
    layer = "model.layers.0."
    shapes |= {layer + f"self_attn.{name}.weight": shape for name, shape in {
        "q_proj": [heads * dim, hidden], "k_proj": [kv * dim, hidden], "v_proj": [kv * dim, hidden], "o_proj": [hidden, heads * dim],
        "q_norm": [dim], "k_norm": [dim]}.items()}
    shapes |= {layer + "input_layernorm.weight": [hidden], layer + "post_attention_layernorm.weight": [hidden],
               layer + "mlp.gate.weight": [experts, hidden]}
    for e in range(experts):
        shapes |= {layer + f"mlp.experts.{e}.{name}.weight": shape for name, shape in {
            "gate_proj": [width, hidden], "up_proj": [width, hidden], "down_proj": [hidden, width]}.items()}
    header, begin = {}, 0
    for name, shape in shapes.items():
        end = begin + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name], begin = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}, end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pattern = b"".join(bytes([i * 37 % 256, 0x3c | (i & 1) << 7]) for i in range(1 << 19))  # bf16 of about +-0.01 to 0.03
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        while begin > 0:
            begin -= file.write(pattern[:begin])
    return folder


def predicted(model, flags):
    """Bytes of each rank's weights."""
    done = subprocess.run([LONGSPAN, "plan", "-m", str(model), "--json"] + flags, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"plan {flags}: {done.stderr}"
    return [rank["weight_bytes"] for rank in json.loads(done.stdout)["ranks"]]


def held(pid, model):
    """Bytes of memory of its own, and of the weight file's pages."""
    own, mapped, in_file = 0, 0, False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            in_file = line.endswith(str(model / "model.safetensors"))
        elif name == "Anonymous:":
            own += int(rest[0]) * 1024
        elif name == "Rss:" and in_file:
            mapped += int(rest[0]) * 1024
    return own, mapped


def resident(model, flags, ranks):
    """[(own, mapped)] of each rank once one request is answered and the next one waited for."""
    marker = f"RESIDENT_MEMORY_TEST={os.getpid()}"
    launcher = [MPIRUN, "-n", str(ranks)] if ranks > 1 else []
    name, value = marker.split("=")
    job = subprocess.Popen(launcher + [LONGSPAN, "batch", "-m", str(model), "-i", "-", "-o", "-", "-q"] + flags, stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {name: value})
    try:
        job.stdin.write(json.dumps({"prompt": "a", "max_tokens": 2, "ignore_eos": True}) + "\n")
        job.stdin.flush()
        line = job.stdout.readline()
        assert line, f"{flags}: no answer: {job.communicate(timeout=PATIENCE)[1]}"
        assert json.loads(line)["finish_reason"] == "length", line
        found = {rank: pid for pid, rank in job_processes(marker).items() if rank is not None} if ranks > 1 else {0: job.pid}
        assert sorted(found) == list(range(ranks)), f"{flags}: processes of ranks {sorted(found)}"
        result = [held(found[rank], model) for rank in range(ranks)]
        _, errors = job.communicate(timeout=PATIENCE)
        assert job.returncode == 0, f"{flags}: exit code {job.returncode}: {errors}"
        return result
    finally:
        job.kill()


def main():
    with tempfile.TemporaryDirectory(prefix="resident_") as name:
        folder = pathlib.Path(name).resolve()
        few, many = write_model(folder / "few", FEW), write_model(folder / "many", MANY)
        for layout in LAYOUTS:
            flags = layout.split() + ["--threads", "1"]
            plans = predicted(few, flags), predicted(many, flags)
            ranks = len(plans[0])
            run_flags = layout.split() + (["--comm", "mpi"] if ranks > 1 else ["--threads", "1"])
            runs = resident(few, run_flags, ranks), resident(many, run_flags, ranks)
            for rank in range(ranks):
                expected = plans[1][rank] - plans[0][rank]
                got = runs[1][rank][0] - runs[0][rank][0]
                print(f"{layout}, rank {rank}: {expected / 2**20:.1f} MiB more of weights predicted, {got / 2**20:.1f} resident, "
                      f"{runs[1][rank][1] / 2**20:.1f} of the file's", flush=True)
                assert abs(got - expected) <= SHARE * expected + SLACK, f"{layout}, rank {rank}: {got} bytes are not {expected}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
