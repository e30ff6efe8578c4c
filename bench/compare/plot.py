"""Tokens per second by prompt length as an SVG, both axes logarithmic, bars from least to most."""
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 800, 360, 60, 260, 26, 45
COLORS = ["#c0392b", "#8e44ad", "#2471a3", "#5dade2", "#7f8c8d"]


def ticks(low, high):
    return [m * 10 ** e for e in range(int(math.log10(low)) - 1, int(math.log10(high)) + 2) for m in (1, 2, 5)
            if low <= m * 10 ** e <= high]


def plot(lines):
    """lines: name -> [(length, (median, least, most))]"""
    lengths = sorted({n for line in lines.values() for n, _ in line})
    values = [x for line in lines.values() for _, rates in line for x in rates]
    low, high = min(values) / 1.2, max(values) * 1.2
    across, up = math.log(lengths[-1] / lengths[0]) or 1.0, math.log(high / low)

    def x(n):
        return LEFT + 15 + (WIDTH - LEFT - RIGHT - 30) * math.log(n / lengths[0]) / across

    def y(rate):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(rate / low) / up

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for rate in ticks(low, high):
        parts.append(f'<path d="M{LEFT} {y(rate):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                     f'<text x="{LEFT - 6}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:,.0f}</text>')
    for n in lengths:
        parts.append(f'<text x="{x(n):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{n:,}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 6}" text-anchor="end">tokens/s</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">prompt tokens</text>')
    # Names on the right, pushed apart where lines end close to each other.
    below = math.inf
    for (name, line), color in sorted(zip(lines.items(), COLORS), key=lambda z: z[0][1][-1][1][0]):
        path = " ".join(f"{x(n):.1f},{y(rates[0]):.1f}" for n, rates in line)
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{path}"/>')
        for n, (median, least, most) in line:
            parts.append(f'<path d="M{x(n):.1f} {y(least):.1f}V{y(most):.1f}" stroke="{color}"/>'
                         f'<circle cx="{x(n):.1f}" cy="{y(median):.1f}" r="3" fill="{color}"/>')
        below = min(y(line[-1][1][0]) + 4, below - 15)
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{below:.1f}" fill="{color}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
