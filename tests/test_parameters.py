"""Parameters are read from the cell as they stand there, and what does not fit them is refused."""

import re

import pytest

from noisebook import _parameters

CELL = '''"""What may be set."""
a = b = 3  # two at once
seed: int | None = None
rate: float = 1e-4
name = "thorax"
flag = True
sizes: list[int] = [64, 128]
pair: tuple[int, str] = (1, "x")
low = -1.5
anything = None
'''
KNOWN = _parameters.read(CELL)


def test_every_form_of_assignment_is_read():
    """Chained targets, annotations, negative numbers and containers give names, defaults, kinds and comments."""
    assert list(KNOWN) == ["a", "b", "seed", "rate", "name", "flag", "sizes", "pair", "low", "anything"]
    assert KNOWN["b"] == _parameters.Parameter("b", 3, "int", "two at once")
    assert KNOWN["seed"] == _parameters.Parameter("seed", None, "int | None")
    assert (KNOWN["pair"].default, KNOWN["low"].default, KNOWN["rate"].default) == ((1, "x"), -1.5, 1e-4)


@pytest.mark.parametrize("line", ["import os", "a = f(3)", "a = 2 * b", "a, b = 1, 2", "a: int", "for i in []: pass"])
def test_a_cell_of_anything_but_literals_is_refused(line):
    """A computed value, a tuple target, a bare annotation or a statement is refused, and quoted."""
    with pytest.raises(ValueError, match="parameters cell: expected lines like name = literal, got"):
        _parameters.read(line)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("a=4", 4),
        ("seed=none", None),
        ("seed = 12", 12),
        ("rate=1e-5", 1e-5),
        ("rate=2", 2),
        ("name=12", "12"),
        ("name=a=b", "a=b"),
        ("flag=false", False),
        ("sizes=[1]", [1]),
        ("pair=(2, 'y')", (2, "y")),
        ("anything=[1, 'a']", [1, "a"]),
        ("anything=word", "word"),
    ],
)
def test_a_value_is_read_in_the_type_of_its_parameter(assignment, value):
    """Text from the command line becomes the type that the cell asks for, and words stay words."""
    assert _parameters.parse(KNOWN, assignment) == (assignment.partition("=")[0].strip(), value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("sead=3", "expected a parameter of this notebook, got 'sead'. Did you mean 'seed'"),
        ("seed", "-p: expected name=value, got 'seed'"),
        ("seed=1.5", "seed: expected int | None, got 1.5 (float)"),
        ("a=true", "a: expected int, got True (bool)"),
        ("flag=1", "flag: expected bool, got 1 (int)"),
        ("sizes=[1, 'x']", "sizes: expected list[int]"),
        ("pair=(1, 2)", "pair: expected tuple[int, str]"),
        ("pair=(1,)", "pair: expected tuple[int, str]"),
        ("sizes=[x]", "got '[x]' (str). Quote the words in it, and the whole: -p 'sizes=[\"a\", \"b\"]'."),
    ],
)
def test_what_does_not_fit_is_refused(assignment, message):
    """An unknown name is refused with the nearest one, a wrong type with the right one."""
    with pytest.raises(ValueError, match=re.escape(message)):
        _parameters.parse(KNOWN, assignment)


def test_a_number_that_yaml_reads_as_text_is_explained():
    """YAML's reading of 1e-4 as a string is refused with the way to write it."""
    message = "rate: expected float, got '1e-4' (str). YAML reads it as text: write 1.0e-04"
    with pytest.raises(ValueError, match=re.escape(message)):
        _parameters.check(KNOWN, {"rate": "1e-4"}, "x.yaml")
    _parameters.check(KNOWN, {"rate": 1.0e-4, "pair": [1, "x"], "seed": None}, "x.yaml")


def test_an_unknown_annotation_is_refused():
    """An annotation that is no type of literals is an error, not a silent pass."""
    with pytest.raises(ValueError, match="annotation: expected int, float, str"):
        _parameters.fits(3, "numpy.ndarray")
    assert _parameters.fits((1, 2, 3), "tuple[int, ...]")
    assert not _parameters.fits((1, "a"), "tuple[int, ...]")
    assert _parameters.fits(3, "'int | None'")
    assert _parameters.fits({}, "dict[str, int]")
