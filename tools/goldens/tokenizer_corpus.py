"""The texts that the tokenizer goldens are made of: training text and a corpus of (name, bytes)."""
import random

TRAINING_TEXT = """The quick brown fox jumps over the lazy dog, and then it doesn't; they're sure we've seen it, I'm told she'll go.
def prefill(tokens: list[int], pages=None) -> int:\n    return sum(len(p) for p in pages) if pages else 0\n
for (int i = 0; i < 128; ++i) {\n\tout[i] += a[i] * b[i];  // multiply\n}\n\n\n  In the year 1984 there were 1000 of 12345.
Größe, Straße, über; ça va, déjà vu, garçon; niño, mañana. Привет, как дела? 你好，世界。今天天气很好。こんにちは、世界。
안녕하세요 세계 नमस्ते दुनिया สวัสดีชาวโลก שלום עולם مرحبا بالعالم Γειά σου Κόσμε 😀😀 👍 🎉🎉
the the the and and of of to to in in that that is is was was he he for for it it with with as as his his on on be be at at
prompt attention tokens context parallel prefill decode cache pages ranks sequence model weights layer expert router
""" * 3

_WORDS = "the Long context's prompt isn't they'LL 'S hello World tokenizer straße naïve Ünïcödé don't I'd we'Ve".split()

_TEXTS = {
    "empty": "",
    "ascii": "The quick brown fox jumps over the lazy dog.",
    "sentence": "In the year 1984, they'd seen 12,345 of the 1000000 pages; isn't that it?",
    "contractions": "I'm you're he's SHE'S we'VE they'Ll it'd 'tis don't 'S'T'RE'VE'M'LL'D o'clock rock'n'roll '' 's'",
    "contractions unicode": "'\u017f it'\u017f \u2019s it\u2019s '\u212a '\u017ft",
    "latin": "Größe Straße ÜBER ça déjà garçon niño Ærøskøbing łódź İstanbul ığdır ǅ ﬁne ﬀ ß ẞ",
    "russian": "Привет, как дела? Съешь же ещё этих мягких французских булок.",
    "greek": "Γειά σου Κόσμε· ὦ ἄνδρες Ἀθηναῖοι",
    "chinese": "你好，世界。今天天气很好，我们去公园散步吧！１２３ ㊙ 〇",
    "japanese": "こんにちは、世界。ｶﾀｶﾅ カタカナ がぎぐ ﾊﾟﾋﾟ ヴ",
    "korean": "안녕하세요 세계 각 한글",
    "jamo": "\u1112\u1161\u11ab\u1100\u1173\u11af \u1100\u1161\u11a8\u11a8",
    "hebrew": "שָׁלוֹם עוֹלָם",
    "arabic": "مَرْحَبًا بالعالم ١٢٣ ۴۵۶",
    "hindi": "नमस्ते दुनिया क़ख़ १२३",
    "thai": "สวัสดีชาวโลก ๑๒๓",
    "tamil bengali": "வணக்கம் உலகம் ক্ষ\u09c7\u09be ৰ",
    "ethiopic cherokee": "ሰላም ᏣᎳᎩ ꮳꮃꭹ",
    "runes gothic": "ᚠᛇᚻ 𐌰𐌱𐌲 𒀀𒀁 𓀀",
    "newer scripts": "\U0001e4d0\U0001e4d1 \U00011f04\U00011f05 \U00031350\U0002ebf0\U00010d50\U00010d70 \U00010d40\U00010d41 \ua7cb\u1c89",
    "unassigned": "\u0378 \U000e0fff \U0003ffff\ufdd0 \uffff",
    "private": "\ue000\U000f0000\U0010fffd",
    "emoji": "😀 😃😄 👍🎉 ☺️ ❤️ ✈ ™️",
    "emoji zwj": "👨‍👩‍👧‍👦 👩🏽‍💻 🏳️‍🌈 🧑🏿‍🚀 🏴‍☠️",
    "emoji flags": "🇩🇪🇫🇷🇯🇵 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩",
    "emoji skin": "👋🏻👋🏼👋🏽👋🏾👋🏿 ✊🏿",
    "emoji keycap": "1️⃣2️⃣ #️⃣ 🔟",
    "math": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ½·∑√² 𝔘𝔫𝔦 𝟏𝟐𝟑 ½ ¾ Ⅷ ⅻ ① ²³",
    "currency": "€12.50 £3 ¥¥ ₹1,00,000 $5 ₿",
    "code c": "for (int i = 0; i < 128; ++i) {\n\tout[i] += a[i] * b[i];  // multiply\n}\n\n\n",
    "code python": "def f(x):\n    if x:\n        return {'a': [1, 2.5e-3, 0xFF]}\n\n\nclass A:\n\tpass\n",
    "code json": '{"a":[1,2,{"b":null}],"c":"\\u00e9\\n"}\r\n',
    "code latex": "\\begin{align*} x_{1}^{2} &= \\frac{a}{b} \\\\ \\end{align*}",
    "url": "https://example.org/a/b?c=d&e=%20f#g user@example.com C:\\dir\\file.txt",
    "markdown": "# Title\n\n* item **bold** `code`\n\n```cpp\nint x;\n```\n---\n| a | b |\n",
    "spaces": "a b  c   d    e     f      ",
    "spaces start": "    four spaces, then text",
    "spaces only": "                    ",
    "long spaces": " " * 300 + "x" + " " * 300,
    "one space": " ",
    "tabs": "a\tb\t\tc\t\t\td\t \t e\t",
    "newlines": "a\nb\n\nc\n\n\nd\n \n e \n\n f\n",
    "crlf": "a\r\nb\r\n\r\nc\rd\r\r\n\n",
    "space newline": "a  \n  b \t\n\t c    \n\n    d",
    "newlines only": "\n\n\n\n\n\n\n\n",
    "nbsp": "a\u00a0b\u00a0\u00a0c \u00a0 d\u00a0",
    "unicode spaces": "a\u2003b\u2009\u200ac\u3000d\u1680e\u205f\u202ff\u2000\u2001 g",
    "line separators": "a\u2028b\u2029c\u2028\u2029 d\u0085e\u0085\u0085 f",
    "vertical": "a\x0bb\x0cc\x0b\x0c d",
    "zero width": "a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg",
    "mongolian separator": "a\u180eb \u180e c\u180e\u180e",
    "controls": "a\x00b\x01\x02c\x1b[31m\x7f \x1c\x1d\x1e\x1f d",
    "bidi": "\u202eabc\u202c \u2066x\u2069",
    "digits": "1 12 123 1234 12345 123456789012345678901234567890",
    "digits mixed": "a1b22c333 3.14159 1,000,000 1e10 v2.0.1 007 ٣٤٥٦ ৪৫ 𝟗𝟘 一二三",
    "punctuation": "!!! ??? ... ,,, ;:;: (()) [[]] {{}} <<>> -- --- — – ‘’ “” «» ¿¡ … ‽",
    "punctuation newline": "hello!\n\nworld?\r\n(x)\n",
    "underscores": "_a__b___c snake_case_name __init__ CamelCaseName kebab-case",
    "nfc composed": "é ñ ü å Å Ω Ḁ ế ṩ",
    "nfc decomposed": "e\u0301 n\u0303 u\u0308 a\u030a A\u030a e\u0302\u0301 s\u0323\u0307 s\u0307\u0323",
    "nfc singletons": "\u212b \u2126 \u212a \u00c5 \u0340\u0341 \u037e \u0387 \u2000 \uf900\ufa0e \u2f800",
    "nfc exclusions": "\u0958\u0959 \u2adc \ufb1d \ufb2a \U0001d15e \u0f43",
    "nfc marks": "a\u0315\u0300\u05ae\u0327b a\u0300\u0301\u0302\u0303\u0304 \u0301start q\u0307\u0323",
    "nfc hangul": "\u1100\u1161 \u1100\u1161\u11a8 \uac00\u11a8 \uac01\u11a8",
    "nfc newer marks": "e\u0898\u0301 e\u0323\u08ca\u0301 q\u0315\u1abf\u0334 \U00011935\U00011930 \U00011938 e\u0897\u0301\u0316",
    "zalgo": "Z\u0351\u036b\u0343\u032a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e\u0320\u034dA\u036b\u0357",
    "many marks": "a" + "\u0301\u0316" * 60 + "b" + "\u0323\u0307\u031b" * 30,
    "special chatml": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<|endoftext|>",
    "special llama": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
    "special broken": "<|im_start <|im_end|x|> <| im_end |> <<|im_end|>> |><|endoftext|",
    "special spaces": "a <|im_end|> b\n<|endoftext|>\n c  <|eot_id|>  d",
    "special double": "<|im_end|><|im_end|><|endoftext|><|endoftext|>",
    "tool calls": "<tool_call>\n{\"name\": \"f\"}\n</tool_call><tool_call></tool_call>",
    "odd strips": "a  <left>  b \t<right>\n c  <both>  d<left> <right> <both>\u3000<left>\n\n<right>\u2028<both>",
    "odd overlap": "<a> <a>b <a>bb <<a>> <a <a>",
    "odd normalized": "<norm\u00e9> <norme\u0301> <normE\u0301> <Norm\u00e9><Norme\u0301> explain plains e\u0301t\u00e9 \u00e9te\u0301 two words two  words",
    "odd end": "<end>text<end> <left><left>",
    "long word": "pneumonoultramicroscopicsilicovolcanoconiosis" * 8,
    "repeated char": "a" * 500,
    "repeated pair": "ab" * 250,
    "repeated emoji": "😀" * 60,
    "repeated punctuation": "=" * 200 + "\n" + "-" * 77,
    "long digits": "1234567890" * 20,
    "base64": "VGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIHRoZSBsYXp5IGRvZw==" * 3,
    "mixed scripts": "Hello你好Привет안녕مرحبا שלום123abc", "mixed case": "aBcDeF GHIjkl ǅungla ΑΒγδ",
    "apostrophes": "'a 'b' ''c'' d'e' 'f’s ’twas",
}

_BYTES = {
    "invalid lone continuation": b"a\x80b\xbf\xbfc",
    "invalid truncated": b"a\xe4\xbd b\xf0\x9f\x98 c\xc3",
    "invalid truncated end": b"\xf0\x9f\x98",
    "invalid overlong": b"\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf \xc1\xbf",
    "invalid surrogates": b"\xed\xa0\x80\xed\xbf\xbf \xed\xa0\xbd\xed\xb8\x80",
    "invalid range": b"\xf4\x90\x80\x80 \xf5\x80\x80\x80 \xff\xfe \xf8\x88\x80\x80\x80",
    "invalid mixed": b"ok \xe4\xbd\xa0\xe5 \xe5\xa5 \xf0\x9f\x98\x80\xf0\x9f <|im_end|>\xff",
    "invalid latin1": "naïve café".encode("latin-1"),
    "invalid all bytes": bytes(range(256)),
}

CORPUS = [(n, t.encode("utf-8")) for n, t in _TEXTS.items()] + list(_BYTES.items())

_POOLS = [
    [" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u2003", "\u2028", "\u0085", "   "],
    list("abcdefgXYZ"), list("0123456789"), list("'.,!?-_(){}<>|/\\\"=+"), _WORDS,
    ["'s", "'RE", "'ll", "'\u017f", "\u2019s"], list("äéßÅøıİſK"), list("жЩы"), list("你好世界"), list("かカ゚゙が"),
    list("각각"), ["\u0301", "\u0316", "\u0323", "\u0307", "\u0327", "\u05b0", "\u08ca", "\u0315"],
    list("שلم"), list("นที่"), list("नक्षि"), ["😀", "👩\u200d💻", "🏽", "🇩", "🇪", "\ufe0f", "\u20e3"], list("٣४½Ⅷ²"),
    ["<|im_end|>", "<|endoftext|>", "<a>", "<left>", "<both>", "plain", "<|eot_id|>", "<|", "|>"],
    ["\U0001e4d0", "\U00031350", "\u180e", "\u200b", "\ufeff", "\x00", "\u0378"],
]


def random_texts(count, seed=20):
    """Texts of 1 to 40 parts from a few pools each; one in eight has a broken byte."""
    rng = random.Random(seed)
    out = []
    for i in range(count):
        pools = rng.sample(_POOLS, rng.randrange(1, 6))
        text = "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(1, 41))).encode("utf-8")
        if rng.randrange(8) == 0:
            at = rng.randrange(len(text))
            text = text[:at] + bytes([rng.randrange(128, 256)]) + text[at + 1:]
        out.append((f"random {i}", text))
    return out
