"""The built book, read as files: every picture is described, every link leads somewhere, no other host is asked."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import site_pages
import yaml
from site_pages import Page

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Every page of the book by its file."""
    return site_pages.read(site)


def test_every_page_of_the_contents_exists(pages: dict[Path, Page], site: Path) -> None:
    """The table of contents, the root and the chapter of the results are all there, and an index that leads in."""
    names = {path.relative_to(site).as_posix() for path in pages}
    entries = [e for part in yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"] for e in part["chapters"]]
    assert {f"{entry['file']}.html" for entry in entries} <= names
    assert "book/intro.html" in pages[site / "index.html"].links


def test_no_other_host_is_asked(pages: dict[Path, Page]) -> None:
    """No script, style sheet, picture or frame is fetched from elsewhere."""
    foreign = [(path.name, what) for path, page in pages.items() for what in page.fetched if urlsplit(what).netloc]
    assert foreign == []


def test_what_is_fetched_is_there(pages: dict[Path, Page]) -> None:
    """Every script, style sheet and picture that a page names is a file of the book."""
    named = [(path, urlsplit(what)) for path, page in pages.items() for what in page.fetched]
    wanted = [(path, what.path) for path, what in named if what.path and what.scheme != "data"]
    assert len(wanted) > 100
    assert [(path.name, what) for path, what in wanted if not (path.parent / unquote(what)).is_file()] == []


def test_every_picture_is_described(pages: dict[Path, Page], site: Path) -> None:
    """Every picture has an alternative text; it may be empty for the logo alone, whose name stands beside it."""
    bare = [
        (path.name, image["src"])
        for path, page in pages.items()
        for image in page.images
        if not image.get("alt") and "logo" not in str(image.get("class"))
    ]
    assert bare == []
    alts = [image["alt"] for image in pages[site / "notebooks/linearized.html"].images]
    assert "A straight line from the lower left corner to the upper right one" in alts


def test_links_and_anchors_resolve(pages: dict[Path, Page]) -> None:
    """Every link inside the book leads to a file that exists and to an anchor that the page has."""
    assert site_pages.broken(pages) == []


def test_links_to_numbers_are_plain_files(pages: dict[Path, Page], site: Path) -> None:
    """What a chapter wrote is published once, beside its page, and linked from prose and output alike."""
    links = pages[site / "notebooks/linearized.html"].links
    assert links.count("linearized/figures/line.csv") == 2
    published = [path.relative_to(site) for path in site.rglob("line.csv")]
    assert published.count(Path("notebooks/linearized/figures/line.csv")) == 1
    assert all(path.match("notebooks/*/figures/line.csv") for path in published)


def test_tables_that_a_cell_writes_are_tables(pages: dict[Path, Page], site: Path) -> None:
    """Markdown that a cell displays is rendered, tables included; what it says to stderr is left out."""
    text = pages[site / "notebooks/linearized.html"].text
    assert "<td><p>measured once</p></td>" in text
    assert "output stderr" not in text


def test_no_button_is_dead(pages: dict[Path, Page]) -> None:
    """While the repository has no address, no page offers Binder, Colab, an edit or a source."""
    for page in pages.values():
        assert not [link for link in page.links if "mybinder.org" in link or "colab.research" in link]
        assert "source-edit-button" not in page.text
        assert "source-repository-button" not in page.text


def test_thebe_is_gone(pages: dict[Path, Page]) -> None:
    """No page loads the scripts that would run code in it: they log an error."""
    assert [path.name for path, page in pages.items() if "THEBE_JS_URL" in page.text] == []


def test_pages_hold_no_place_of_this_machine(pages: dict[Path, Page]) -> None:
    """No page shows where on the building machine the package lies."""
    assert [path.name for path, page in pages.items() if str(ROOT) in page.text] == []


def test_every_signature_is_read(pages: dict[Path, Page]) -> None:
    """No signature of the reference is left unparsed: its types would show ``~``, its long words would not break."""
    api = {path: page for path, page in pages.items() if path.parent.name == "api"}
    assert len(api) > 10
    assert [
        path.name for path, page in api.items() if re.search(r'class="sig-param"[^~\n]*<span class="pre">~', page.text)
    ] == []


def test_the_page_has_light_dark_and_a_favicon(pages: dict[Path, Page], site: Path) -> None:
    """The colour scheme follows the reader's system, and the browser is told the book's sign."""
    text = pages[site / "book/intro.html"].text
    assert 'data-default-mode="auto"' in text
    assert 'rel="icon"' in text
    assert text.count("title-picture") == 2
