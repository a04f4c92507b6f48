"""The built book served on this machine, and Debian's chromium to look at it."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the book lies, and where to keep pictures of its pages."""
    parser.addoption("--site", type=Path, default=ROOT / "build/book/_build/html", help="the built book to look at")
    parser.addoption("--screenshots", type=Path, default=None, help="a folder to keep a picture of every page in")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: object) -> None:
        """Keep the log of requests out of the test report."""


@pytest.fixture(scope="session")
def site(pytestconfig: pytest.Config) -> Path:
    """The folder of the built book."""
    folder: Path = pytestconfig.getoption("--site").resolve()
    if not (folder / "index.html").is_file():
        raise FileNotFoundError(f"site: expected a built book in {folder}, got none. Run: make book")
    return folder


@pytest.fixture(scope="session")
def pages(site: Path) -> list[str]:
    """Every page of the book, as a path below its root; the index, which only leads on, is left out."""
    found = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    return [page for page in found if not page.startswith("_static/") and page != "index.html"]


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """The book's address on this machine."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium, without a screen."""
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield chromium
        chromium.close()
