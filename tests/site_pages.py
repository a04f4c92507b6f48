"""Pages of a built book read as files: what they fetch, what they link, and what can be linked to."""

from __future__ import annotations

import html.parser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Page(html.parser.HTMLParser):
    """The tags of a page that matter here."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what is asked of a server, what is linked and what can be linked to."""
        values = dict(attrs)
        self.ids |= {str(values[key]) for key in ("id", "name") if values.get(key)}
        if tag == "img":
            self.images.append(values)
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        relation = str(values.get("rel", ""))
        if tag in FETCHED and values.get(FETCHED[tag]) and relation not in ("canonical", "next", "prev", "search"):
            self.fetched.append(str(values[FETCHED[tag]]))


def read(site: Path) -> dict[Path, Page]:
    """Every page of a book by its file."""
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def broken(pages: dict[Path, Page]) -> list[tuple[str, str]]:
    """Links inside the book that lead to no file, or to an anchor that the page has not."""
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].ids if target in pages else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in anchors):
                found.append((path.name, link))
    return found
