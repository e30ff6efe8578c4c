#!/usr/bin/env python3
"""Refuses documents that name files, headings or pictures that don't exist.

usage: check_docs.py [SOURCE_DIR]
"""
import pathlib
import re
import sys

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# `src/plan/cp_plan.h`, `scripts/demo`, `docs/cp.md`: a path in code font that starts with a folder of ours.
PATH = re.compile(r"`((?:src|include|tests|bench|tools|scripts|docs|models|examples|eval|cmake|packaging)/[\w./{},*-]+)`")


def expand(path):
    match = re.search(r"\{([^}]*)\}", path)
    if not match:
        return [path]
    return [path[: match.start()] + part + path[match.end() :] for part in match.group(1).split(",")]


def problems(root):
    for document in sorted([*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("bench/*.md")]):
        text = document.read_text()
        for target in LINK.findall(text):
            if re.match(r"^(https?:|mailto:|#)", target):
                continue
            if not (document.parent / target.split("#")[0]).exists():
                yield f"{document.relative_to(root)}: link to {target}, which does not exist"
        for path in PATH.findall(text):
            for name in expand(path):
                if not list(root.glob(name.rstrip("/"))):
                    yield f"{document.relative_to(root)}: names {name}, which does not exist"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    found = list(problems(root))
    print("\n".join(found) or "docs: every path and link exists")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
