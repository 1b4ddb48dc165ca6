"""Pieces of a page: escaped, and of no network."""

from xml.etree import ElementTree

from pipeline.experiments.report import page
from pipeline.experiments.report.figure import Figure, Point, line

EVIL = "<script>alert('&\"')</script>"


def figure(*points: Point) -> Figure:
    return Figure(
        name="a",
        title=EVIL,
        description=EVIL,
        x_name=EVIL,
        y_name=EVIL,
        x_range=(0.0, 2.0),
        series=(line(EVIL, "test", points), line("none", "train")),
    )


def test_whatever_is_given_is_escaped() -> None:
    made = page.page(
        EVIL,
        page.section(
            EVIL,
            page.heading(EVIL),
            page.subsection(EVIL, ""),
            page.paragraph(EVIL, "lede"),
            page.bullets([EVIL]),
            page.numbers([(EVIL, EVIL)]),
            page.terms([(EVIL, EVIL)]),
            page.folded(EVIL, page.code(EVIL)),
            page.table([EVIL, f" {EVIL}"], [[EVIL, EVIL]]),
            page.figure_grid([figure(Point(0.0, 1.0))]),
        ),
        page.footer(EVIL),
    )
    assert "<script" not in made
    assert made.count("&lt;script&gt;") >= 20


def test_a_page_needs_no_network_and_no_script() -> None:
    made = page.page("title", page.figure_grid([figure(Point(0.0, 1.0))]))
    assert not any(word in made for word in ("http:", "https:", "<script", "<link", "<img", "@import", "url("))
    assert made.startswith('<!doctype html>\n<html lang="en">')
    assert "prefers-color-scheme: dark" in made
    assert 'name="viewport"' in made


def test_nothing_is_left_where_there_is_nothing_to_say() -> None:
    assert (page.section("Title", "", ""), page.bullets([]), page.paragraph(""), page.figure_grid([])) == ("",) * 4


def test_the_table_of_a_figure_has_its_means_deviations_and_runs() -> None:
    made = page.figure_table(figure(Point(0.0, 1.5), Point(1.0, 2.0, 0.25, 3), Point(1.5, 9.0)))
    rows = ElementTree.fromstring(
        made.replace(" tabindex=0", "")
        .replace("=wide", '="wide"')
        .replace("=number", '="number"')
        .replace("=col", '="col"')
    )
    cells = [[cell.text for cell in row] for row in rows.iter("tr")]
    assert cells[1:] == [["0", "1.50"], ["1", "2.00 ± 0.25 (3)"]], (
        "a series without points, and ends of a level, are none of it"
    )


def test_columns_of_text_are_those_that_begin_with_a_blank() -> None:
    assert page.table(["a", " b"], [["1", "x"]]).count("class=number") == 2
