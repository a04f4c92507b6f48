"""Every page of the built book in a browser: nothing overflows, nothing complains, nothing is asked of other hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
READY = "() => !window.MathJax || !MathJax.startup || MathJax.startup.promise.then(() => true)"


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_every_page_is_whole(
    browser: Browser,
    address: str,
    pages: list[str],
    width: int,
    scheme: Literal["light", "dark"],
    pytestconfig: pytest.Config,
) -> None:
    """At both widths and in both colour schemes no page overflows, logs an error, or asks another host."""
    pictures: Path | None = pytestconfig.getoption("--screenshots")
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        wrong = _watch(page, address)
        for name in pages:
            page.goto(f"{address}/{name}")
            page.evaluate(READY)
            over = page.evaluate(OVERFLOW)
            if over > 0:
                wrong.append(f"{name}: {over} px wider than the window")
            if pictures:
                file = pictures / f"{name.removesuffix('.html').replace('/', '-')}-{width}-{scheme}.png"
                page.screenshot(path=file, full_page=True)
    assert len(pages) > 10
    assert wrong == []


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
