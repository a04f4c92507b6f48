"""The built book served on this machine, and Debian's chromium to look at it."""

from __future__ import annotations

import functools
import http.server
import importlib.resources
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
TALLY = pytest.StashKey[Counter[str]]()
FONTS = Path("/usr/share/fonts/truetype")
PACKAGES = "fonts-dejavu-core fonts-liberation"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the book lies, and where to keep pictures of its pages."""
    parser.addoption("--site", type=Path, default=ROOT / "build/book/_build/html", help="the built book to look at")
    parser.addoption("--results", type=Path, default=ROOT / "build/results", help="what the book was made of")
    parser.addoption("--screenshots", type=Path, default=None, help="a folder to keep a picture of every page in")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell how much was looked at."""
    said = [f"{count} {what}" for what, count in config.stash.get(TALLY, Counter()).items()]
    terminalreporter.write_line(f"looked at: {', '.join(said) or 'nothing'}")


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Counter[str]:
    """How often each kind of thing was looked at; the report ends with it."""
    return pytestconfig.stash.setdefault(TALLY, Counter())


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, as the package axe-playwright-python brings it."""
    return (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> Path:
    """The folder of results that the book was made of."""
    folder: Path = pytestconfig.getoption("--results").resolve()
    return folder


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
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Browser]]:
    """Starts Debian's chromium without a screen; with the fonts of the named folders alone, or with all there are."""
    with sync_playwright() as play, ExitStack() as stack:

        def start(*fonts: str) -> Browser:
            missing = [str(FONTS / name) for name in fonts if not (FONTS / name).is_dir()]
            if missing:
                raise FileNotFoundError(f"fonts: expected {missing}, got none. Run: apt-get install {PACKAGES}")
            file = tmp_path_factory.mktemp("fonts") / "fonts.conf"
            folders = "".join(f"<dir>{FONTS / name}</dir>" for name in fonts or [""])
            file.write_text(f"<fontconfig>{folders}<include>/etc/fonts/conf.d</include></fontconfig>")
            variables = os.environ | {"FONTCONFIG_FILE": str(file)}
            chromium = play.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS, env={**variables})
            return stack.enter_context(chromium)

        yield start


@pytest.fixture(scope="session")
def browser(launch: Callable[..., Browser]) -> Browser:
    """Debian's chromium with every font that there is."""
    return launch()
