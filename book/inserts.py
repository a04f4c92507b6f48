"""What pages ask for by a line ``<!-- insert: NAME -->``: data and model cards, tables of chapters and modules."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from ledger import Ledger, head, row
from status import Status

import noisebook
from noisebook import _notebook, claims, simulated, weights
from noisebook._checks import error, nearest
from noisebook.papers import cyclegan, gap, linearized, regularity

MARK = "<!-- insert: "


def modules() -> dict[str, str]:
    """Every public module of the package: its name below ``noisebook``, and its docstring's first paragraph."""
    package = Path(noisebook.__path__[0])
    patterns = ("*.py", "*/*.py", "papers/*/__init__.py")
    sources = [path.relative_to(package) for pattern in patterns for path in package.glob(pattern)]
    names = {path.as_posix().removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in sources}
    public = [name for name in sorted(names) if not any(part.startswith("_") for part in name.split("."))]
    public = [name for name in public if name not in ("cli", "papers")]  # a command, and a folder
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
        titles = {name: about["title"] for name, about in self.about.items()}
        self.ledger, self.status = Ledger(results, names, titles), Status(results, names, titles)
        self.makers: dict[str, Callable[[], str]] = {
            "chapters": self.chapter_table,
            "pictures": self.pictures,
            "claims": self.ledger.tables,
            "totals": self.ledger.totals,
            "totals-by-chapter": self.ledger.totals_by_chapter,
            "runs": self.status.runs,
            "versions": self.status.versions,
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

    def chapter_table(self) -> str:
        """The chapters with their works, and how many of their claims have each verdict."""
        rows = head("chapter", "work", "claims", *claims.VERDICTS)
        for name in (name for name in self.about if name in self.names):
            counts = self.ledger.count([name])
            number = len(self.ledger.measured[name])
            rows.append(
                row(
                    self.link(name),
                    self.about[name]["work"],
                    str(number),
                    *(str(counts[verdict]) for verdict in claims.VERDICTS),
                )
            )
        return "\n".join(rows)

    def link(self, name: str) -> str:
        return f"[{self.about[name]['title']}](../notebooks/{name}.ipynb)"

    def pictures(self) -> str:
        """One picture a chapter, cut from one of its figures, that leads to the chapter."""
        cards = []
        for name, shown in self.shown().items():
            cards += [
                f":::{{grid-item-card}} {self.about[name]['title']}",
                f":link: ../notebooks/{name}",
                ":link-type: doc",
                ":class-card: book-card",
                f"![{shown['alt']}](images/{name}.png)",
                "",
                self.about[name]["question"],
                ":::",
            ]
        return "\n".join(["::::{grid} 2 2 3 3", ":gutter: 3", "", *cards, "::::"])

    def shown(self) -> dict[str, dict[str, Any]]:
        """The chapters of this book that have a picture for its first page: name to what is cut from which figure."""
        return {name: self.about[name]["picture"] for name in self.names if "picture" in self.about[name]}

    def ct_data(self) -> str:
        stamp = _notebook.manifest(self.results, "linearized")["provenance"]
        recipes = (simulated.TEST, simulated.TRAIN)
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
        scan, kept = linearized.data.SCAN, linearized.data.SCAN.sparse(linearized.data.EVERY)
        lines = [
            f"| views × channels | {scan.views} × {scan.channels}, of which {kept.views} views are kept |",
            f"| source to axis of rotation | {scan.source_mm:g} mm |",
        ]
        for name, dose in linearized.data.EXPOSURES.items():
            edge = dose.photons * dose.edge_share
            lines.append(f"| photons at {name} | {dose.photons:,.0f} (centre) to {edge:,.0f} (edge) |")
        return "\n".join([*head("quantity", "value"), *lines])

    def circle_data(self) -> str:
        small = regularity.experiment.SMALL
        sizes = ", ".join(f"{small.base * s}²" for s in (1, 2, 3))
        lines = [
            f"| images drawn, for training | {regularity.data.ROWS:,}, {regularity.data.TRAIN:,} |",
            f"| used to train the embedded networks | {small.images:,} |",
            f"| pixels at s = 1, 2, 3, embedded networks | {sizes} |",
            f"| standard deviation of the noise | {regularity.data.SIGMA} |",
        ]
        return "\n".join([*head("quantity", "value"), *lines])

    def domain_data(self) -> str:
        train, test, small = simulated.TRAIN, simulated.TEST, cyclegan.experiment.SMALL
        half, held = (len(train.patients) - cyclegan.data.VALIDATION) // 2, cyclegan.data.VALIDATION
        lines = [
            f"| trained on, at each dose | {half * train.slices} slices of {half} patients |",
            f"| validated on | {held} slices of {held} patients |",
            f"| tested on | {len(test.patients) * test.slices} slices of {len(test.patients)} patients |",
            f"| crops | {small.patch} × {small.patch} pixels, {small.crops} a slice and epoch |",
        ]
        return "\n".join([*head("the embedded networks", ""), *lines])

    def photon_data(self) -> str:
        lines = ["| network | images | size | expected photons per pixel |", "|:---|:---|:---|:---|"]
        for name, config in gap.experiment.SHIPPED.items():
            kind = "five known images" if config.data == "toy" else f"{config.images:,} tissues"
            lines.append(f"| {name} | {kind} | {' × '.join(map(str, config.size))} | {config.mean:g} |")
        return "\n".join(lines)

    def xray_data(self) -> str:
        """The recipes of the radiographs: what is measured, and what the embedded networks learnt from."""
        recipes = (simulated.XRAY_TEST, simulated.XRAY_TRAIN)
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
