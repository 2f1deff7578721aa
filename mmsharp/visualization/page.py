"""The frame of every HTML report: one file, no script, no request, light and dark by the reader's setting."""

import html
from collections.abc import Iterable, Sequence

STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --ink: #1c2330; --soft: #5b6575; --line: #d9dee7; --card: #f5f7fa;
  --mean: #1c2330; --noise: #c2410c; --blur: #1d4ed8; --weather: #0f766e; --digital: #9333ea; --holdout: #64748b; }
@media (prefers-color-scheme: dark) { :root { --back: #12161d; --ink: #e6eaf1; --soft: #9aa5b5; --line: #2c3440;
  --card: #1a2029; --mean: #f1f5f9; --noise: #fb923c; --blur: #7ab0ff; --weather: #4fd1c0; --digital: #c99bff;
  --holdout: #94a3b8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.5rem 4rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; }
h3 { font-size: .95rem; margin: 1.4rem 0 .4rem; }
p { margin: .3rem 0 .8rem; max-width: 60rem; }
.soft, figcaption, th { color: var(--soft); }
.cards { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.4rem 0 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem 1rem;
  min-width: 8.2rem; }
.card b { display: block; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .82rem; }
.note { border-left: 4px solid #d97706; background: var(--card); padding: .5rem .9rem; border-radius: .2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; text-align: right; white-space: nowrap; }
th { font-weight: 500; font-size: .85rem; }
th:first-child, td:first-child { text-align: left; }
table.plain td:last-child:has(.bar) { text-align: left; }
table.plain td, table.plain th { border-bottom: 1px solid var(--line); }
table.heat { border-spacing: 3px; border-collapse: separate; }
table.heat td { border-radius: .3rem; text-align: center; min-width: 4.3rem; }
table.heat th { text-align: center; }
table.heat th.row { color: var(--ink); text-align: left; font-weight: 400; }
table.heat th.row, table.heat th.family { text-align: left; }
table.heat th.family { padding-top: .7rem; font-weight: 600; }
table.heat td.mean { font-weight: 650; }
td.missing { border: 1px dashed var(--line); color: var(--soft); }
.bar { display: inline-block; height: .6rem; border-radius: .3rem; vertical-align: middle; }
.two { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; align-items: flex-start; }
svg { max-width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--line); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .8rem; }
figure { margin: 0; }
figure img { width: 100%; display: block; border-radius: .4rem; background: var(--card); }
figcaption { font-size: .82rem; padding-top: .2rem; }
figcaption b { color: var(--ink); font-weight: 550; }
details { margin-top: .6rem; } summary { cursor: pointer; color: var(--soft); }
code { font: .85em ui-monospace, 'SFMono-Regular', Menlo, Consolas, monospace; overflow-wrap: anywhere; }
@media print { body { max-width: none; } .gallery, table { break-inside: avoid; } }
"""


def escape(text: object) -> str:
    """Make any text, from a config or a class name, harmless inside HTML.

    Example:
        >>> escape('<b>&')
        '&lt;b&gt;&amp;'
    """
    return html.escape(str(text))


def page(title: str, body: Iterable[str]) -> str:
    """Put parts of a body into a whole, self-contained page."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        'style-src \'unsafe-inline\'">\n<link rel="icon" href="data:,">\n'
        f'<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
        + '\n'.join(body)
        + '\n</body>\n</html>\n'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = 'plain') -> str:
    """A table; heads are escaped, cells are HTML already."""
    heads = ''.join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = ''.join('<tr>' + ''.join(f'<td>{cell}</td>' for cell in row) + '</tr>\n' for row in rows)
    body = f'<tbody>\n{lines}</tbody>'
    return f'<div class="wide"><table class="{kind}"><thead><tr>{heads}</tr></thead>\n{body}</table></div>'


def card(value: str, name: str) -> str:
    """A number that is read at a glance."""
    return f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
