"""Pieces of an HTML page that needs no network and no script. Whatever comes from configs or data is escaped here."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from pipeline.experiments.report.figure import Figure, Point, number
from pipeline.experiments.report.svg import drawn

STYLE = Path(__file__).with_name("page.css")


def page(title: str, *body: str) -> str:
    """A whole page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, body))
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *content: str) -> str:
    """A part of a page, "" without content."""
    filled = "\n".join(filter(None, content))
    return f"<section>\n<h2>{escape(title)}</h2>\n{filled}\n</section>" if filled else ""


def subsection(title: str, content: str) -> str:
    """A smaller part."""
    return f"<h3>{escape(title)}</h3>\n{content}"


def heading(title: str) -> str:
    """The page's own."""
    return f"<h1>{escape(title)}</h1>"


def footer(text: str) -> str:
    """The last line."""
    return f"<footer>{escape(text)}</footer>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph, of a class where one is given."""
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>" if text else ""


def bullets(lines: Sequence[str], kind: str = "") -> str:
    """A list, of a class where one is given; "" without lines."""
    return (
        f"<ul{f' class={kind}' if kind else ''}>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        if lines
        else ""
    )


def numbers(found: Sequence[tuple[str, str]]) -> str:
    """What is to be seen first: each number large, and what it is."""
    tiles = (f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for what, value in found)
    return f"<dl class=numbers>{''.join(tiles)}</dl>"


def terms(found: Sequence[tuple[str, str]]) -> str:
    """What is said of each of some things."""
    return f"<dl class=terms>{''.join(f'<dt>{escape(what)}</dt><dd>{escape(said)}</dd>' for what, said in found)}</dl>"


def code(text: str) -> str:
    """Lines as they are."""
    return f"<pre><code>{escape(text)}</code></pre>"


def folded(summary: str, content: str) -> str:
    """What is shown when its summary is asked to."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls where it is too wide; a column whose name begins with a blank is of text, the others of
    numbers."""
    kinds = ["" if name.startswith(" ") else " class=number" for name in columns]
    head = "".join(f"<th scope=col{kind}>{escape(name)}</th>" for name, kind in zip(columns, kinds, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{escape(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))}</tr>\n"
        for row in rows
    )
    return f"<div class=wide tabindex=0><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"


def figure_grid(figures: Sequence[Figure]) -> str:
    """Figures beside each other where there is room, each with its numbers folded away below it."""
    return f"<div class=figures>{''.join(map(_figure, figures))}</div>" if figures else ""


def _figure(figure: Figure) -> str:
    caption = f"<figcaption>{escape(figure.description)}</figcaption>"
    below = f"{caption}\n{folded(f'The numbers, {figure.y_name}', figure_table(figure))}"
    return f"<figure>\n<h3>{escape(figure.title)}</h3>\n{drawn(figure)}\n{below}\n</figure>\n"


def figure_table(figure: Figure) -> str:
    """A row for each x, a column for each series."""
    shown = [series for series in figure.series if series.points]
    places = [{point.x: point for point in series.points} for series in shown]
    xs = sorted({x for points in places for x in points if x.is_integer()})
    names = [figure.rows[int(x)] if figure.rows else f"{x:,.0f}" for x in xs]
    rows = [
        [name, *(_cell(points.get(x), figure.digits) for points in places)] for x, name in zip(xs, names, strict=True)
    ]
    return table([figure.x_name, *(series.name for series in shown)], rows)


def _cell(point: Point | None, digits: int) -> str:
    """As in "91.20 ± 0.31 (3)", the number of runs last; of one run alone the number."""
    if point is None:
        return "–"
    beside = "" if point.deviation is None else f" ± {number(point.deviation, digits)} ({point.n})"
    return number(point.y, digits) + beside
