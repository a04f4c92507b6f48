"""The built book as files: its links, its weights, and whether its results are still the released ones."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import site_pages
from site_pages import Page

from noisebook import _paths, claims

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


def drifted(now: claims.Claim | None, then: claims.Claim) -> bool:
    """Whether a claim is gone or no longer as it was.

    Its mean and standard error may move by the largest of 1 % of the mean, a quarter of the standard error, and a
    thousandth of a bound: equal seeds give equal numbers on one machine, and nearly so on another. What was counted may
    not move at all, nor may verdict, bounds and number of values.
    """
    if now is None or (now.low, now.high, len(now.ours)) != (then.low, then.high, len(then.ours)):
        return True
    bounds = [abs(bound) for bound in (then.low, then.high) if math.isfinite(bound) and bound]
    near = max(abs(then.mean) / 100, then.standard_error / 4, min(bounds, default=0.0) / 1000) if then.ours else 0.0
    near = 0.0 if all(value.is_integer() for value in then.ours) else near
    moved = (abs(now.mean - then.mean), abs(now.standard_error - then.standard_error)) if then.ours else ()
    return now.verdict != then.verdict or any(by > near for by in moved)


def test_no_result_has_drifted(results: Path, tally: Counter[str]) -> None:
    """Every claim of the last release is there and as it was, within its tolerance; new ones are no failure."""
    found = []
    for file in sorted((_paths.DATA / "release").glob("*.json")):
        now = {claim.id: claim for claim in claims.read(results / file.stem / "claims.json")}
        then = claims.read(file)
        found += [f"{file.stem} {claim.id}" for claim in then if drifted(now.get(claim.id), claim)]
        tally["claims compared with the release"] += len(then)
    assert tally["claims compared with the release"] > 100
    assert found == []
