"""A chapter of five cells that stands in for the real ones, run by the real runner, and the book made of it."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from noisebook import _paths, chapters

ROOT = Path(__file__).resolve().parents[2]
INTRO = """
# A small chapter

After {cite:t}`xu2022`. The {term}`Jacobian` at one image, $J = \\partial f / \\partial x$;
$J J^{\\mathsf t}\\delta$ is a {term}`covariance image`.

$$ \\operatorname{cov}(f)\\,\\delta_j \\approx G F_0 \\Sigma F_0^{\\mathsf t} G^{\\mathsf t} \\delta_j $$
"""
LINE = (
    "A straight line ([its numbers](linearized/figures/line.csv)).\n\n![A line that rises](linearized/figures/line.png)"
)
RUN = """
from pathlib import Path
import matplotlib
matplotlib.use("agg")
from matplotlib import pyplot as plt
from noisebook import claims, provenance
from noisebook.claims import Claim
figures = Path(out) / "linearized" / "figures"
figures.mkdir(parents=True)
(figures / "line.csv").write_text("x,y\\n0,0\\n1,1\\n")
stamp = provenance.stamp(3, "cpu", "tiny data", "tiny <weights>", {})
provenance.write_results(stamp, {}, Path(out) / "linearized" / "results.json")
claims.write([Claim("T1", "the **sum** is two", "section 1", (2.0,), low=1.9, high=2.1),
              Claim("T2", "needs what is not here", "section 2", (), needs="the archive")],
             Path(out) / "linearized" / "claims.json")
"""
FIGURE = """
import sys
from IPython.display import Image, Markdown, display
figure, axes = plt.subplots(figsize=(7, 2.5))
axes.plot([0, 1], [0, 1])
axes.set(xlabel="x (mm)", ylabel="HU")
for name in ("line", "PICTURE"):
    figure.savefig(figures / f"{name}.png", metadata={"Software": None})
plt.close(figure)
display(Image(figures / "line.png"))
from noisebook.figures import RECORD, links
record = {"name": "line", "numbers": "line.csv", "vectors": {"line.png": "line.png"}, "folder": "linearized/figures"}
display({"text/html": f'<p class="figure-links">{links(record)}</p>', RECORD: record}, raw=True)
display(Markdown("| height | unit |\\n|---|---|\\n| measured once | HU |"))
print("a progress bar", file=sys.stderr)
"""


def _cell(kind: str, source: str, number: int, **metadata: Any) -> dict[str, Any]:
    cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": metadata, "source": textwrap.dedent(source).strip()}
    return cell | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def notebook(name: str = "linearized") -> dict[str, Any]:
    """A chapter of that name, not executed; only ``linearized`` has claims."""
    code = RUN if name == "linearized" else re.sub(r"write\(\[.*\],", "write([],", RUN, flags=re.DOTALL)
    about = yaml.safe_load((ROOT / "book" / "chapters.yml").read_text(encoding="utf-8"))[name]
    figure = FIGURE.replace("PICTURE", about.get("picture", {}).get("figure", "line")).replace("linearized", name)
    alt = {"mystnb": {"image": {"alt": "A straight line from the lower left corner to the upper right one"}}}
    made_of = {"line": ["linearized-quarter", "data of <my> own"]}
    cells = [
        _cell("markdown", INTRO, 0),
        _cell("code", 'out = "."', 1, tags=["parameters"]),
        _cell("code", code.replace("linearized", name), 2, tags=["hide-input"]),
        _cell("markdown", f"## The line\n\n{LINE.replace('linearized', name)}", 3),
        _cell("code", figure, 4, claims=["T1"], made_of=made_of, **alt),
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def run(folder: Path) -> Path:
    """Run the tiny chapter under the name of every chapter of the book; returns the folder of its results."""
    notebooks = folder / "notebooks"
    (notebooks / "presets").mkdir(parents=True)
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_paths, "NOTEBOOKS", notebooks)
        patch.setattr(_paths, "PRESETS", notebooks / "presets")
        for name in re.findall(r"notebooks/(\w+)", toc):
            (notebooks / f"{name}.ipynb").write_text(json.dumps(notebook(name)), encoding="utf-8")
            (notebooks / "presets" / f"{name}-book.yaml").write_text("{}\n", encoding="utf-8")
            chapters.run(name, out=folder / "results")
    return folder / "results"
