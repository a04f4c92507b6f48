"""Build the book: gate the executed notebooks, lay out what Sphinx reads, and run jupyter-book with warnings as errors.

The stage mirrors the clone (``book/``, ``notebooks/``), so that edit and launch buttons carry right paths. Only files
whose bytes changed are rewritten there, so that Sphinx rebuilds only what changed. A page asks for what is measured by
a line ``<!-- insert: NAME -->``; nobody types a number.

    python book/build.py --results build/results --stage build/stage --out build/book
"""

from __future__ import annotations

import argparse
import ast
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import noisebook
from noisebook import chapters, claims, embedded, weights
from noisebook._checks import error, nearest
from noisebook.papers import cyclegan, gap, linearized, regularity

ROOT = Path(__file__).resolve().parents[1]
MARK = "<!-- insert: "
RUN_FILES = ("run.json", "run.log")  # what the runner writes for itself; they hold the run's clock
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


def repository(root: Path) -> str:
    """The repository's public address, ``[tool.noisebook] repository`` in pyproject.toml; empty while it has none."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return str(settings.get("tool", {}).get("noisebook", {}).get("repository", "")).rstrip("/")


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


def modules() -> dict[str, str]:
    """Every public module of the package: its name below ``noisebook``, and its docstring's first paragraph."""
    package = Path(noisebook.__path__[0])
    sources = [path.relative_to(package) for pattern in ("*.py", "*/*.py") for path in package.glob(pattern)]
    names = {path.as_posix().removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in sources}
    public = [name for name in sorted(names) if not any(part.startswith("_") for part in name.split("."))]
    return {name: summary(package / names[name]) for name in public}


def summary(source: Path) -> str:
    """The first paragraph of a module's docstring, read without importing the module."""
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")


class Inserts:
    """What pages may ask for by ``<!-- insert: NAME -->``; numbers come from the results or from the code."""

    def __init__(self, root: Path, results: Path, names: list[str]) -> None:
        self.root, self.results, self.names = root, results, names
        self.about = yaml.safe_load((root / "book" / "chapters.yml").read_text(encoding="utf-8"))
        self.makers: dict[str, Callable[[], str]] = {
            "chapters": self.chapter_table,
            "claims": self.claims_tables,
            "totals": self.totals,
            "ct-data": self.ct_data,
            "scan-data": self.scan_data,
            "circle-data": self.circle_data,
            "domain-data": self.domain_data,
            "photon-data": self.photon_data,
            "xray-data": self.xray_data,
            "model-cards": self.model_cards,
            "modules": self.module_table,
        }

    def expand(self, page: str) -> str:
        """``page`` with every insert line replaced by what it asks for."""
        return "\n".join(self.make(line) if line.startswith(MARK) else line for line in page.split("\n"))

    def make(self, line: str) -> str:
        name = line.removeprefix(MARK).removesuffix("-->").strip()
        if name not in self.makers:
            raise error("insert", "a known name", repr(name), nearest(name, self.makers))
        return self.makers[name]()

    def read(self, chapter: str) -> list[claims.Claim]:
        path = self.results / chapter / "claims.json"
        if not path.is_file():
            raise error(f"claims of {chapter}", f"a file {path}", "none", f"Run: noisebook run {chapter}")
        return list(claims.read(path))

    def chapter_table(self) -> str:
        rows = ["| chapter | work | question | state |", "|:---|:---|:---|:---|"]
        for name, about in self.about.items():
            title, state = (self.link(name), "written") if name in self.names else (about["title"], "not yet written")
            rows.append(f"| {title} | {about['work']} | {about['question']} | {state} |")
        return "\n".join(rows)

    def link(self, name: str) -> str:
        return f"[{self.about[name]['title']}](../notebooks/{name}.ipynb)"

    def claims_tables(self) -> str:
        parts = []
        for name in self.names:
            parts += [f"(claims-{name})=", f"## {self.link(name)}", "", claims.markdown(self.read(name)), ""]
        return "\n".join(parts)

    def totals(self) -> str:
        counts = claims.totals([claim for name in self.names for claim in self.read(name)])
        return (
            f"Of {sum(counts.values())} claims in this build **{counts['holds']}** hold, **{counts['fails']}** fail, "
            f"**{counts['not tested']}** could not be tested."
        )

    def ct_data(self) -> str:
        path = self.results / "linearized" / "results.json"
        stamp = json.loads(path.read_text(encoding="utf-8")).get("provenance", {}) if path.is_file() else {}
        if "data" not in stamp:
            raise error("data of linearized", f"its provenance in {path}", "none", "Run: noisebook run linearized")
        recipes = (embedded.TEST, embedded.TRAIN)
        rows = {
            "identity": [f"`{r.id}`" for r in recipes],
            "patients": [len(r.patients) for r in recipes],
            "slices a patient": [r.slices for r in recipes],
            "images": [f"{r.pixels} × {r.pixels} pixels of {r.grid.spacing_mm:g} mm" for r in recipes],
            "scan": [f"{r.views} views × {r.channels} channels" for r in recipes],
            "photons of the central ray, full dose": [f"{r.photons:,.0f}" for r in recipes],
            "electronic noise, in photons": [f"{r.dose().electronic:g}" for r in recipes],
            "low dose": [f"{r.low_share:.0%}" for r in recipes],
        }
        lines = [f"| {name} | {test} | {train} |" for name, (test, train) in rows.items()]
        end = f"\nThe chapter in this build read: {stamp['data']}."
        return "\n".join(["| quantity | test | train |", "|:---|:---|:---|", *lines, end])

    def scan_data(self) -> str:
        scan, kept = linearized.SCAN, linearized.SCAN.sparse(linearized.EVERY)
        lines = [
            f"| views × channels | {scan.views} × {scan.channels}, of which {kept.views} views are kept |",
            f"| source to axis of rotation | {scan.source_mm:g} mm |",
        ]
        for name, dose in linearized.EXPOSURES.items():
            edge = dose.photons * dose.edge_share
            lines.append(f"| photons at {name} | {dose.photons:,.0f} (centre) to {edge:,.0f} (edge) |")
        return "\n".join(["| quantity | value |", "|:---|:---|", *lines])

    def circle_data(self) -> str:
        small = regularity.SMALL
        sizes = ", ".join(f"{small.base * s}²" for s in (1, 2, 3))
        lines = [
            f"| images drawn, for training | {regularity.ROWS:,}, {regularity.TRAIN:,} |",
            f"| used to train the embedded networks | {small.images:,} |",
            f"| pixels at s = 1, 2, 3, embedded networks | {sizes} |",
            f"| standard deviation of the noise | {regularity.SIGMA} |",
        ]
        return "\n".join(["| quantity | value |", "|:---|:---|", *lines])

    def domain_data(self) -> str:
        train, test, small = embedded.TRAIN, embedded.TEST, cyclegan.SMALL
        half, held = (len(train.patients) - cyclegan.VALIDATION) // 2, cyclegan.VALIDATION
        lines = [
            f"| trained on, at each dose | {half * train.slices} slices of {half} patients |",
            f"| validated on | {held} slices of {held} patients |",
            f"| tested on | {len(test.patients) * test.slices} slices of {len(test.patients)} patients |",
            f"| crops | {small.patch} × {small.patch} pixels, {small.crops} a slice and epoch |",
        ]
        return "\n".join(["| the embedded networks | |", "|:---|:---|", *lines])

    def photon_data(self) -> str:
        lines = ["| network | images | size | expected photons per pixel |", "|:---|:---|:---|:---|"]
        for name, config in gap.EMBEDDED.items():
            kind = "five known images" if config.data == "toy" else f"{config.images:,} tissues"
            lines.append(f"| {name} | {kind} | {' × '.join(map(str, config.size))} | {config.mean:g} |")
        return "\n".join(lines)

    def xray_data(self) -> str:
        """The recipes of the radiographs: what is measured, and what the embedded networks learnt from."""
        recipes = (embedded.XRAY_TEST, embedded.XRAY_TRAIN)
        parts = ("train", "val", "test")
        rows = {
            "identity": [f"`{r.id}`" for r in recipes],
            "subjects in train, val, test": [", ".join(str(len(getattr(r, p))) for p in parts) for r in recipes],
            "views a subject": [r.views for r in recipes],
            "images": [f"{r.pixels} × {r.pixels} pixels" for r in recipes],
            "photons in a pixel of 3.1 × 3.1 mm, unattenuated": [f"{r.photons:,.0f}" for r in recipes],
        }
        lines = [f"| {name} | {test} | {train} |" for name, (test, train) in rows.items()]
        return "\n".join(["| quantity | measured | learnt from |", "|:---|:---|:---|", *lines])

    def model_cards(self) -> str:
        parts, networks = [], weights.embedded(self.root / "data")
        for name in [name for name in self.about if any(network.chapter == name for network in networks)]:
            parts += [f"## {self.about[name]['title']}", ""]
            parts += [weights.model_card(n.id, self.root / "data") for n in networks if n.chapter == name]
        return "\n".join(parts) or "No network is embedded yet."

    def module_table(self) -> str:
        rows = [f"| [`{name}`](api/{name}.md) | {text} |" for name, text in modules().items()]
        return "\n".join(["| module | what it is |", "|:---|:---|", *rows])


def contents(root: Path, results: Path) -> dict[str, bytes]:
    """What belongs into the stage: path there to bytes. Raises for a notebook that did not end well."""
    toc = (root / "_toc.yml").read_bytes()
    names = chapters_in(yaml.safe_load(toc))
    config = effective_config(yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")), repository(root))
    files = {"_toc.yml": toc, "_config.yml": yaml.safe_dump(config, sort_keys=False).encode()}
    inserts = Inserts(root, results, names)
    for page in sorted((root / "book").glob("*.md")):
        files[f"book/{page.name}"] = inserts.expand(page.read_text(encoding="utf-8")).encode()
    for name in modules():
        files[f"book/api/{name}.md"] = MODULE.format(name=name).encode()
    for pattern in ("book/references.bib", "book/house.py", "book/images/*"):
        files |= {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob(pattern))}
    files |= {f"_static/{path.name}": path.read_bytes() for path in sorted((root / "book/static").iterdir())}
    files["_extra/index.html"] = INDEX.encode()
    for name in names:
        files |= chapter_files(results, name)
    return files


def chapter_files(results: Path, name: str) -> dict[str, bytes]:
    """The executed notebook of one chapter, gated, and the files it wrote, to be published beside its page."""
    notebook = results / f"{name}.ipynb"
    if not notebook.is_file():
        raise error(f"chapter {name}", f"an executed notebook {notebook}", "none", f"Run: noisebook run {name}")
    chapters.gate(notebook)
    written = sorted(path for path in (results / name).rglob("*") if path.is_file() and path.name not in RUN_FILES)
    files = {f"_extra/notebooks/{path.relative_to(results)}": path.read_bytes() for path in written}
    return files | {f"notebooks/{name}.ipynb": notebook.read_bytes()}


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
    changed = sync(contents(root, options.results), options.stage)
    print(f"{len(changed)} staged files changed", flush=True)
    print(render(options.stage, options.out).resolve())


if __name__ == "__main__":
    main()
