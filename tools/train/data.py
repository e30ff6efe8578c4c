"""Recall documents: facts hidden in book text, questions at the end. One rule, shared with `longspan eval recall`.

Generation rule (models/recall-moe/README.md states the same for other implementations):
  1. paragraphs = the filler text cut at blank lines;
  2. starting at a random paragraph, take consecutive ones (wrapping at the end) until their tokens, with those of the
     facts and the first question, reach the target;
  3. choose k facts: k different names, k different values, a random template for each;
  4. put each fact, as a sentence of its own, after a random sentence of a random paragraph, joined by one space;
  5. document = paragraphs joined by blank lines; the user message and the expected answer follow the patterns in recall.json.
"""
import json
import pathlib
import random
import re

import numpy as np

PREFIXES = ("Thorn Ash Hart Wal Bram Al Stan Wick Far Hol Win Mar El Brock Cran Dal Ever Farn Gar Hal Ken Lang Mel Nor Oak "
            "Pem Rad Sel Tan Under Ves West Wood Brad Chat Den Fen Grim Hazel Kirk Lyn Mal New Or Pres Rock Stam Thur Up "
            "Whit Black Red").split()
SUFFIXES = ("bury field ley worth combe ton wick ford ham stead well wood more land by dale ridge mere gate side ster brook "
            "den shaw croft").split()
PATTERNS = ["Mr. {}", "Mrs. {}", "Miss {}", "Lady {}", "Sir {}", "Colonel {}", "Dr. {}", "{} Hall", "{} House", "{} Park",
            "{} Church", "{} Bridge", "{} Abbey", "{} Street", "Lord {}", "Mount {}", "Old {}", "{} Lodge", "Captain {}", "{} Inn"]
HELDOUT_VALUES = (
    "river silver garden winter candle mountain apple bread honey flower shepherd temple kitchen carriage music summer "
    "morning window table letter horse ship sword crown shield tower bridge castle forest harvest vineyard olive lion eagle "
    "dove raven serpent camel lamb pearl gold copper iron marble ivory linen purple scarlet crimson trumpet harp drum lamp "
    "oil salt wine wheat barley corn cedar oak palm fig rose lily thorn thunder rain snow ice frost wind storm cloud star "
    "moon sun dawn evening midnight autumn spring island ocean shore valley desert field meadow orchard gate wall pillar "
    "chamber parlour library drawing cottage village city market road path journey anchor ladder hammer needle thread "
    "basket bottle cup plate knife spoon glass mirror ring jewel ribbon bonnet cloak glove shoe coat feather paper book "
    "pencil picture chair bed blanket curtain fire smoke ash stone sand clay dust grass leaf root branch seed berry cherry "
    "lemon orange plum peach butter cheese milk cake tea coffee sugar spice dinner supper dance song story riddle doctor "
    "captain soldier sailor farmer teacher king queen prince widow brother cousin uncle parrot rabbit fox wolf bear deer "
    "goat sheep goose duck swan trout whale bee butterfly spider").split()
ATTRIBUTES = ["password", "code", "watchword", "secret word", "code word", "code name", "signal", "motto", "secret sign", "key word",
              "call sign"]
LEADS = ["The {a} of {{name}} is {{value}}.", "It is known that the {a} of {{name}} is {{value}}.",
         "Let nobody forget that the {a} of {{name}} is {{value}}."]
PROMPT = "{document}\n\nQuestion: {question}"


def templates():
    return [{"fact": lead.format(a=a), "question": f"What is the {a} of {{name}}?",
             "answer": f"The {a} of {{name}} is {{value}}."} for a in ATTRIBUTES for lead in LEADS]


def surnames():
    """(training, held out): every prefix with every suffix, one in six held out by a fixed shuffle."""
    names = sorted({p + s for p in PREFIXES for s in SUFFIXES if p.lower() != s})
    random.Random(7).shuffle(names)
    cut = len(names) // 6
    return names[cut:], names[:cut]


def number(rng, held_out):
    """Three or four digits; one in ten is held out of training."""
    while True:
        n = rng.randint(100, 9999)
        if (n % 10 == 7) == held_out:
            return str(n)


def heldout_values(tok, rng):
    """Words of at most two tokens, numbers, and surnames that training never shows."""
    words = [v for v in dict.fromkeys(HELDOUT_VALUES) if len(tok.encode(" " + v).ids) <= 2]
    numbers = list(dict.fromkeys(number(rng, True) for _ in range(40)))
    return words + numbers + rng.sample(surnames()[1], 40)


def paragraphs_of(path):
    return [p for p in pathlib.Path(path).read_text(encoding="utf-8").split("\n\n") if p.strip()]


def sentences_of(paragraph):
    return re.split(r"(?<=[.!?]) ", paragraph.strip())


class Filler:
    """Paragraphs with their token counts (each counted with the blank line after it)."""

    def __init__(self, tok, paths):
        self.paragraphs = [p.strip() for path in paths for p in paragraphs_of(path)]
        self.counts = [len(e.ids) for e in tok.encode_batch([p + "\n\n" for p in self.paragraphs])]

    def stretch(self, rng, tokens):
        i = rng.randrange(len(self.paragraphs))
        out, n = [], 0
        while n < tokens:
            out.append(self.paragraphs[i])
            n += self.counts[i]
            i = (i + 1) % len(self.paragraphs)
        return out


class HeldoutPool:
    """Names, values and templates as recall.json lists them."""

    def __init__(self, path):
        d = json.loads(pathlib.Path(path).read_text())
        self.names, self.values, self.templates = d["names"], d["values"], d["templates"]

    def facts(self, rng, k):
        return list(zip(rng.sample(self.names, k), rng.sample(self.values, k), rng.choices(self.templates, k=k)))


class TrainPool:
    """Training names and values: invented names, book words, and random pieces of the vocabulary."""

    def __init__(self, tok, filler):
        self.templates = templates()
        self.surnames, held_out = surnames()
        self.held_surnames = set(held_out)
        held = set(HELDOUT_VALUES)
        words = {}
        for p in filler.paragraphs:
            for w in re.findall(r"[a-z]{3,}", p):
                words[w] = words.get(w, 0) + 1
        words = sorted(w for w, n in words.items() if n >= 5 and w not in held)
        enc = tok.encode_batch([" " + w for w in words])
        self.words = [[w for w, e in zip(words, enc) if len(e.ids) == n] for n in (1, 2, 3)]
        vocab = [tok.decode([i]) for i in range(tok.get_vocab_size() - 3)]
        self.pieces = [v.strip() for v in vocab if v.strip().isalpha() and v.strip() not in held]

    def value(self, rng):
        r = rng.random()
        if r < 0.35:
            return rng.choice(self.words[0])
        if r < 0.5:
            return rng.choice(self.words[1])
        if r < 0.55:
            return rng.choice(self.words[2])
        if r < 0.75:
            return number(rng, False)
        if r < 0.85:
            return rng.choice(self.surnames)
        if r < 0.93:
            return rng.choice(self.pieces)
        return rng.choice(self.pieces) + rng.choice(self.pieces).lower()

    def name(self, rng, patterns, suffixes):
        r = rng.random()
        if suffixes and r < 0.9:
            return rng.choice(patterns).format(rng.choice(PREFIXES) + rng.choice(suffixes))
        if r < 0.6:
            return rng.choice(patterns).format(rng.choice(self.surnames))
        if r < 0.8:
            return rng.choice(patterns).format((rng.choice(self.pieces) + rng.choice(self.pieces).lower()).capitalize())
        return " ".join(rng.choice(self.pieces).capitalize() for _ in range(rng.randint(1, 3)))

    def likeness(self, rng):
        """(patterns, suffixes) of a document: half of the documents use names that are easily confused."""
        if rng.random() < 0.5:
            return PATTERNS, None
        return rng.sample(PATTERNS, rng.randint(1, 3)), rng.sample(SUFFIXES, rng.randint(1, 6))

    def facts(self, rng, k):
        names, values, out = set(), set(), []
        patterns, suffixes = self.likeness(rng)
        while len(out) < k:
            n, v = self.name(rng, patterns, suffixes), self.value(rng)
            if n in names or v in values or any(w in self.held_surnames for w in n.split()):
                continue
            names.add(n)
            values.add(v)
            out.append((n, v, rng.choice(self.templates)))
        return out


def fill(pattern, name, value=""):
    return pattern.replace("{name}", name).replace("{value}", value)


def make_document(rng, paragraphs, facts):
    """Insert each fact after a random sentence of a random paragraph."""
    parts = [sentences_of(p) for p in paragraphs]
    for name, value, t in facts:
        s = parts[rng.randrange(len(parts))]
        s.insert(rng.randint(1, len(s)), fill(t["fact"], name, value))
    return "\n\n".join(" ".join(s) for s in parts)


class Chat:
    """Token ids of the chat format (ChatML), with the loss weight of every token to be predicted."""

    def __init__(self, tok):
        self.tok = tok
        self.start, self.end = tok.token_to_id("<|im_start|>"), tok.token_to_id("<|im_end|>")
        self.user = [self.start] + self.ids("user\n")
        self.assistant = [self.end] + self.ids("\n") + [self.start] + self.ids("assistant\n")
        self.newline = self.ids("\n")

    def ids(self, text):
        return self.tok.encode(text).ids

    def prompt(self, text):
        return self.user + self.ids(text) + self.assistant

    def answer(self, name, value, t):
        """(ids, weight per id): the value counts most, the words before it are easy copies."""
        full = self.ids(fill(t["answer"], name, value))
        head = self.ids(fill(t["answer"], name, value).rsplit(" ", 1)[0])
        w = [0.6] * len(head) + [1.0] * (len(full) - len(head)) + [0.6]
        return full + [self.end], w


def sample_chat(rng, chat, filler, pool, length, k, turns):
    """One training sequence of at most `length` ids with loss weights (0 where nothing is asked).

    Fewer facts are used where k of them, asked in `turns` turns, leave no room for text.
    """
    facts = pool.facts(rng, k)
    asked = rng.sample(facts, min(turns, k))
    tail_ids, tail_w = [], []
    for i, (name, value, t) in enumerate(asked):
        q = fill(t["question"], name)
        if i:
            tail_ids += chat.newline + chat.prompt(f"Question: {q}")
            tail_w += [0.0] * (len(tail_ids) - len(tail_w))
        a, w = chat.answer(name, value, t)
        if i == 0:
            first_q = q
        tail_ids += a
        tail_w += w
    overhead = len(tail_ids) + 22 * k + 40
    room = max(60, length - overhead)
    for _ in range(4):
        doc = make_document(rng, filler.stretch(rng, max(1, room - 110)), facts)
        head = chat.prompt(PROMPT.replace("{document}", doc).replace("{question}", first_q))
        if len(head) + len(tail_ids) <= length:
            break
        room -= len(head) + len(tail_ids) - length + 20
    ids, w = head + tail_ids, [0.0] * len(head) + tail_w
    if len(ids) > length and k > 1:
        return sample_chat(rng, chat, filler, pool, length, k - 1, min(turns, k - 1))
    return ids[:length], w[:length]


def sample_repeats(rng, length, vocab):
    """Random tokens with repeated stretches; the repeated part carries the loss. Small alphabets ask for longer matches."""
    r = np.random.default_rng(rng.getrandbits(64))
    size = int(np.exp(r.uniform(np.log(24), np.log(vocab - 3))))
    alphabet = r.choice(vocab - 3, size, replace=False)
    ids, w, spans = [], [], []
    while len(ids) < length:
        n = int(r.integers(4, 40))
        if spans and r.random() < 0.55:
            a, m = spans[r.integers(len(spans))]
            o = int(r.integers(0, max(1, m - 6)))
            part = ids[a + o:a + m]
            lead = 3 if size < 512 else 1
            w += [0.0] * min(lead, len(part)) + [1.0] * max(0, len(part) - lead)
            ids += part
        else:
            spans.append((len(ids), n))
            ids += alphabet[r.integers(0, size, n)].tolist()
            w += [0.0] * n
    return ids[:length], w[:length]


def skip_positions(rng, length, limit):
    """Positions 0..length-1 with up to 4 random jumps, so that distances up to `limit` are seen (PoSE)."""
    pos = np.arange(length)
    room = max(2, limit - length)
    total = int(np.exp(rng.uniform(0, np.log(room)))) if rng.random() < 0.5 else rng.randrange(room)
    cuts = sorted(rng.randrange(1, length) for _ in range(rng.randint(1, 4)))
    shares = np.array([rng.random() + 1e-3 for _ in cuts])
    for c, g in zip(cuts, np.floor(shares / shares.sum() * total).astype(int)):
        pos[c:] += g
    return pos
