"""The built book as files: its links, its weights, and whether its results are still the released ones."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import site_pages
from site_pages import Page

from noisebook import release

pytestmark = pytest.mark.browser
PAGE_BYTES = 3_000_000
INTERACTIVE_BYTES = 1_500_000
INLINE_SCRIPT_BYTES = 20_000


@pytest.fixture(scope="module")
def files(site: Path) -> dict[Path, Page]:
    """Every page of the book by its file."""
    return site_pages.read(site)


def test_links_and_anchors_resolve(files: dict[Path, Page], tally: Counter[str]) -> None:
    """Every link inside the book leads to a file that exists and to an anchor that the page has."""
    assert site_pages.broken(files) == []
    tally["links and anchors"] += sum(not urlsplit(link).netloc for page in files.values() for link in page.links)


def test_every_picture_is_described(files: dict[Path, Page]) -> None:
    """Every picture has an alternative text; it may be empty for the logo alone, whose name stands beside it."""
    pictures = [(path.name, image) for path, page in files.items() for image in page.images]
    assert len(pictures) > 50
    assert [p for p, image in pictures if not image.get("alt") and "logo" not in str(image.get("class"))] == []


def test_no_page_is_heavy(files: dict[Path, Page], tally: Counter[str]) -> None:
    """A page's HTML and its own pictures have at most 3 MB."""
    weights = {}
    for path, page in files.items():
        local = {urlsplit(str(image["src"])).path for image in page.images if not str(image["src"]).startswith("data:")}
        pictures = sum((path.parent / unquote(name)).stat().st_size for name in local)
        weights[path.name] = path.stat().st_size + pictures
    assert {name: weight for name, weight in weights.items() if weight > PAGE_BYTES} == {}
    tally["kB in the heaviest page"] = max(weights.values()) // 1000


def test_interactive_data_are_small(files: dict[Path, Page], tally: Counter[str]) -> None:
    """What a page carries for its sliders has at most 1.5 MB."""
    weights = {path.name: sum(map(len, re.findall(r'src="data:[^"]*"', page.text))) for path, page in files.items()}
    assert {name: weight for name, weight in weights.items() if weight > INTERACTIVE_BYTES} == {}
    tally["kB of interactive data at most"] = max(weights.values()) // 1000


def test_scripts_are_shared_files(site: Path, files: dict[Path, Page]) -> None:
    """No script of the book exists twice, none is fetched from elsewhere, and what stands in a page itself is small."""
    scripts = {
        (path.parent / unquote(urlsplit(what).path)).resolve()
        for path, page in files.items()
        for what in page.fetched
        if urlsplit(what).path.endswith(".js")
    }
    assert scripts
    assert all(site in script.parents for script in scripts)
    assert len({hashlib.sha256(script.read_bytes()).digest() for script in scripts}) == len(scripts)
    inline = [sum(map(len, re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL))) for page in files.values()]
    assert max(inline) <= INLINE_SCRIPT_BYTES


def test_no_result_has_drifted(results: Path, tally: Counter[str]) -> None:
    """Every claim of the last release is there and as it was, within its tolerance; new ones are no failure."""
    assert release.drifted(results) == []
    tally["claims compared with the release"] = sum(map(len, release.read().values()))
