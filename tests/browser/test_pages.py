"""Every page of the built book in a browser: nothing overflows, nothing complains, nothing is asked of other hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
READY = "() => !window.MathJax || !MathJax.startup || MathJax.startup.promise.then(() => true)"


AXE = "() => axe.run(document, {resultTypes: ['violations'], preload: false})"


def violations(page: Page, axe: str) -> list[str]:
    """What axe-core finds wrong with a page: rule and first place, by rule."""
    page.evaluate(axe)
    found = page.evaluate(AXE)["violations"]
    return [f"axe {one['id']} ({len(one['nodes'])}): {one['nodes'][0]['html'][:160]}" for one in found]


def _watch(page: Page, address: str) -> list[str]:
    """Collect what goes wrong on a page while it is used: console errors, failed and foreign requests."""
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda problem: wrong.append(f"script: {problem}"))
    # who leaves a page ends what it still loads; what is missing has an answer, with its status
    ended = "net::ERR_ABORTED"
    page.on("requestfailed", lambda ask: None if ask.failure == ended else wrong.append(f"failed: {ask.url}"))
    page.on("response", lambda answer: wrong.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None)
    local = (address, "data:", "blob:")
    page.on("request", lambda ask: None if ask.url.startswith(local) else wrong.append(f"foreign: {ask.url}"))
    return wrong


# Debian's chromium alone brings DejaVu, whose wide letters overflow first; width does not depend on the colours.
@pytest.mark.parametrize(
    ("width", "scheme", "fonts"),
    [
        (1440, "light", "dejavu liberation"),
        (1440, "dark", "dejavu"),
        (390, "light", "dejavu"),
        (390, "dark", "dejavu liberation"),
    ],
)
def test_every_page_is_whole(
    launch: Callable[..., Browser],
    address: str,
    pages: list[str],
    width: int,
    scheme: Literal["light", "dark"],
    fonts: str,
    axe: str,
    tally: Counter[str],
    pytestconfig: pytest.Config,
) -> None:
    """Wide and narrow, light and dark, with few fonts and more: no page overflows, errs, asks a host or shuts out."""
    pictures: Path | None = pytestconfig.getoption("--screenshots")
    with launch(*fonts.split()).new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        wrong = _watch(page, address)
        for name in pages:
            page.goto(f"{address}/{name}")
            page.evaluate(READY)
            over = page.evaluate(OVERFLOW)
            if over > 0:
                wrong.append(f"{name}: {over} px wider than the window")
            wrong += [f"{name}: {problem}" for problem in violations(page, axe)]
            tally["page views (errors, requests, overflow, axe)"] += 1
            if pictures:
                file = pictures / f"{name.removesuffix('.html').replace('/', '-')}-{width}-{scheme}.png"
                page.screenshot(path=file, full_page=True)
    assert len(pages) > 10
    assert wrong == []


def test_a_fault_would_be_found(browser: Browser, address: str, axe: str) -> None:
    """A picture without words, a pale text, a foreign request and a wide box, planted into a page, are each found."""
    with browser.new_context(viewport={"width": 390, "height": 900}) as context:
        page = context.new_page()
        wrong = _watch(page, address)
        page.goto(f"{address}/book/intro.html")
        assert violations(page, axe) == []
        fault = "<img src='http://127.0.0.2:9/a.png'><p style='color: #eee; background: #fff; width: 900px'>pale</p>"
        page.locator("article").evaluate("(article, fault) => article.insertAdjacentHTML('beforeend', fault)", fault)
        found = violations(page, axe)
        over = page.evaluate(OVERFLOW)
    assert {problem.split()[1] for problem in found} == {"image-alt", "color-contrast"}
    assert "foreign: http://127.0.0.2:9/a.png" in wrong
    assert over > 400


def test_the_index_leads_into_the_book(browser: Browser, address: str) -> None:
    """Who opens the book's address arrives at its first page, without an error."""
    with browser.new_context() as context:
        page = context.new_page()
        wrong = _watch(page, address)
        page.goto(address)
        page.wait_for_url("**/book/intro.html")
        heading = page.locator("h1").first.inner_text()
    assert heading.startswith("What does a denoiser do to noise?")
    assert wrong == []


def test_the_colour_scheme_is_the_readers(browser: Browser, address: str) -> None:
    """The page's ground is light for a reader whose system is light, and dark for one whose system is dark."""
    grounds = {}
    for scheme in ("light", "dark"):
        with browser.new_context(color_scheme=scheme) as context:
            page = context.new_page()
            page.goto(f"{address}/book/intro.html")
            colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
            grounds[scheme] = sum(int(part) for part in colour.strip("rgba()").split(",")[:3]) / 3
    assert grounds["light"] > 200
    assert grounds["dark"] < 60


def test_search_finds(browser: Browser, address: str) -> None:
    """A search for a word of the glossary lists pages."""
    with browser.new_context() as context:
        page = context.new_page()
        wrong = _watch(page, address)
        page.goto(f"{address}/search.html?q=covariance")
        page.wait_for_selector("#search-results li a", timeout=10_000)
        found = page.locator("#search-results li a").all_text_contents()
    assert any("Glossary" in title for title in found)
    assert wrong == []


def test_mathematics_is_drawn(browser: Browser, address: str) -> None:
    """Formulas of the glossary become MathJax elements, from this site alone."""
    with browser.new_context() as context:
        page = context.new_page()
        wrong = _watch(page, address)
        page.goto(f"{address}/book/glossary.html")
        page.wait_for_selector("mjx-container", timeout=20_000)
        count = page.locator("mjx-container").count()
    assert count > 3
    assert wrong == []


def test_every_page_opens_from_disk(browser: Browser, site: Path, pages: list[str], tally: Counter[str]) -> None:
    """Opened as a file, without a server, no page logs an error or misses anything, and mathematics is drawn."""
    root = site.as_uri()
    with browser.new_context() as context:
        page = context.new_page()
        wrong = _watch(page, root)
        for name in pages:
            page.goto(f"{root}/{name}")
            page.evaluate(READY)
            tally["pages from disk"] += 1
        page.goto(f"{root}/book/glossary.html")
        page.wait_for_selector("mjx-container", timeout=20_000)
        page.goto(f"{root}/search.html?q=covariance")
        page.wait_for_selector("#search-results li a", timeout=10_000)
    assert wrong == []


def test_sliders_change_the_picture(browser: Browser, address: str, pages: list[str], tally: Counter[str]) -> None:
    """Every slider shows one picture at a time; moved to its other end it shows another, and says which."""
    seen = "() => [...document.querySelectorAll('.frames')].map(f => [...f.querySelectorAll('img')]"
    seen += ".filter(i => i.checkVisibility()).map(i => i.src + f.querySelector('output').textContent))"
    with browser.new_context() as context:
        page = context.new_page()
        for name in pages:
            if not name.startswith("notebooks/"):
                continue
            page.goto(f"{address}/{name}")
            before = page.evaluate(seen)
            for slider in page.locator(".frames input[type=range]").all():
                slider.focus()
                slider.press("Home")
            after = page.evaluate(seen)
            assert all(len(shown) == 1 for shown in (*before, *after))
            assert all(first != second for first, second in zip(before, after, strict=True))
            tally["sliders"] += len(after)
    assert tally["sliders"] > 0


def test_a_link_to_a_cell_unfolds_its_code(browser: Browser, address: str) -> None:
    """Who follows a claim of the ledger arrives at a cell whose code is unfolded."""
    with browser.new_context() as context:
        page = context.new_page()
        wrong = _watch(page, address)
        page.goto(f"{address}/book/claims.html")
        page.locator("a[href*='#linearized-code-08']").first.click()
        page.wait_for_url("**/linearized.html#linearized-code-08")
        code = page.locator("#linearized-code-08 details.hide")
        assert code.count() == 1
        assert code.get_attribute("open") is not None
    assert wrong == []
