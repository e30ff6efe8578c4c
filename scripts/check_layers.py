#!/usr/bin/env python3
"""Refuses an include that goes up, sideways, or to a vendor header outside its backend's folder; and two types of one
name in one namespace, which a linker takes for one.

usage: check_layers.py [SOURCE_DIR]
"""
import pathlib
import re
import sys

# What each folder of src/ may include besides itself, base and the public headers.
ALLOWED = {
    "base": set(),
    "tensor": set(),
    "text": set(),
    "grammar": set(),
    "plan": set(),
    "kv": set(),
    "checkpoint": {"tensor"},
    "device": {"tensor", "plan", "comm"},
    "comm": set(),
    "schedule": {"plan", "kv"},
    "model": {"device", "comm", "checkpoint", "plan", "tensor"},
    "engine": {"model", "device", "comm", "checkpoint", "schedule", "plan", "kv", "text", "grammar", "tensor"},
    "server": {"text", "grammar"},
    "cli": {"plan", "device", "checkpoint", "model", "server"},
}
# The CANN simulator shares nothing with src/.
SIMULATOR = {"abi", "core", "hccl", "ops", "sim"}
PUBLIC_ONLY = re.compile(r"^longspan/")
VENDOR = {
    "device/cpu": re.compile(r"^(oneapi/|dnnl|immintrin)"),
    "device/cuda": re.compile(r"^(cuda|cublas|nccl)"),
    "comm/mpi": re.compile(r"^mpi\.h"),
    "server": re.compile(r"^(boost|openssl|prometheus)/"),
    "device/ascend": re.compile(r"^(acl/|aclnn|hccl)"),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
MAX_LINES = 800
# Comments, strings and characters; and what opens or closes a scope.
SILENT = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)
SCOPE = re.compile(
    r"\bnamespace\b\s*(?P<space>[\w:]*)\s*\{"
    r"|\b(?:struct|class|union|enum(?:\s+class|\s+struct)?)\s+(?:alignas\s*\([^)]*\)\s*)?(?P<type>\w+)"
    r"(?:\s+final)?\s*(?::(?!:)[^;{(]*)?\{"
    r"|[{}]")


def includes(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := INCLUDE.match(line):
            yield number, match.group(1)


def types(path):
    """Line and full name of each type that the file defines in a named namespace."""
    text = SILENT.sub(lambda match: "\n" * match.group().count("\n"), path.read_text())
    scopes = []  # namespaces; "" is one without a name, None anything else
    for match in SCOPE.finditer(text):
        if match.group() == "}":
            if scopes:
                scopes.pop()
            continue
        if match.group("type") and all(scopes):
            yield text.count("\n", 0, match.start()) + 1, "::".join([*scopes, match.group("type")])
        scopes.append(match.group("space"))


def twins(root):
    first = {}
    for folder in ("include", "src"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in {".h", ".cc"}:
                continue
            for number, name in types(path):
                here = f"{path.relative_to(root)}:{number}"
                if first.setdefault(name, here) != here:
                    yield f"{here}: {name} is a type in {first[name]} too; rename one"


def problems(root):
    yield from twins(root)
    for path in sorted((root / "include").rglob("*.h")):
        for number, name in includes(path):
            if "/" in name and not PUBLIC_ONLY.match(name):
                yield f"{path.relative_to(root)}:{number}: public headers include standard headers only, not {name}"
    for path in sorted((root / "src").rglob("*")):
        if path.suffix not in {".h", ".cc"}:
            continue
        relative = path.relative_to(root / "src")
        layer = relative.parts[0]
        if layer not in ALLOWED:
            yield f"src/{relative}: unknown layer {layer}; add it to scripts/check_layers.py"
            continue
        lines = path.read_text().count("\n")
        if lines > MAX_LINES:
            yield f"src/{relative}: {lines} lines; at most {MAX_LINES}"
        for number, name in includes(path):
            first = name.split("/")[0]
            if first in ALLOWED and first not in ALLOWED[layer] | {layer, "base"}:
                yield f"src/{relative}:{number}: {layer}/ may not include {name}"
            if first in SIMULATOR:
                yield f"src/{relative}:{number}: src/ may not include the simulator's {name}"
            for folder, vendor in VENDOR.items():
                if vendor.match(name) and not str(relative).startswith(folder):
                    yield f"src/{relative}:{number}: {name} belongs in src/{folder}/ only"
    for path in sorted((root / "sim").rglob("*")):
        if path.suffix not in {".h", ".cc"}:
            continue
        for number, name in includes(path):
            first = name.split("/")[0]
            if "/" in name and (first in ALLOWED or first == "longspan"):
                yield f"{path.relative_to(root)}:{number}: sim/ may not include {name}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    found = list(problems(root))
    print("\n".join(found) or "layers: no include goes up")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
