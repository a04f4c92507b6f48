"""Links to other hosts: where they stand in this repository, and, with a network, whether something is there."""

from __future__ import annotations

import http.client
import http.server
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("*.md", "book/*.md", "book/*.bib", "book/*.yml", "notebooks/*.ipynb", "data/*.md", "data/registry.yaml")
LINK = re.compile(r"https?://[^\s<>()\[\]{}\"'`\\|]+")
DOI = re.compile(r"\bdoi\s*[=:]?\s*[{\"]?\s*(10\.\d{4,}/[^\s{}\"'`,;\]]+)", re.IGNORECASE)
THERE = {401, 403, 405, 406, 418, 429}  # a host that does not talk to programs is there all the same


def links(text: str) -> set[str]:
    """The addresses in a text, DOIs among them, without the punctuation that ends a sentence."""
    found = {*LINK.findall(text), *(f"https://doi.org/{doi}" for doi in DOI.findall(text))}
    found = {link if "(" in link else link.rstrip(").") for link in found}
    return {link.rstrip(".,;:*") for link in found if "127.0.0.1" not in link and "example.org" not in link}


def all_links() -> set[str]:
    """Every address in prose, references, notebooks and the registry."""
    files = [path for pattern in SOURCES for path in ROOT.glob(pattern)]
    return set().union(*(links(path.read_text(encoding="utf-8")) for path in files))


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: that a DOI leads on is all that is asked."""

    def redirect_request(self, *_: object) -> None:
        """Go nowhere."""


def dead(link: str) -> str:
    """Why there is nothing at an address; empty if there is something."""
    agent = {"User-Agent": "Mozilla/5.0 (compatible; link check)"}
    reason = ""
    for method in ("HEAD", "GET"):
        try:
            request = urllib.request.Request(link, headers=agent, method=method)
            with urllib.request.build_opener(_Stay).open(request, timeout=30):
                return ""
        except urllib.error.HTTPError as answer:
            if answer.code in THERE or 300 <= answer.code < 400:
                return ""
            reason = f"{answer.code}"
        except (OSError, http.client.HTTPException) as problem:
            reason = f"{problem}"
    return reason


def test_links_are_found() -> None:
    """Addresses and DOIs in Markdown, BibTeX and JSON are found, without brackets and full stops."""
    text = (
        '(https://a.b/c) <https://a.b/d>. "https://a.b/e\\n" see https://a.b/f. doi = {10.1000/x(1)}, doi 10.2000/y.z.'
    )
    assert links(text) == {
        *(f"https://a.b/{letter}" for letter in "cdef"),
        "https://doi.org/10.1000/x(1)",
        "https://doi.org/10.2000/y.z",
    }
    assert len(all_links()) > 20


@pytest.fixture
def host() -> Iterator[str]:
    """A host that answers with the status that is asked for; 501 means 200, but not to HEAD."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(int(self.path[1:]))
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/501" else int(self.path[1:]))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "reason"), [(200, ""), (302, ""), (403, ""), (501, ""), (404, "404"), (410, "410")])
def test_a_dead_link_is_told(host: str, status: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is dead; what leads on, asks for a person, or only answers GET is not."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert dead(f"{host}/{status}") == reason


@pytest.mark.network
@pytest.mark.parametrize("link", sorted(all_links()))
def test_something_is_there(link: str) -> None:
    """Every address in the repository's text still answers."""
    assert dead(link) == ""
