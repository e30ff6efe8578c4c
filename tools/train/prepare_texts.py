"""Extract the public-domain books used for training and evaluation into plain text files.

Sources are two Debian packages, read through their own programs:
    apt-get install r-cran-janeaustenr bible-kjv bible-kjv-text
    python prepare_texts.py --out /tmp/recall/texts
Each output file holds one paragraph per line pair: paragraphs are separated by one blank line, a paragraph is one line.
"""
import argparse
import pathlib
import re
import subprocess

AUSTEN = ["sensesensibility", "prideprejudice", "mansfieldpark", "emma", "northangerabbey", "persuasion"]
MAX_PARAGRAPH = 900  # characters; longer paragraphs are cut at sentence ends
VERSES_PER_PARAGRAPH = 5


def sentences(paragraph):
    """Cut after . ! ? (with closing quotes) where a space follows; joining with one space restores the paragraph."""
    return re.split(r'(?<=[.!?]) |(?<=[.!?]") ', paragraph)


def cut_long(paragraph):
    out, current = [], ""
    for s in sentences(paragraph):
        if current and len(current) + len(s) > MAX_PARAGRAPH:
            out.append(current)
            current = s
        else:
            current = f"{current} {s}" if current else s
    return out + [current]


def austen(book):
    raw = subprocess.run(["Rscript", "-e", f"library(janeaustenr); writeLines({book})"],
                         capture_output=True, text=True, check=True).stdout
    out = []
    for block in re.split(r"\n\s*\n", raw):
        text = re.sub(r"\s+", " ", block.replace("_", "")).strip()
        if len(text) >= 40:  # drops headings
            out += cut_long(text)
    return out


def kjv():
    raw = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, text=True, check=True).stdout
    verses = [re.sub(r"^\S+ ", "", line).strip() for line in raw.splitlines() if line.strip()]
    return [" ".join(verses[i:i + VERSES_PER_PARAGRAPH]) for i in range(0, len(verses), VERSES_PER_PARAGRAPH)]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", type=pathlib.Path, required=True)
    out = p.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, paragraphs in [(b, austen(b)) for b in AUSTEN] + [("kjv", kjv())]:
        (out / f"{name}.txt").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
        print(name, len(paragraphs), "paragraphs")


if __name__ == "__main__":
    main()
