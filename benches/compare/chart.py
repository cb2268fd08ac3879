"""Draws the chart of the README: a panel for each mode, a bar for each side, shorter is better. SVG that a light and a dark page can show."""

from html import escape

#: Pixels. A panel holds a title and a bar for each side.
WIDTH, COLUMNS, GAP = 860, 2, 36
TITLE, BAR, PITCH, BELOW = 26, 13, 20, 22
NAME, VALUE = 66, 112

#: Bars longer than this many of albedo's are cut.
CUT = 4.0

STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 13px }
.faint { fill: #59636e }
.bar { fill: #afb8c1 }
.ours { fill: #0969da }
.cut { stroke: #ffffff; stroke-width: 2 }
.floor { stroke: #cf222e; stroke-width: 1; stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .faint { fill: #9198a1 }
  .bar { fill: #656c76 }
  .ours { fill: #4493f8 }
  .cut { stroke: #0d1117 }
  .floor { stroke: #f85149 }
}
"""


def chart(panels, footnote):
    """`panels` are (title, unit, [(name, value)], floor or None); albedo is the first of its panel."""
    tallest = max(len(sides) for _, _, sides, _ in panels)
    panel_height = TITLE + tallest * PITCH + BELOW
    panel_width = (WIDTH - GAP * (COLUMNS - 1)) / COLUMNS
    height = panel_height * -(-len(panels) // COLUMNS) + 20
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">']
    parts += [f"<title>{escape(footnote)}</title>", f"<style>{STYLE}</style>"]
    for number, panel in enumerate(panels):
        left, top = (number % COLUMNS) * (panel_width + GAP), number // COLUMNS * panel_height
        parts += [f'<g transform="translate({left:.0f} {top})">', *drawn(panel, panel_width), "</g>"]
    parts += [f'<text class="faint" x="0" y="{height - 6}">{escape(footnote)}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def drawn(panel, width):
    title, unit, sides, floor = panel
    ours = sides[0][1]
    longest = min(max(value for _, value in sides), ours * CUT)
    scale = (width - NAME - VALUE) / longest
    yield f'<text class="title" x="0" y="16">{escape(title)}</text>'
    for number, (name, value) in enumerate(sides):
        y = TITLE + number * PITCH
        length = min(value, longest) * scale
        yield f'<text x="0" y="{y + 11}">{escape(name)}</text>'
        yield f'<rect class="{"bar" if number else "ours"}" x="{NAME}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
        if value > longest:
            yield f'<path class="cut" d="M{NAME + length - 14:.1f} {y + BAR + 2} l6 -{BAR + 4} m4 0 l-6 {BAR + 4}"/>'
        times = f" · {value / ours:.2f}×" if number else ""
        yield f'<text class="faint" x="{NAME + length + 6:.1f}" y="{y + 11}">{shown(value)} {escape(unit)}{times}</text>'
    if floor:
        x = NAME + min(floor, longest) * scale
        yield f'<path class="floor" d="M{x:.1f} {TITLE - 4} V{TITLE + len(sides) * PITCH - 3}"/>'


def shown(value):
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
