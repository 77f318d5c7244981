# SPDX-License-Identifier: Apache-2.0
"""A plot as SVG: CPU per call by path, one panel for each closed-loop case."""

from html import escape

from .rounds import CASE_TITLES, Table, cost

CASES = ("pp-128", "mux-128", "mux-1k", "open-1000")
WIDTH, LABEL, VALUE, ROW, TOP = 860, 230, 70, 22, 44
COLORS = {"remora": "#1f6f5c", "other": "#9aa5b1"}


def svg(kept, protocol):
    """None when there is nothing to draw."""
    panels, height = [], 40
    for case in CASES:
        unit = kept.one("calls", protocol, case)
        if not unit:
            continue
        table = Table(unit["rows"])
        bars = [(key, title, table.median(case, key, cost), table.spread(case, key, cost)) for key, title in unit["paths"]]
        bars = [bar for bar in bars if bar[2] is not None]
        if bars:
            panels.append(panel(case, bars, height))
            height += TOP + ROW * len(bars) + 14
    if not panels:
        return None
    title = f"CPU of the proxies per call in microseconds, {protocol}; the line shows the least and the most of all rounds"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">\n'
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n'
            f'<text x="12" y="24" font-size="14" fill="#222222">{escape(title)}</text>\n' + "\n".join(panels) + "\n</svg>\n")


def panel(case, bars, top):
    longest = max(most for *_, (_, most) in bars)
    scale = (WIDTH - LABEL - VALUE - 24) / longest
    parts = [f'<text x="12" y="{top + 22}" font-weight="bold" fill="#222222">{escape(CASE_TITLES[case])}</text>']
    for index, (key, title, value, (least, most)) in enumerate(bars):
        y = top + TOP - 12 + ROW * index
        color = COLORS["remora" if key.startswith("remora") else "other"]
        middle = y + ROW / 2 - 2
        parts += [
            f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end" fill="#222222">{escape(title)}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{max(value * scale, 1):.1f}" height="{ROW - 4}" fill="{color}"/>',
            f'<line x1="{LABEL + least * scale:.1f}" x2="{LABEL + most * scale:.1f}" y1="{middle}" y2="{middle}" stroke="#222222"/>',
            f'<text x="{LABEL + most * scale + 6:.1f}" y="{y + 14}" fill="#222222">{value:.2f}</text>',
        ]
    return "\n".join(parts)
