"""The levels of the library: a module imports only from below, papers stay apart, and some libraries have one door."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "noisebook"
LEVELS = {
    0: "_checks _paths _numbers _parameters _notebook _registry _kernel provenance claims",
    1: "photons phantoms dicom ct jacobian inference metrics archives _console",
    2: "datasets simulated weights figures training studies",
    3: "networks",
    4: "papers",
    5: "chapters validation cli _findings _weights_command",
}
LEVEL = {name: level for level, names in LEVELS.items() for name in names.split()}
BASE = ("_checks", "_paths", "_numbers")  # everything may import these, they import nothing of ours
SIDEWAYS = {  # the command is the door to its parts
    *(("cli", part) for part in ("chapters", "validation", "_findings", "_weights_command")),
    ("_findings", "validation"),
}
DOORS = {"pydicom": "dicom", "gdcm": "dicom", "matplotlib": "figures"}
DOORS["lightning_fabric"] = "training"


def unit(file: Path, package: Path) -> tuple[str, str]:
    """The module of the table that a file belongs to, and the paper if it is one: ``('papers', 'gap')``."""
    parts = file.relative_to(package).with_suffix("").parts
    return parts[0], parts[1] if parts[0] == "papers" and len(parts) > 1 else ""


def imported(file: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, wherever the import stands, unless for type checking."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    guards = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test).endswith("TYPE_CHECKING")]
    typing_only = {node for guard in guards for statement in guard.body for node in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = ["noisebook", *file.relative_to(package).parent.parts]
            above = folder[: len(folder) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def violations(package: Path) -> list[str]:
    """Every import below ``package`` that breaks a rule, as ``file:line: reason``."""
    found = []
    for file in sorted(package.rglob("*.py")):
        if file == package / "__init__.py":
            continue
        name, paper = unit(file, package)
        if name not in LEVEL:
            found.append(f"{file.name}: {name} has no level in the table")
            continue
        for line, dotted in imported(file, package):
            if reason := broken_rule(name, paper, dotted):
                found.append(f"{file.relative_to(package)}:{line}: {reason}")
    return found


def broken_rule(name: str, paper: str, dotted: str) -> str:
    """Why the module ``name`` may not import ``dotted``; empty if it may."""
    first, *rest = dotted.split(".")
    if DOORS.get(first, name) != name:
        return f"only {DOORS[first]} may import {first}"
    if first != "noisebook" or not rest:
        return ""
    target = rest[0]
    if target == "papers" and name == "papers":
        own = rest[1:2] == [paper] or not (PACKAGE / "papers" / rest[1]).is_dir()  # or a name of papers/__init__
        own |= paper == "compare"  # which brings the others together
        return "" if own else f"papers stay apart: {paper} imports {dotted}"
    if target == name or target not in LEVEL or (name, target) in SIDEWAYS:
        return "" if target in LEVEL or target.startswith("__") else f"{target} has no level in the table"
    if target in BASE:
        return "" if name not in BASE else f"{name} imports {target}: the ground has no floor below it"
    if LEVEL[target] < LEVEL[name]:
        return ""
    return f"{name} (level {LEVEL[name]}) imports {target} (level {LEVEL[target]})"


def test_every_module_imports_only_from_below():
    """No module of the library imports from its own level or above, and no library is imported past its door."""
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "code", "reason"),
    [
        ("ct.py", "from noisebook import weights", "ct (level 1) imports weights (level 2)"),
        ("ct.py", "from noisebook.metrics import psnr", "ct (level 1) imports metrics (level 1)"),
        ("ct.py", "def f():\n    import noisebook.cli", "ct (level 1) imports cli (level 5)"),
        ("claims.py", "from noisebook import provenance", "claims (level 0) imports provenance (level 0)"),
        ("_checks.py", "from . import _paths", "_checks imports _paths"),
        ("papers/gap.py", "from noisebook.papers import xray", "papers stay apart"),
        ("papers/gap.py", "from . import xray", "papers stay apart"),
        ("papers/gap.py", "from . import compare", "papers stay apart"),
        ("papers/gap.py", "import matplotlib.pyplot as plt", "only figures may import matplotlib"),
        ("training.py", "import pydicom", "only dicom may import pydicom"),
        ("stray.py", "", "stray has no level"),
        ("ct.py", "from noisebook import stray", "stray has no level"),
    ],
)
def test_a_broken_rule_is_found(tmp_path, file, code, reason):
    """Each kind of forbidden import is reported, with its reason."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(code)
    found = violations(tmp_path)
    assert len(found) == 1
    assert reason in found[0]


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("papers/gap.py", "from noisebook import ct, training\nfrom noisebook._checks import error"),
        ("papers/compare/data.py", "from noisebook.papers import gap, xray"),
        ("papers/gap/_model.py", "from . import _loss\nfrom noisebook.papers.gap import _step"),
        ("dicom/_read.py", "import pydicom\nfrom . import _write"),
        ("cli.py", "from noisebook import chapters, __version__"),
        ("papers/gap.py", "if typing.TYPE_CHECKING:\n    from lightning_fabric import Fabric"),
    ],
)
def test_allowed_imports_pass(tmp_path, file, code):
    """Imports from below, within one module's folder, of the base, and for type checking are no violation."""
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(code)
    assert violations(tmp_path) == []
