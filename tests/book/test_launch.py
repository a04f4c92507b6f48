"""A small book of a repository that has an address: its buttons lead to the right path on the right branch."""

from __future__ import annotations

import json
from types import ModuleType

import pytest
import site_pages
import tiny
import yaml

ADDRESS = "https://github.com/someone/noisebook"
TOC = {"format": "jb-book", "root": "book/intro", "parts": [{"chapters": [{"file": "notebooks/linearized"}]}]}


@pytest.fixture(scope="module")
def links(build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The links of a page and of a chapter, by their file."""
    folder = tmp_path_factory.mktemp("launch")
    config = yaml.safe_load((tiny.ROOT / "_config.yml").read_text(encoding="utf-8"))
    chapter = tiny.notebook()
    chapter["cells"] = [{**chapter["cells"][0], "source": "# A chapter"}]
    stage = {
        "_config.yml": yaml.safe_dump(build.effective_config(config, ADDRESS)).encode(),
        "_toc.yml": yaml.safe_dump(TOC).encode(),
        "book/intro.md": b"# A page",
        "notebooks/linearized.ipynb": json.dumps(chapter).encode(),
        "_extra/index.html": b"",
        "_static/none.txt": b"",
    }
    for name in ("corrections.py", "references.bib", "images/logo.svg", "images/favicon.svg"):
        stage[f"book/{name}"] = (tiny.ROOT / "book" / name).read_bytes()
    build.sync(stage, folder / "stage")
    site = build.render(folder / "stage", folder / "out").parent
    return {path.relative_to(site).as_posix(): page.links for path, page in site_pages.read(site).items()}


@pytest.mark.parametrize(
    "link",
    [
        "https://mybinder.org/v2/gh/someone/noisebook/main?urlpath=lab/tree/notebooks/linearized.ipynb",
        "https://colab.research.google.com/github/someone/noisebook/blob/main/notebooks/linearized.ipynb",
        f"{ADDRESS}/edit/main/notebooks/linearized.ipynb",
        ADDRESS,
    ],
)
def test_buttons_lead_to_this_chapter_on_main(links: dict[str, list[str]], link: str) -> None:
    """Binder, Colab, edit and source open the chapter's own notebook on branch main; and that file exists."""
    assert link in links["notebooks/linearized.html"]
    assert (tiny.ROOT / "notebooks" / "linearized.ipynb").is_file()


def test_a_page_without_code_is_not_launched(links: dict[str, list[str]]) -> None:
    """A page of prose can be edited, and offers neither Binder nor Colab."""
    assert f"{ADDRESS}/edit/main/book/intro.md" in links["book/intro.html"]
    assert not [link for link in links["book/intro.html"] if "mybinder" in link or "colab" in link]
