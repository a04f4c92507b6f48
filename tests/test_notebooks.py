"""The shape of every chapter's notebook: its length, order and parameters, no code of its own, no stored outputs."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from tiny_notebook import cell, notebook

from noisebook import _notebook, _parameters, _paths, _registry, chapters

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ORDER = {"data": "data|images", "weights": "weights|network|training", "claims": "claims", "differences": "differs"}
SKELETON = (
    "The idea in a picture",
    "Method",
    "Results",
    "Claims",
    "What failed",
    "How this differs",
    "Exercises",
    "Further reading",
)

sys.path.append(str(ROOT / "book"))
ADDRESS = importlib.import_module("address").installed_from(ROOT)
COLAB = f"""\
import sys  # in Colab this cell installs the package; elsewhere it does nothing
from importlib.util import find_spec
from pathlib import Path
from subprocess import run

address = "{ADDRESS}"  # git+ and the address of the repository: `make address` writes it
if "google.colab" in sys.modules and not find_spec("noisebook"):
    wheels = sorted(Path().glob("noisebook-*.whl"), key=lambda wheel: wheel.stat().st_mtime)
    if not (source := wheels[-1].rename(f"{{wheels[-1].stem.split()[0]}}.whl") if wheels else address):
        raise ModuleNotFoundError("Upload the wheel of noisebook here (Files, at the left), and run this cell again.")
    run([sys.executable, "-m", "pip", "install", "--quiet", source], check=True)"""
TRAINING = {"backward", "step", "zero_grad"}


def problems(content: dict) -> list[str]:
    """Everything in a notebook that breaks the rules of notebooks, one sentence each."""
    cells = content["cells"]
    code = [one for one in cells if one["cell_type"] == "code"]
    found = [] if 20 <= len(cells) <= 38 else [f"{len(cells)} cells, not 20 to 38"]
    found += [] if len(code) <= 20 else [f"{len(code)} cells of code, at most 20"]
    found += [] if content.get("nbformat_minor", 0) >= 5 else ["its format is older than 4.5: cells have no ids"]
    found += opening(cells) + order(cells) + skeleton(cells)
    said = False  # whether there was text since the last figure
    for number, one in enumerate(cells, 1):
        if one["cell_type"] == "code":
            found += [f"cell {number}: {problem}" for problem in [*stored(one), *own_code(one), *figure(one, said)]]
        elif re.search(r"\\\\[A-Za-z]", mathematics(_notebook.text(one))):
            found.append(f"cell {number}: mathematics with a doubled backslash before a letter, which breaks a line")
        said = one["cell_type"] == "markdown" or (said and not draws(one))
    return found + overwritten(code)


def opening(cells: list[dict]) -> list[str]:
    """What is wrong with the beginning: title, citation and table, then the parameters, then imports and the stamp."""
    top = _notebook.text(cells[0]) if cells and cells[0]["cell_type"] == "markdown" else ""
    found = [] if top.startswith("# ") else ["it does not begin with a title"]
    code = [one for one in cells if one["cell_type"] == "code"]
    before = "\n".join(_notebook.text(one) for one in cells[: cells.index(code[0])]) if code else top
    found += [] if re.search(r"doi|arxiv|\{cite", before, re.IGNORECASE) else ["no citation above the parameters"]
    found += [] if re.search(r"^\|.*\|$", before, re.MULTILINE) else ["no table above the parameters"]
    first = _notebook.text(code[0]) if code else ""
    hidden = bool(code) and "remove-cell" in code[0]["metadata"].get("tags", [])
    found += [] if first == COLAB and hidden else [f"the first cell of code is not this one, hidden:\n{COLAB}"]
    tagged = [one for one in code if "parameters" in one["metadata"].get("tags", [])]
    if len(tagged) != 1 or tagged[0] is not code[1]:
        return [*found, "the second cell of code is not the one that is tagged parameters"]
    try:
        known = _parameters.read(_notebook.text(tagged[0]))
        found += [] if "out" in known and known["out"].default == "." else ['parameters: no line out = "."']
    except ValueError as refused:
        found.append(str(refused))
    imports, stamp = (_notebook.text(one) for one in (code * 3)[2:4])
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


def skeleton(cells: list[dict]) -> list[str]:
    """Where the question, the chapters' common headings, a first picture or the folded solutions are missing."""
    text = "\n".join(_notebook.text(one) for one in cells if one["cell_type"] == "markdown")
    title = re.search(r"^# (.*)$", text, re.MULTILINE)
    found = [] if title and title[1].endswith("?") else ["its title is no question"]
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    if len(headings) != len(SKELETON) or not all(map(str.startswith, headings, SKELETON)):
        found.append(f"headings {headings}, not {list(SKELETON)}")
    parts = dict(zip(headings, re.split(r"^## .*$", text, flags=re.MULTILINE)[1:], strict=True))
    if not re.search(r"^!\[[^]]{20,}\]\(\w+/figures/\S+\.png\)$", parts.get("The idea in a picture", ""), re.MULTILINE):
        found.append("no picture with alt text below The idea in a picture")
    folded = re.search(
        r"^1\. .*^[:`]{3,}\{dropdown\} Solutions\n1\. ", parts.get("Exercises", ""), re.MULTILINE | re.DOTALL
    )
    return found + ([] if folded else ["no exercises with a dropdown of solutions"])


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
        elif isinstance(node, ast.Import | ast.ImportFrom) and "matplotlib" in ast.unparse(node):
            found.append("draws past noisebook.figures")
    return found


def overwritten(code: list[dict]) -> list[str]:
    """Names that one cell assigned and a later one reads, and that a loop in between has made something else of."""
    found, assigned, looped = [], set(), set()
    for one in code:
        text = re.sub(r"^\s*[%!].*$", "pass", _notebook.text(one), flags=re.MULTILINE)
        for part in ast.parse(text).body:
            names = [inner for inner in ast.walk(part) if isinstance(inner, ast.Name)]
            own = {name.id for name in names if isinstance(name.ctx, ast.Store)}
            found += [f"{name} was overwritten by a loop" for name in {n.id for n in names} - own if name in looped]
            if isinstance(part, ast.For):
                looped |= assigned & {n.id for n in ast.walk(part.target) if isinstance(n, ast.Name)}
            else:
                looped -= own
            assigned |= own
    return found


def mathematics(text: str) -> str:
    """What stands between dollars in Markdown, spans of code left out."""
    prose = re.sub(r"(?<!`)`[^`]+`(?!`)", "", text)
    return "\n".join(re.findall(r"\$\$.*?\$\$|\$[^$]+\$", prose, re.DOTALL))


def draws(one: dict) -> bool:
    """Whether a cell makes a figure."""
    return "figures.keep(" in _notebook.text(one)


def figure(one: dict, said: bool) -> list[str]:
    """What a cell that keeps a figure lacks: alt text, and a text before it that says what to expect."""
    if not draws(one):
        return []
    alt = one["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
    found = [] if len(alt.split()) >= 4 else ["a figure without alt text (metadata mystnb.image.alt)"]
    found += [] if one["metadata"].get("made_of") else ["a figure without what it is made of (metadata origins)"]
    return found + ([] if said else ["a figure without text since the last one"])


def good() -> dict:
    """A notebook that keeps every rule."""
    table = "| claim | source |\n|:--|:--|\n| L1 | here |"
    idea = "## The idea in a picture\n\n![four words of alt text](a/figures/b.png)\n\n## Method"
    top = cell(f"# A title?\n\nAuthor, doi 10.1/2\n\n{table}\n\n{idea}", "markdown")
    end = "## Exercises\n1. Why?\n:::{dropdown} Solutions\n1. So.\n:::\n## Further reading"
    imports = "from noisebook import provenance, figures\nstamp = provenance.stamp(seed, 'cpu', '', '', {})"
    colab, given = cell(COLAB, tags=("remove-cell",)), cell('out = "."  # folder\nseed = 0', tags=("parameters",))
    first = [top, colab, given, cell(imports)]
    middle = [
        cell("### Data", "markdown"),
        cell("data = 1"),
        cell("### Weights\n## Results", "markdown"),
        cell("net = 2"),
    ]
    drawn = [[cell(f"Expect {i}.", "markdown"), cell(f"figures.keep({i})", alt="four words of text")] for i in range(5)]
    last = [cell("## Claims", "markdown"), cell("x = 3"), cell("## What failed", "markdown"), cell("x = 4")]
    last += [cell(f"## How this differs from the paper\n{end}", "markdown")]
    return notebook(*first, *middle, *(one for pair in drawn for one in pair), *last)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_keeps_the_shape(path):
    """Every notebook in the clone keeps every rule of its shape."""
    assert problems(json.loads(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_figures_are_made_of_exists(path):
    """Every origin that a cell names is a network of the registry, a study of the chapter, or data in words."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    named = {name for one in cells for names in one["metadata"].get("made_of", {}).values() for name in names}
    kept = {file.stem for file in (_paths.DATA / "studies" / path.stem).glob("*.json")}
    known = _registry.entries().keys() | {f"study {name}" for name in kept}
    assert {name for name in named if not name.startswith("data ")} <= known


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


def _swap(content: dict, number: int, old: str, new: str) -> None:
    content["cells"][number]["source"] = content["cells"][number]["source"].replace(old, new)


def _replace(content: dict, number: int, source: str) -> None:
    content["cells"][number]["source"] = source


BROKEN = {
    "too short": (lambda c: c["cells"].__delitem__(slice(8, 12)), "19 cells, not 20 to 38"),
    "too long": (lambda c: c["cells"].extend([cell("text", "markdown")] * 20), "43 cells, not 20 to 38"),
    "too much code": (lambda c: c["cells"].extend([cell("x = 1")] * 12), "24 cells of code, at most 20"),
    "old format": (lambda c: c.update(nbformat_minor=2), "older than 4.5"),
    "no title": (lambda c: _replace(c, 0, "Title doi 10.1/2\n\n| a |"), "begin with a title"),
    "no citation": (lambda c: _replace(c, 0, "# Title\n\n| a |"), "no citation"),
    "no table": (lambda c: _replace(c, 0, "# Title doi 10.1/2"), "no table"),
    "no question": (lambda c: _swap(c, 0, "A title?", "A title"), "its title is no question"),
    "no picture": (lambda c: _swap(c, 0, ".png", ".svg"), "no picture with alt text"),
    "no solutions": (lambda c: _swap(c, -1, "Solutions", "Hints"), "no exercises with a dropdown of solutions"),
    "no results": (lambda c: _swap(c, 6, "## Results", "### Results"), "'Method', 'Claims', 'What failed'"),
    "no colab": (lambda c: _replace(c, 1, "x = 1"), "the first cell of code is not this one"),
    "colab shown": (lambda c: c["cells"][1].update(metadata={}), "the first cell of code is not this one"),
    "untagged": (lambda c: c["cells"][2].update(metadata={}), "tagged parameters"),
    "computed": (lambda c: _replace(c, 2, 'out = "."\nseed = int("3")'), "lines like name = literal"),
    "no out": (lambda c: _replace(c, 2, "seed = 0"), 'parameters: no line out = "."'),
    "no stamp": (lambda c: _replace(c, 3, "import numpy"), "no imports and stamp"),
    "outputs": (lambda c: c["cells"][5].update(outputs=[{}]), "cell 6: stored with outputs"),
    "count": (lambda c: c["cells"][5].update(execution_count=1), "cell 6: stored with outputs"),
    "long cell": (lambda c: _replace(c, 5, "x = 1\n" * 11), "cell 6: 11 lines, at most 10"),
    "def": (lambda c: _replace(c, 5, "def f(): pass"), "cell 6: defines f"),
    "class": (lambda c: _replace(c, 5, "class A: pass"), "cell 6: defines A"),
    "loop": (lambda c: _replace(c, 5, "for b in bs:\n    loss(b).backward()"), "cell 6: a training loop"),
    "matplotlib": (lambda c: _replace(c, 5, "import matplotlib.pyplot as plt"), "draws past noisebook.figures"),
    "looped": (
        lambda c: (_replace(c, 5, "x = 1\nfor x in [2]: y = x"), _replace(c, 7, "print(x)")),
        "x was overwritten",
    ),
    "no alt": (lambda c: c["cells"][9].update(metadata={}), "cell 10: a figure without alt text"),
    "no origin": (lambda c: c["cells"][9]["metadata"].pop("made_of"), "cell 10: a figure without what it is made of"),
    "no sentence": (lambda c: c["cells"][10].update(cell("y = 1")), "cell 12: a figure without text"),
    "order": (lambda c: _replace(c, 4, "### Claims"), "no heading on data"),
    "doubled": (lambda c: _swap(c, 0, "## Method", r"$a \\beta$"), "cell 1: mathematics with a doubled backslash"),
    "swapped": (lambda c: (_replace(c, 4, "### Network"), _replace(c, 6, "### Data")), "headings not in the order"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found(change, message):
    """Each rule, broken once, is reported."""
    content = good()
    change(content)
    assert any(message in problem for problem in problems(content)), problems(content)


def _open_in_colab(monkeypatch: pytest.MonkeyPatch, colab: bool, installed: bool) -> list[list[str]]:
    """Execute the first cell where Colab is there or not, and the package is or not; what it would have installed."""
    calls: list[list[str]] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    exec(compile(COLAB, "colab", "exec"), {})
    return calls


def test_colab_gets_the_package(monkeypatch, tmp_path):
    """In Colab the first cell installs the wheel that lies there; without a wheel or an address it says what to do."""
    monkeypatch.chdir(tmp_path)
    if not ADDRESS:
        with pytest.raises(ModuleNotFoundError, match="Upload the wheel of noisebook"):
            _open_in_colab(monkeypatch, colab=True, installed=False)
    (tmp_path / "noisebook-1.0-py3-none-any.whl").touch()
    ((*command, source),) = _open_in_colab(monkeypatch, colab=True, installed=False)
    assert command == [sys.executable, "-m", "pip", "install", "--quiet"]
    assert source == Path("noisebook-1.0-py3-none-any.whl")


def test_colab_gets_the_newest_wheel_under_a_name_that_pip_takes(monkeypatch, tmp_path):
    """Of several wheels the one that was uploaded last is installed, without the number that a second upload gets."""
    monkeypatch.chdir(tmp_path)
    names = ("noisebook-1.0-py3-none-any (2).whl", "noisebook-1.0-py3-none-any.whl", "noisebook-0.9-py3-none-any.whl")
    for age, name in enumerate(names):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    ((*_, source),) = _open_in_colab(monkeypatch, colab=True, installed=False)
    assert source == Path("noisebook-1.0-py3-none-any.whl")
    assert source.read_text() == names[0]


def test_new_lines_in_mathematics_are_fine():
    """A doubled backslash at a line's end is one, and in code it is the code's."""
    assert not re.search(r"\\\\[A-Za-z]", mathematics("$$a \\\\\n &+ \\beta$$ and `r'$\\\\beta$'` and $\\ln 2$"))
    assert mathematics("```{dropdown} S\n$a$ `$b$` $$c\nd$$\n```") == "$a$\n$$c\nd$$"


def test_every_term_of_the_glossary_is_needed():
    """A chapter, another page or another entry links to each term."""
    entries = re.search(r"^```{glossary}\n(.*?)^```", (ROOT / "book/glossary.md").read_text("utf-8"), re.M | re.DOTALL)
    terms = [line for line in entries[1].splitlines() if line and not line.startswith(" ")]
    texts = [entries[1], *(path.read_text("utf-8") for path in [*NOTEBOOKS, *(ROOT / "book").glob("*.md")])]
    linked = {link.lower() for text in texts for link in re.findall(r"{term}`(?:[^`<]*<)?([^`<>]+)>?`", text)}
    assert len(terms) > 40
    assert [term for term in terms if term.lower() not in linked] == []


@pytest.mark.parametrize(("colab", "installed"), [(True, True), (False, False), (False, True)])
def test_elsewhere_nothing_is_installed(monkeypatch, colab, installed):
    """Where the package is there already, or the notebook is not in Colab, the first cell does nothing."""
    assert _open_in_colab(monkeypatch, colab, installed) == []
