"""Every parameter of every chapter is checked in the first cell after the parameters, before any work."""

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_dicom import edited
from test_validation import archive, radiographs

from noisebook import _notebook, _parameters, _paths, chapters, datasets

CHAPTERS = sorted(path.stem for path in _paths.NOTEBOOKS.glob("*.ipynb"))
WRONG: dict[str, tuple[object, ...]] = {
    "str": (None, 3, True, ["a"]),
    "bool": (None, 1, "yes"),
    "int": (None, -1, 1.5, "2", True, [1], 2**70),
    "list[int]": (None, 5, [], [1.5], ["a"], [-1], [-1, 0, 0], [2**70]),
    "list[str]": (None, "xray-ae", [3], ["nope"]),
}
ANY = {"prefix", "out"}  # every text may begin a patient's id or name a folder; those that cannot are below
NO_LIMIT = {"shown", "samples", "realisations", "probes"}


def first_cells(chapter: str) -> tuple[str, str]:
    """The cell of parameters and the one after it."""
    code = [one for one in _notebook.read(chapters.path(chapter))["cells"] if one["cell_type"] == "code"]
    return _notebook.text(code[1]), _notebook.text(code[2])


def open_with(chapter: str, **changes: object) -> dict[str, Any]:
    """Run the first two cells of a chapter, with parameters injected in between as papermill does."""
    given, opening = first_cells(chapter)
    names: dict[str, Any] = {}
    exec(given, names)
    names |= changes
    exec(opening, names)
    return names


def wrong_values(chapter: str, name: str) -> list[object]:
    """What a parameter cannot be."""
    kind = chapters.parameters(chapter)[name].kind
    words = ("nope", "/nope") if kind == "str" and name not in ANY else ()
    return [value for value in (*WRONG[kind], *words) if not (name in NO_LIMIT and value == 2**70)]


def refused(chapter: str, **changes: object) -> str:
    """The one line with which the first cell of a chapter refuses parameters."""
    with pytest.raises(ValueError, match=r"^[^\n]+: expected .+, got [^\n]+$") as caught:
        open_with(chapter, **changes)
    return str(caught.value)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_first_cell_checks_every_parameter(chapter: str) -> None:
    """Right after the imports, all parameters are handed on in their order, and to the types that the cell has."""
    given, opening = first_cells(chapter)
    kinds = {name: parameter.kind for name, parameter in _parameters.read(given).items()}
    body = [node for node in ast.parse(opening).body if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert isinstance(body[0], ast.Assign)
    call = body[0].value
    assert isinstance(call, ast.Call)
    assert [ast.unparse(argument) for argument in call.args] == list(kinds)
    names: dict[str, Any] = {}
    exec("\n".join(line for line in opening.splitlines() if re.match("from|import", line)), names)
    annotations = eval(ast.unparse(call.func), names).__annotations__
    assert annotations == kinds | {"return": "tuple[str, str]"}


@pytest.mark.parametrize("chapter", CHAPTERS)
@pytest.mark.parametrize("preset", ["book", "smoke"])
def test_presets_are_let_in(chapter: str, preset: str, tmp_path: Path) -> None:
    """What the presets set that need no data of others is refused nowhere."""
    assert open_with(chapter, out=str(tmp_path), **chapters.values(chapter, preset))["stamp"].seed == 0


EVERY = [(chapter, name) for chapter in CHAPTERS for name in chapters.parameters(chapter)]


@pytest.mark.parametrize(("chapter", "name"), EVERY)
def test_a_wrong_value_is_refused_in_the_first_cell(chapter: str, name: str, tmp_path: Path) -> None:
    """A type, a number, a word or a path that is none ends in one line that names the parameter, before any work."""
    for value in wrong_values(chapter, name):
        line = refused(chapter, **{"out": str(tmp_path), name: value})
        assert line.startswith((f"{name}: ", f"{name} "))
        assert len(line) < 400


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_an_out_that_cannot_be_written_is_refused_in_the_first_cell(chapter: str, tmp_path: Path) -> None:
    """A file in place of the folder of results is named, with the remedy."""
    (tmp_path / "file").write_text("")
    expected = rf"file/{chapter}: expected a folder that can be written, got .*\. Choose another out\.$"
    assert re.search(expected, refused(chapter, out=str(tmp_path / "file")))


COMBINED: list[tuple[str, dict[str, object], str]] = [
    ("linearized", {"recipe": "smoke"}, r"probe: expected slice, row and column within \(1, 128, 128\), got \[1, 245"),
    ("linearized", {"probe": [1, 31, 100]}, "probe: expected a pixel 32 pixels inside"),
    ("linearized", {"net": "train"}, r"net=train: expected patients beside the 5 that test, got 5 in all\."),
    ("linearized", {"net": "train", "data_root": "ct", "label": "full", "probe": [1, 64, 64]}, "got 2 in all"),
    ("linearized", {"prefix": "L"}, r"prefix: expected none, for simulated patients, got 'L'\. Set data_root too"),
    ("linearized", {"data_root": "ct", "prefix": "X"}, r"expected a folder a patient named X…, got none"),
    ("linearized", {"data_root": "ct"}, "expected one series of noise free images, got 0"),
    ("linearized", {"data_root": "ct", "label": "full"}, r"within \(2, 130, 130\), got \[1, 245, 348\]"),
    ("cyclegan", {"prefix": "L"}, "prefix: expected none, for simulated patients, got 'L'"),
    ("cyclegan", {"recipe": "train"}, "recipe: expected one of smoke, test, got 'train'"),
    ("cyclegan", {"data_root": "empty"}, "expected a folder a patient, got none"),
    ("cyclegan", {"data_root": "mu"}, "expected linear attenuation in 1/mm, got 0.999 in dense pixels. Was it scaled"),
    (
        "cyclegan",
        {"nets": "train", "data_root": "ct"},
        "nets=train: expected at least 11 patients, of which the last ten",
    ),
    ("cyclegan", {"checkpoint_path": "text.ckpt"}, "text.ckpt: expected"),
    ("gap", {"counts_path": "two.npz"}, r"two\.npz: expected one array, got 2: a, b\."),
    ("gap", {"counts_path": "text.tif"}, "text.tif: expected"),
    ("gap", {"counts_path": "scaled.npy"}, "scaled.npy: expected photon counts, got"),
    ("gap", {"checkpoint_path": "text.ckpt"}, "text.ckpt: expected"),
    ("gap", {"seed": 1000}, "seed: expected a whole number from 0 to 999, got 1000"),
    ("regularity", {"circles_path": "text.ckpt"}, "line 1: expected 20 numbers a line"),
    ("regularity", {"samples": [3]}, r"cut_rows: expected one for each of the 1 samples, got 2\. Set both parameters"),
    ("regularity", {"samples": [3, 2000]}, "samples: expected numbers from 0 to 1999"),
    ("regularity", {"nets": "published"}, "nets=published: expected the authors' networks in the cache, got none"),
    ("xray", {"data_root": "empty"}, "expected radiographs in"),
    ("xray", {"data_root": "xray"}, r"by=folder: expected images in every part, got none in test"),
    ("xray", {"recipe": "train"}, "recipe: expected one of smoke, test, got 'train'"),
    ("compare", {"seed": 333}, "seed: expected a whole number from 0 to 332, got 333"),
]


HEADERS = {
    "linearized": ("L001", "PixelSpacing", [0.7, 0.8], "expected square, of square pixels, got 130 x 130"),
    "cyclegan": ("L001", "RescaleSlope", 0, "expected RescaleSlope other than zero, got 0"),
}


@pytest.mark.parametrize("chapter", HEADERS)
@pytest.mark.parametrize("dose", ["Full", "Low"])
def test_every_patient_is_looked_at_in_the_first_cell(chapter: str, dose: str, tmp_path: Path) -> None:
    """A header of the first of three patients that no reader takes is refused: the last one alone is not enough."""
    patient, keyword, value, message = HEADERS[chapter]
    archive(tmp_path, ("L001", "L002", "L003"), side=130)
    good = {"data_root": str(tmp_path), "out": str(tmp_path)}
    good |= {"label": "full", "probe": [1, 64, 64]} if chapter == "linearized" else {}
    open_with(chapter, **good)
    for path in (tmp_path / datasets.ARCHIVE / patient).rglob("*.dcm"):
        if chapter == "linearized" or (path == max(path.parent.iterdir()) and dose in str(path)):
            edited(path, **{keyword: value})
    assert message in refused(chapter, **good)


def test_every_file_of_mu_and_every_radiograph_is_looked_at_in_the_first_cell(tmp_path: Path) -> None:
    """The last of three arrays that has another size or kind, and a text among the radiographs, are named."""
    for dose in ("full_dose", "quarter_dose"):
        (tmp_path / "mu" / "test" / dose).mkdir(parents=True)
        for number in range(3):
            mu = np.random.default_rng(number).normal(0.02, 0.001, (128, 128))
            np.save(tmp_path / "mu" / "test" / dose / f"{number}.npy", mu)
    open_with("cyclegan", out=str(tmp_path), data_root=str(tmp_path / "mu"))
    for array, message in ((np.zeros((160, 160)), "128 x 128, 160 x 160"), (np.zeros((128, 128), int), "got int64")):
        np.save(tmp_path / "mu" / "test" / "full_dose" / "2.npy", array)
        assert message in refused("cyclegan", out=str(tmp_path), data_root=str(tmp_path / "mu"))
    radiographs(tmp_path / "x", {"train": 3, "val": 1, "test": 2})
    open_with("xray", out=str(tmp_path), data_root=str(tmp_path / "x"))
    (tmp_path / "x" / "chest_xray" / "test" / "NORMAL" / "IM-0900-0001.jpeg").write_text("no picture")
    assert "IM-0900-0001.jpeg: expected a grey" in refused("xray", out=str(tmp_path), data_root=str(tmp_path / "x"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of others, most of them of no use to any chapter."""
    root = tmp_path_factory.mktemp("files")
    archive(root / "ct", side=130)
    radiographs(root / "xray", {"train": 3, "val": 1})
    (root / "empty").mkdir()
    for dose in ("full_dose", "quarter_dose"):
        (root / "mu" / "test" / dose).mkdir(parents=True)
        np.save(root / "mu" / "test" / dose / "1.npy", np.linspace(0, 1, 128**2).reshape(128, 128))
    for name in ("text.ckpt", "text.tif"):
        (root / name).write_text("nothing of use")
    np.savez(root / "two.npz", a=np.ones((4, 4)), b=np.ones((4, 4)))
    np.save(root / "scaled.npy", np.linspace(0, 1, 100).reshape(10, 10))
    return root


@pytest.mark.parametrize(("chapter", "changes", "message"), COMBINED)
def test_what_does_not_go_together_is_refused_in_the_first_cell(
    chapter: str, changes: dict[str, object], message: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that a chapter cannot use, and parameters that do not go together, end in one line of the first cell."""
    monkeypatch.setenv("NOISEBOOK_CACHE", str(tmp_path))
    places = {name: str(files / str(value)) for name, value in changes.items() if chapters.is_place(name)}
    assert re.search(message, refused(chapter, out=str(tmp_path), **{**changes, **places}))
