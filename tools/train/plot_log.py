"""Draw the training log (JSON lines of train_recall.py) as an SVG: value loss and share of value tokens right, by tokens seen.

    python plot_log.py run.jsonl ../../models/recall-moe/training.svg
"""
import json
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 300, 50, 40, 30


def line(points, color, top):
    """points (tokens, y); y in 0..top."""
    last = points[-1][0]
    xy = " ".join(f"{LEFT + (WIDTH - LEFT - 20) * t / last:.1f},{HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * min(y, top) / top:.1f}"
                  for t, y in points)
    return f'<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{xy}"/>'


def main():
    rows = [r for r in map(json.loads, open(sys.argv[1], encoding="utf-8")) if "step" in r]
    done = [r for i, r in enumerate(rows) if all(s["tokens"] > r["tokens"] for s in rows[i + 1:])]  # a resumed run repeats steps
    rows = [r for r in done if "value" in r]
    last, top = rows[-1]["tokens"], 3.0
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for i in range(4):
        y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * i / 3
        parts.append(f'<path d="M{LEFT} {y:.0f}H{WIDTH - 20}" stroke="#ddd"/><text x="{LEFT - 8}" y="{y + 4:.0f}" '
                     f'text-anchor="end">{i}</text><text x="{WIDTH - 16}" y="{y + 4:.0f}">{"0 ⅓ ⅔ 1".split()[i]}</text>')
    previous = None
    for r in rows:
        if r["phase"] != previous:
            x = LEFT + (WIDTH - LEFT - 20) * r["tokens"] / last
            parts.append(f'<path d="M{x:.0f} {TOP}V{HEIGHT - BOTTOM}" stroke="#bbb" stroke-dasharray="3"/>'
                         f'<text x="{x + 2:.0f}" y="{HEIGHT - BOTTOM + 14}" fill="#666">{r["phase"]}</text>')
            previous = r["phase"]
    parts += [line([(r["tokens"], r["value"]) for r in rows], "#c0392b", top),
              line([(r["tokens"], r["acc"]) for r in rows], "#2471a3", 1.0),
              f'<text x="{LEFT}" y="18" fill="#c0392b">loss of value tokens (left)</text>',
              f'<text x="{LEFT + 200}" y="18" fill="#2471a3">share of value tokens right (right)</text>',
              f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">0 to {last / 1e6:.1f} million tokens; '
              f'dashed: phases</text></svg>']
    open(sys.argv[2], "w", encoding="utf-8").write("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
