"""Build the book: gate the executed notebooks, lay out what Sphinx reads, and run jupyter-book with warnings as errors.

The stage mirrors the clone (``book/``, ``notebooks/``), so that edit and launch buttons carry right paths. Only files
whose bytes changed are rewritten there, so that Sphinx rebuilds only what changed. A page asks for what is measured by
a line ``<!-- insert: NAME -->``; nobody types a number.

    python book/build.py --results build/results --stage build/stage --out build/book
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from address import repository
from chapter_pages import chapter_files, thumbnail
from inserts import Inserts, modules

from noisebook._checks import error
from noisebook._console import refusals

ROOT = Path(__file__).resolve().parents[1]
INDEX = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>noisebook</title>
<link rel="icon" href="data:,"><meta http-equiv="refresh" content="0; url=book/intro.html"></head>
<body><main><p><a href="book/intro.html">Open the book</a></p></main></body></html>
"""
MODULE = """# {name}

```{{eval-rst}}
.. automodule:: noisebook.{name}
   :members:
```
"""


def effective_config(config: dict[str, Any], address: str) -> dict[str, Any]:
    """``config`` with the buttons that ``address`` makes possible: all of them, or none while it is empty."""
    config = json.loads(json.dumps(config))
    config["repository"] = {"url": address, "path_to_book": "", "branch": "main"}
    config["html"] |= {"use_repository_button": bool(address), "use_edit_page_button": bool(address)}
    config["launch_buttons"] = {"notebook_interface": "jupyterlab", "thebe": False}
    if address:
        config["launch_buttons"]["binderhub_url"] = "https://mybinder.org"
    if address.startswith("https://github.com/"):
        config["launch_buttons"]["colab_url"] = "https://colab.research.google.com"
    return config


def chapters_in(toc: dict[str, Any]) -> list[str]:
    """The chapters whose notebooks ``_toc.yml`` lists, in the book's order."""
    entries = [entry.get("file", "") for part in toc["parts"] for entry in part["chapters"]]
    return [entry.removeprefix("notebooks/") for entry in entries if entry.startswith("notebooks/")]


def contents(root: Path, results: Path) -> dict[str, bytes]:
    """What belongs into the stage: path there to bytes. Raises for a chapter whose run is not whole and the book's."""
    toc = (root / "_toc.yml").read_bytes()
    names = chapters_in(yaml.safe_load(toc))
    config = effective_config(yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")), repository(root))
    files = {"_toc.yml": toc, "_config.yml": yaml.safe_dump(config, sort_keys=False).encode()}
    for name in names:  # first, since every page takes its numbers from these runs
        files |= chapter_files(results, name)
    inserts = Inserts(root, results, names)
    for page in sorted((root / "book").glob("*.md")):
        files[f"book/{page.name}"] = inserts.expand(page.read_text(encoding="utf-8")).encode()
    for name in modules():
        files[f"book/api/{name}.md"] = MODULE.format(name=name).encode()
    for pattern in ("book/references.bib", "book/corrections.py", "book/images/*"):
        files |= {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob(pattern))}
    files |= {f"_static/{path.name}": path.read_bytes() for path in sorted((root / "book/static").iterdir())}
    files |= {"_extra/index.html": INDEX.encode(), "book/images/claims.svg": inserts.ledger.badge().encode()}
    for name, shown in inserts.shown().items():
        figure = f"_extra/notebooks/{name}/figures/{shown['figure']}.png"
        if figure not in files:
            raise error(f"picture of {name}", "a figure of the chapter", shown["figure"], "Mend book/chapters.yml.")
        files[f"book/images/{name}.png"] = thumbnail(files[figure], shown["part"])
    return files


def sync(files: dict[str, bytes], stage: Path) -> list[str]:
    """Make ``stage`` hold exactly ``files``; returns the paths that were written or removed."""
    changed = []
    for old in [path for path in stage.rglob("*") if path.is_file()] if stage.is_dir() else []:
        if str(old.relative_to(stage)) not in files and "__pycache__" not in old.parts:
            old.unlink()
            changed.append(str(old.relative_to(stage)))
    for name, data in files.items():
        path = stage / name
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            changed.append(name)
    return changed


def render(stage: Path, out: Path) -> Path:
    """Run jupyter-book, warnings as errors; the path of ``index.html``.

    After a failure Sphinx's memory is removed: it would not repeat the warnings of pages it holds as done. After a
    build that was killed everything is: Sphinx would take a half-written page for a whole one.
    """
    unfinished = out / ".unfinished"
    if unfinished.exists():
        shutil.rmtree(out / "_build", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    command = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    options = ["build", str(stage), "--config", str(stage / "_config.yml"), "--path-output", str(out), "-q"]
    run = subprocess.run([sys.executable, "-c", command, *options, "-W", "-n", "--keep-going"], check=False)
    if run.returncode:
        shutil.rmtree(out / "_build" / ".doctrees", ignore_errors=True)
        unfinished.unlink()
        raise SystemExit("The book was not built: mend the warnings above.")
    unfinished.unlink()
    return out / "_build" / "html" / "index.html"


def main(argv: list[str] | None = None, root: Path = ROOT) -> None:
    """The command: stage, build, and print where the book is."""
    parser = argparse.ArgumentParser(description="Build the book from executed notebooks, with warnings as errors.")
    for name, default, what in (
        ("results", "build/results", "folder of the executed notebooks and what they wrote"),
        ("stage", "build/stage", "folder laid out for Sphinx"),
        ("out", "build/book", "folder of the built book"),
    ):
        parser.add_argument(f"--{name}", type=Path, default=root / default, help=f"{what} (default: {default})")
    options = parser.parse_args(argv)
    with refusals():
        changed = sync(contents(root, options.results), options.stage)
    print(f"{len(changed)} staged files changed", flush=True)
    print(render(options.stage, options.out).resolve())


if __name__ == "__main__":
    main()
