"""The page of a report in a real browser: nothing cut off, nothing asked of anyone, no complaint."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import BROWSER, Browser
from nasty_run import CLASSES, nasty_run, surface_run, write_pictures
from simulated_runs import simulated_scores, stored_run

from ensemble_eval.datasets.scope import Scope

pytestmark = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine"),
]
SIZES = {"phone": (390, 844, "screen"), "desk": (1280, 900, "screen"), "print": (688, 1000, "print")}
# Whatever reaches beyond the window's right edge, but in a region that can be scrolled by itself.
CUT_OFF = """[...document.querySelectorAll('main *, header *')].filter(each =>
  !each.closest('.scroll, svg') && each.getBoundingClientRect().right > WIDTH + 1)
  .map(each => each.outerHTML)"""
PRINTED_TABLES = """[...document.querySelectorAll('table')].filter(each =>
  each.getBoundingClientRect().right > WIDTH + 1).map(each => each.outerHTML.slice(0, 200))"""
OPEN_ALL = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
# Pairs of words of one plot whose boxes overlap by more than a pixel.
OVERLAPPING = """[...document.querySelectorAll('svg')].flatMap(drawing => {
  const words = [...drawing.querySelectorAll('text')]
    .map(each => [each.textContent, each.getBoundingClientRect()]);
  return words.flatMap(([one, a], at) => words.slice(at + 1).filter(([, b]) => a.left + 1 < b.right &&
    b.left + 1 < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom).map(([other]) => [one, other]));
})"""
# Words that reach beyond their plot.
CUT_WORDS = """[...document.querySelectorAll('svg')].flatMap(drawing => {
  const whole = drawing.getBoundingClientRect();
  return [...drawing.querySelectorAll('text')].filter(each => [each.getBoundingClientRect()].some(word =>
    word.left < whole.left - 1 || word.right > whole.right + 1 || word.top < whole.top - 1 ||
    word.bottom > whole.bottom + 1)).map(each => each.textContent);
})"""
VISIBLE_ROWS = "[...document.querySelectorAll('tbody tr')].filter(each => each.checkVisibility()).length"
# Words whose contrast is below 4.5 (WCAG 2.2, 1.4.3).
FAINT = """(() => {
  const luminance = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).slice(0, 3).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = each => {
    for (; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
  };
  return [...document.querySelectorAll('body *')].filter(each =>
    [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim())).filter(each => {
      const colour = each.closest('svg') ? getComputedStyle(each).fill : getComputedStyle(each).color;
      const pair = [luminance(colour), luminance(ground(each))].sort((a, b) => b - a);
      return (pair[0] + 0.05) / (pair[1] + 0.05) < 4.5;
    }).map(each => each.outerHTML);
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = nasty_run(tmp_path_factory.mktemp("nasty"))
    data = write_pictures(tmp_path_factory.mktemp("pictures"), results)
    return results.report(data=data, classes=CLASSES).page


@pytest.fixture(scope="module")
def pages(page: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Besides the page of awkward names, one of a part of a data set, and one of every number of crops."""
    scores, scope = simulated_scores(60, 9), Scope(part="the first 60 of 50000 images", several_labels=True)
    labels = {each.id: [each.label, (each.label + 1) % 7] for each in scores}
    many = stored_run(tmp_path_factory.mktemp("many"), scores, scope=scope, labels=labels)
    return [
        page,
        many.report(gallery=False).page,
        surface_run(tmp_path_factory.mktemp("surface")).report(gallery=False).page,
    ]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_cut_off_and_everything_legible(browser: Browser, page: Path, size: str, dark: bool) -> None:
    width, height, media = SIZES[size]
    browser.open(page, width, height, dark=dark, media=media)
    browser.value(OPEN_ALL)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(CUT_OFF.replace("WIDTH", str(width))) == []
    assert browser.value(FAINT) == []


def test_tables_are_as_wide_as_the_paper_in_print(browser: Browser, pages: list[Path]) -> None:
    for page in pages:
        browser.open(page, 688, 1000, media="print")
        browser.value(OPEN_ALL)
        assert browser.value(PRINTED_TABLES.replace("WIDTH", "688")) == [], page


def test_these_checks_can_fail(browser: Browser, page: Path) -> None:
    browser.open(page, 390, 844)
    browser.value("document.querySelector('h1').style.width = '500px'")
    assert len(browser.value(CUT_OFF.replace("WIDTH", "390"))) == 1
    assert browser.value("document.documentElement.scrollWidth") > 390
    browser.value("document.documentElement.style.setProperty('--ink', '#808080')")
    faint = browser.value(FAINT)
    assert any(element.startswith("<text") for element in faint)
    assert any(element.startswith("<td") for element in faint)


def test_the_page_asks_nothing_of_anyone_and_the_console_is_empty(browser: Browser, page: Path) -> None:
    browser.requests.clear()
    browser.open(page, 1280, 900)
    assert browser.value("[...document.images].every(each => each.decode ? true : true)")
    browser.value("window.scrollTo(0, document.documentElement.scrollHeight)")
    assert browser.value("Promise.all([...document.images].map(each => each.decode())).then(() => 'all')") == "all"
    assert [address for address in browser.requests if not address.startswith("data:")] == [page.as_uri()]
    assert browser.complaints == []


def test_names_are_words_on_the_page(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, 900)
    browser.value(OPEN_ALL)
    assert browser.value("document.scripts.length") == 1
    words = browser.value("document.body.innerText")
    for name in CLASSES:
        assert name in words


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_no_word_of_a_plot_overlaps_another(browser: Browser, pages: list[Path], width: int) -> None:
    for page in pages:
        browser.open(page, width, 800)
        browser.value(OPEN_ALL)
        assert browser.value("document.querySelectorAll('svg text').length") > 40
        assert browser.value(OVERLAPPING) == [], page
        assert browser.value(CUT_WORDS) == [], page
    browser.value(
        "document.querySelectorAll('svg text')[1].replaceWith("
        "document.querySelectorAll('svg text')[0].cloneNode(true))"
    )
    assert len(browser.value(OVERLAPPING)) == 1


def test_the_first_screen_holds_the_finding_table_3_and_its_plot(browser: Browser, pages: list[Path]) -> None:
    for page in pages:
        browser.open(page, 1280, 800)
        for part in ("h1", "header .finding", ".summary table", ".summary svg"):
            assert browser.value(f"document.querySelector('{part}').getBoundingClientRect().bottom") < 800, part
        assert 4 <= browser.value(VISIBLE_ROWS) <= 60


def test_the_keyboard_opens_a_table_and_a_click_on_a_heading_sorts_it(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, 900)
    browser.value("document.querySelector('#table-sizes').parentElement.querySelector('summary').focus()")
    for key in ("keyDown", "keyUp"):
        browser.ask(
            "Input.dispatchKeyEvent", type=key, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13
        )
    assert browser.value("document.querySelector('#table-sizes').checkVisibility()")
    table = "document.querySelector('#table-sizes table')"
    errors = f"[...{table}.tBodies[0].rows].map(each => parseFloat(each.cells[4].textContent))"
    before = browser.value(errors)
    assert before != sorted(before)
    browser.value(f"{table}.querySelectorAll('thead button')[4].click()")
    assert browser.value(errors) == sorted(before)
    assert browser.value(f"{table}.tHead.rows[0].cells[4].ariaSort") == "ascending"
    browser.value(f"{table}.querySelectorAll('thead button')[4].click()")
    assert browser.value(errors) == sorted(before, reverse=True)
    browser.value(f"{table}.querySelectorAll('thead button')[0].click()")
    kinds = browser.value(f"[...{table}.tBodies[0].rows].map(each => each.cells[0].textContent)")
    assert kinds == sorted(kinds)
    assert browser.value(f"{table}.querySelectorAll('[aria-sort]').length") == 1


def test_unknown_values_are_last_in_both_orders(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, 900)
    table = "document.querySelector('#table-calibration table')"
    temperatures = f"[...{table}.tBodies[0].rows].map(each => each.cells[4].textContent)"
    assert "–" in browser.value(temperatures)[:-1]
    for _ in range(2):
        browser.value(f"{table}.querySelectorAll('thead button')[4].click()")
        known = [text for text in browser.value(temperatures) if text != "–"]
        assert browser.value(temperatures)[: len(known)] == known


def test_pointing_at_a_mark_shows_its_numbers(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, 900)
    x, y, text = browser.value("""(() => {
      const [x, y, text] = JSON.parse(document.querySelector('.summary figure').dataset.points)[1];
      const box = document.querySelector('.summary svg').getBoundingClientRect();
      return [box.left + x * box.width, box.top + y * box.height, text];
    })()""")
    marks = "[...document.querySelectorAll('.summary svg use')].map(each => each.getBoundingClientRect())"
    centres = browser.value(f"{marks}.map(box => [box.left + box.width / 2, box.top + box.height / 2])")
    assert min(abs(x - left) + abs(y - top) for left, top in centres) < 2
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x + 3, y=y)
    assert browser.value("document.querySelector('.summary .tip').checkVisibility()")
    assert browser.value("document.querySelector('.summary .tip').textContent") == text
    assert text.startswith("1×10: ")
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    assert not browser.value("document.querySelector('.summary .tip').checkVisibility()")


def test_the_keyboard_reaches_links_and_wide_tables(browser: Browser, page: Path) -> None:
    browser.open(page, 390, 844)
    assert browser.value("document.querySelectorAll('.scroll').length") > 10
    assert browser.value("[...document.querySelectorAll('.scroll')].every(each => each.tabIndex === 0)")
    assert browser.value("[...document.querySelectorAll('table')].every(each => each.tHead && each.tBodies[0])")
    for key in ("keyDown", "keyUp"):
        browser.ask("Input.dispatchKeyEvent", type=key, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert browser.value("document.activeElement.className") == "skip"


def test_headings_pictures_and_tables_have_names_for_a_screen_reader(browser: Browser, page: Path) -> None:
    browser.open(page, 1280, 900)
    browser.value(OPEN_ALL)
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
    ]
    for role in ("table", "image", "region", "heading", "columnheader", "link"):
        names = [name for found, name in named if found == role]
        assert names, role
        assert all(names), role


def test_it_prints_everything_and_folds_it_again(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page, 1280, 900)
    folded = "document.querySelectorAll('details:not([open])').length"
    everything = browser.value(folded)
    browser.value(f"addEventListener('beforeprint', () => {{ window.foldedInPrint = {folded}; }})")
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert browser.value("window.foldedInPrint") == 0 < everything
    assert browser.value(folded) == everything
