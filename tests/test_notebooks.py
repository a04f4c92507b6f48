"""The shape of every chapter's notebook: its length, order and parameters, no code of its own, no stored outputs."""

import ast
import json
import re
from pathlib import Path

import pytest
from tiny_notebook import cell, notebook

from noisebook import _notebook, _parameters, chapters

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ORDER = {"data": "data|images", "weights": "weights|network|training", "claims": "claims", "differences": "differs"}
TRAINING = {"backward", "step", "zero_grad"}


def problems(content: dict) -> list[str]:
    """Everything in a notebook that breaks the house's rules, one sentence each."""
    cells = content["cells"]
    code = [one for one in cells if one["cell_type"] == "code"]
    found = [] if 20 <= len(cells) <= 35 else [f"{len(cells)} cells, not 20 to 35"]
    found += [] if len(code) <= 20 else [f"{len(code)} cells of code, at most 20"]
    found += [] if content.get("nbformat_minor", 0) >= 5 else ["its format is older than 4.5: cells have no ids"]
    found += opening(cells) + order(cells)
    said = False  # whether there was text since the last figure
    for number, one in enumerate(cells, 1):
        if one["cell_type"] == "code":
            found += [f"cell {number}: {problem}" for problem in [*stored(one), *own_code(one), *figure(one, said)]]
        said = one["cell_type"] == "markdown" or (said and not draws(one))
    return found


def opening(cells: list[dict]) -> list[str]:
    """What is wrong with the beginning: title, citation and table, then the parameters, then imports and the stamp."""
    top = _notebook.text(cells[0]) if cells and cells[0]["cell_type"] == "markdown" else ""
    found = [] if top.startswith("# ") else ["it does not begin with a title"]
    code = [one for one in cells if one["cell_type"] == "code"]
    before = "\n".join(_notebook.text(one) for one in cells[: cells.index(code[0])]) if code else top
    found += [] if re.search(r"doi|arxiv|\{cite", before, re.IGNORECASE) else ["no citation above the parameters"]
    found += [] if re.search(r"^\|.*\|$", before, re.MULTILINE) else ["no table above the parameters"]
    tagged = [one for one in code if "parameters" in one["metadata"].get("tags", [])]
    if len(tagged) != 1 or tagged[0] is not code[0]:
        return [*found, "the first cell of code is not the one that is tagged parameters"]
    try:
        known = _parameters.read(_notebook.text(tagged[0]))
        found += [] if "out" in known and known["out"].default == "." else ['parameters: no line out = "."']
    except ValueError as refused:
        found.append(str(refused))
    imports, stamp = (_notebook.text(one) for one in (code * 3)[1:3])
    good = re.match(r"(from|import) ", imports) and "provenance.stamp(" in imports + stamp
    return found + ([] if good else ["no imports and stamp after the parameters"])


def order(cells: list[dict]) -> list[str]:
    """Which of the headings on data, weights, claims and differences are missing or out of order."""
    lines = "\n".join(_notebook.text(one) for one in cells if one["cell_type"] == "markdown").splitlines()
    headings = [line.lower() for line in lines if line.startswith("##")]
    places = {
        part: next((place for place, line in enumerate(headings) if re.search(rf"\b({words})\b", line)), -1)
        for part, words in ORDER.items()
    }
    missing = [f"no heading on {part} ({ORDER[part]})" for part, place in places.items() if place < 0]
    in_order = list(places.values()) == sorted(places.values())
    return missing or ([] if in_order else [f"headings not in the order {', '.join(ORDER)}"])


def stored(one: dict) -> list[str]:
    """Whether a cell of code was stored with what an execution left in it."""
    clean = not one["outputs"] and one["execution_count"] is None
    return [] if clean else ["stored with outputs or an execution count"]


def own_code(one: dict) -> list[str]:
    """Lines, definitions and loops that belong into the library."""
    text = _notebook.text(one)
    lines = [line for line in text.splitlines() if line.strip()]
    found = [] if len(lines) <= 10 else [f"{len(lines)} lines, at most 10"]
    for node in ast.walk(ast.parse(re.sub(r"^\s*[%!].*$", "pass", text, flags=re.MULTILINE))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(f"defines {node.name}")
        elif isinstance(node, ast.For | ast.While):
            names = {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}
            found += ["a training loop"] if names & TRAINING else []
        elif isinstance(node, ast.Import | ast.ImportFrom) and re.search(r"\b(matplotlib|bokeh)\b", ast.unparse(node)):
            found.append("draws past noisebook.figures")
    return found


def draws(one: dict) -> bool:
    """Whether a cell makes a figure."""
    return "figures.keep(" in _notebook.text(one)


def figure(one: dict, said: bool) -> list[str]:
    """What a cell that keeps a figure lacks: alt text, and a text before it that says what to expect."""
    if not draws(one):
        return []
    alt = one["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
    found = [] if len(alt.split()) >= 4 else ["a figure without alt text (metadata mystnb.image.alt)"]
    return found + ([] if said else ["a figure without text since the last one"])


def good() -> dict:
    """A notebook that keeps every rule."""
    top = cell("# Title\n\nAuthor, doi 10.1/2\n\n| claim | source |\n|:--|:--|\n| L1 | here |", "markdown")
    imports = "from noisebook import provenance, figures\nstamp = provenance.stamp(seed, 'cpu', '', '', {})"
    first = [top, cell('out = "."  # folder\nseed = 0', tags=("parameters",)), cell(imports)]
    middle = [cell("## Data", "markdown"), cell("data = 1"), cell("## Weights", "markdown"), cell("net = 2")]
    drawn = [[cell(f"Expect {i}.", "markdown"), cell(f"figures.keep({i})", alt="four words of text")] for i in range(5)]
    last = [cell("## Claims", "markdown"), cell("x = 3"), cell("## How this differs from the paper", "markdown")]
    return notebook(*first, *middle, *(one for pair in drawn for one in pair), *last)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_keeps_the_shape(path):
    """Every notebook in the clone keeps every rule of its shape."""
    assert problems(json.loads(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_preset_of_a_chapter_fits_its_parameters(path):
    """Each chapter has the presets smoke, book and paper, the book's are the defaults, and every value fits."""
    presets = chapters.presets(path.stem)
    assert set(presets) >= {"smoke", "book", "paper"}
    for preset in presets:
        chapters.values(path.stem, preset)
    assert chapters.values(path.stem, "book") == {}


def test_there_is_a_chapter():
    """The rules are applied to at least one notebook."""
    assert NOTEBOOKS


def test_a_good_notebook_has_no_problems():
    """The example that the broken ones start from keeps every rule."""
    assert problems(good()) == []


def _replace(content: dict, number: int, source: str) -> None:
    content["cells"][number]["source"] = source


BROKEN = {
    "too short": (lambda c: c["cells"].pop(8), "19 cells, not 20 to 35"),
    "too long": (lambda c: c["cells"].extend([cell("text", "markdown")] * 20), "40 cells, not 20 to 35"),
    "too much code": (lambda c: c["cells"].extend([cell("x = 1")] * 12), "22 cells of code, at most 20"),
    "old format": (lambda c: c.update(nbformat_minor=2), "older than 4.5"),
    "no title": (lambda c: _replace(c, 0, "Title doi 10.1/2\n\n| a |"), "begin with a title"),
    "no citation": (lambda c: _replace(c, 0, "# Title\n\n| a |"), "no citation"),
    "no table": (lambda c: _replace(c, 0, "# Title doi 10.1/2"), "no table"),
    "untagged": (lambda c: c["cells"][1].update(metadata={}), "tagged parameters"),
    "computed": (lambda c: _replace(c, 1, 'out = "."\nseed = int("3")'), "lines like name = literal"),
    "no out": (lambda c: _replace(c, 1, "seed = 0"), 'parameters: no line out = "."'),
    "no stamp": (lambda c: _replace(c, 2, "import numpy"), "no imports and stamp"),
    "outputs": (lambda c: c["cells"][4].update(outputs=[{}]), "cell 5: stored with outputs"),
    "count": (lambda c: c["cells"][4].update(execution_count=1), "cell 5: stored with outputs"),
    "long cell": (lambda c: _replace(c, 4, "x = 1\n" * 11), "cell 5: 11 lines, at most 10"),
    "def": (lambda c: _replace(c, 4, "def f(): pass"), "cell 5: defines f"),
    "class": (lambda c: _replace(c, 4, "class A: pass"), "cell 5: defines A"),
    "loop": (lambda c: _replace(c, 4, "for b in bs:\n    loss(b).backward()"), "cell 5: a training loop"),
    "matplotlib": (lambda c: _replace(c, 4, "import matplotlib.pyplot as plt"), "draws past noisebook.figures"),
    "no alt": (lambda c: c["cells"][8].update(metadata={}), "cell 9: a figure without alt text"),
    "no sentence": (lambda c: c["cells"][9].update(cell("y = 1")), "cell 11: a figure without text"),
    "order": (lambda c: _replace(c, 3, "## Claims"), "no heading on data"),
    "swapped": (lambda c: (_replace(c, 3, "## The network"), _replace(c, 5, "## Data")), "headings not in the order"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found(change, message):
    """Each rule, broken once, is reported."""
    content = good()
    change(content)
    assert any(message in problem for problem in problems(content)), problems(content)
