"""Write src/text/unicode_tables.cc: where the Unicode tables inside the `tokenizers` package differ from Unicode 14.

The pre-tokeniser's regex engine in `tokenizers` knows newer characters than PCRE2 may (Debian 12: Unicode 14), and
its NFC knows older ones than utf8proc does. Exact ids need both differences. Needs a Python whose unicodedata is
Unicode 14 (3.11).

    python make_unicode_tables.py > ../../src/text/unicode_tables.cc
"""
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp".split()
CHARS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
BLOCK = 4096


def regex_class(pattern):
    """Code points that `pattern` matches in the package's regex engine."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    kept = set()
    for i in range(0, len(CHARS), BLOCK):
        for piece, _ in split.pre_tokenize_str("".join(map(chr, CHARS[i:i + BLOCK]))):
            kept.update(map(ord, piece))
    return {c for c in CHARS if c not in kept}


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def table(rows):
    lines, line = [], "   "
    for row in rows:
        if len(line) + 1 + len(row) > 108:
            lines.append(line)
            line = "   "
        line += " " + row
    return "\n".join(lines + [line])


def main():
    assert unicodedata.unidata_version == "14.0.0"
    newer = []
    marks = set()
    for category in CATEGORIES:
        points = {c for c in regex_class(rf"\p{{{category}}}") if unicodedata.category(chr(c)) != category}
        newer += [(lo, hi, category) for lo, hi in ranges(points)]
        if category[0] == "M":
            marks |= points
    nfc = normalizers.NFC()

    def differs(*texts):
        return any(nfc.normalize_str(t) != unicodedata.normalize("NFC", t) for t in texts)

    inert = set(marks)  # marks after Unicode 14 are unknown to an older NFC too
    for c in CHARS:
        if differs("q\u0315" + chr(c) + "\u0334", "q\u0334" + chr(c), "q\u0301\u0316" + chr(c) + "\u0334"):
            inert.add(c)
        parts = unicodedata.decomposition(chr(c)).split()
        canonical = len(parts) == 2 and not parts[0].startswith("<")
        if canonical and differs("".join(chr(int(p, 16)) for p in parts)):
            inert |= {c, int(parts[1], 16)}  # a composite that the package neither takes apart nor builds
    print('// Written by tools/goldens/make_unicode_tables.py.\n#include "text/unicode_tables.h"\n\n'
          "namespace longspan {\nnamespace {\n\n// clang-format off\nconstexpr CategoryRange kNewer[] = {")
    print(table(f"{{0x{lo:x}, 0x{hi:x}, \"{cat}\"}}," for lo, hi, cat in sorted(newer)))
    print("};\n\nconstexpr CodePointRange kInert[] = {")
    print(table(f"{{0x{lo:x}, 0x{hi:x}}}," for lo, hi in ranges(inert)))
    print("};\n// clang-format on\n\n}  // namespace\n\n"
          "std::span<const CategoryRange> newer_characters() { return kNewer; }\n"
          "std::span<const CodePointRange> nfc_inert_characters() { return kInert; }\n\n}  // namespace longspan")


if __name__ == "__main__":
    main()
