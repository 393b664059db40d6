"""The page of a report in a real browser: nothing cut off, nothing asked of anyone, no complaint."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import BROWSER, Browser
from nasty_run import CLASSES, nasty_run, write_pictures

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
# Words whose contrast is below 4.5 (WCAG 2.2, 1.4.3), but for the numbers on the colours of a matrix.
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
    }).filter(each => !each.closest('[id^=diversity-]')).map(each => each.outerHTML);
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = nasty_run(tmp_path_factory.mktemp("nasty"))
    data = write_pictures(tmp_path_factory.mktemp("pictures"), results)
    return results.report(data=data, classes=CLASSES).page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_cut_off_and_everything_legible(browser: Browser, page: Path, size: str, dark: bool) -> None:
    width, height, media = SIZES[size]
    browser.open(page, width, height, dark=dark, media=media)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(CUT_OFF.replace("WIDTH", str(width))) == []
    assert browser.value(FAINT) == []
    if media == "print":
        assert browser.value(PRINTED_TABLES.replace("WIDTH", str(width))) == []


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
    assert browser.value("document.scripts.length") == 0
    words = browser.value("document.body.innerText")
    for name in CLASSES:
        assert name in words


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
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
    ]
    for role in ("table", "image", "region", "heading", "columnheader", "link"):
        names = [name for found, name in named if found == role]
        assert names, role
        assert all(names), role


def test_it_prints(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page, 1280, 900)
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
