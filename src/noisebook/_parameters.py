"""The parameters of a notebook, read from its ``parameters`` cell with ``ast`` and never by running it.

Papermill only logs a parameter that the notebook does not know, and its own reader drops lines such as
``seeds: int | None = None`` or ``a = b = 3``. So names, defaults and types are read here, and refused here.
"""

from __future__ import annotations

import ast
import io
import os
import tempfile
import tokenize
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from noisebook._checks import check_device, check_range, error, nearest, writes

LARGEST_SEED = 2**32 - 1
WORDS = {"true": True, "false": False, "none": None, "null": None}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook.

    Attributes:
        name: its name in the cell.
        default: the literal it is set to there.
        kind: what it may be, as an annotation (``int | None``); from the default where the cell has none.
        comment: the comment on its line.
    """

    name: str
    default: object
    kind: str
    comment: str = ""


def read(source: str) -> dict[str, Parameter]:
    """The parameters that a cell's source sets, in their order.

    Args:
        source: the cell: assignments of literals, annotated or not, one target or several; nothing else.

    Raises:
        ValueError: a line is something else, or its value is no literal.
    """
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    for node in ast.parse(source).body:
        for name, value, annotation in _assignments(node, source):
            default = _literal(value, source)
            kind = ast.unparse(annotation) if annotation is not None else _kind_of(default)
            found[name] = Parameter(name, default, kind, comments.get(node.end_lineno or 0, ""))
    return found


def check(parameters: Mapping[str, Parameter], values: Mapping[str, object], origin: str) -> None:
    """Raise unless every value has a known name and the right type.

    Args:
        parameters: what the notebook knows, from ``read``.
        values: name to value, as a preset file gives them.
        origin: where the values come from, for the message.

    Raises:
        ValueError: an unknown name (the nearest one is named) or a wrong type.
    """
    for name, value in values.items():
        parameter = _known(parameters, name, origin)
        if not fits(value, parameter.kind):
            raise _wrong(parameter, value, f"{origin}: ")


def parse(parameters: Mapping[str, Parameter], assignment: str) -> tuple[str, object]:
    """A ``name=value`` from the command line as name and value, the value in the parameter's own type.

    Args:
        parameters: what the notebook knows, from ``read``.
        assignment: such as ``seed=3``, ``sizes=[64, 128]``, ``scan=none`` or ``name=thorax``.

    Raises:
        ValueError: no ``=``, an unknown name, or a value that is not of the parameter's type.
    """
    name, equals, text = (part.strip() for part in assignment.partition("="))
    if not equals:
        raise error("-p", "name=value", repr(assignment))
    parameter = _known(parameters, name, "-p")
    try:
        value = WORDS[text.lower()] if text.lower() in WORDS else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    for candidate in (value, text):
        if fits(candidate, parameter.kind):
            return name, candidate
    raise _wrong(parameter, value, "-p: ")


def check_opening(checked: Callable[..., object], chapter: str, values: Mapping[str, object]) -> None:
    """What the first cell of every chapter refuses: the device, a seed, a file, a folder or a type that is none.

    Args:
        checked: The paper's own check, whose parameters are those of its notebook, annotated.
        chapter: Its name, which is that of the folder that is written in ``out``.
        values: What ``checked`` was called with.

    Raises:
        ValueError: A value has another type than its annotation; there is no such file or folder; a seed is negative or
            above `LARGEST_SEED`; the device is unknown or not there; or ``out`` cannot be written.
    """
    for name, value in values.items():
        if not fits(value, kind := checked.__annotations__[name]):
            raise _wrong(Parameter(name, None, kind), value)
        if name.endswith("_root") and value and not os.path.isdir(str(value)):
            raise error(name, "a folder", f"{value!r:.200}", "Nothing is there, or it is a file: check the path.")
        if name.endswith("_path") and value and not os.path.isfile(str(value)):
            raise error(name, "a file", f"{value!r:.200}", "Nothing is there, or it is a folder: check the path.")
    check_range("seed", values["seed"], 0, LARGEST_SEED)
    check_device(str(values.get("device", "cpu")))
    folder = Path(str(values["out"]), chapter)
    with writes(folder, "Choose another out."):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def fits(value: object, kind: str) -> bool:
    """Whether ``value`` may stand where the annotation ``kind`` stands; a list may for a tuple: YAML has no tuples.

    Raises:
        ValueError: ``kind`` is not made of int, float, str, bool, None, list, tuple, dict and ``|``.
    """
    return _fits(value, ast.parse(kind, mode="eval").body)


def _fits(value: object, kind: ast.expr) -> bool:
    match kind:
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str() as quoted):
            return fits(value, quoted)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _fits(value, left) or _fits(value, right)
        case ast.Name(id="object"):
            return True
        case ast.Name(id="bool"):
            return isinstance(value, bool)
        case ast.Name(id="int"):
            return isinstance(value, int) and not isinstance(value, bool)
        case ast.Name(id="float"):
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ast.Name(id="str"):
            return isinstance(value, str)
        case ast.Name(id="dict") | ast.Subscript(value=ast.Name(id="dict")):
            return isinstance(value, dict)
        case ast.Name(id="list" | "tuple"):
            return isinstance(value, list | tuple)
        case ast.Subscript(value=ast.Name(id="list" | "tuple"), slice=item):
            return isinstance(value, list | tuple) and _items_fit(list(value), item)
    raise error("annotation", "int, float, str, bool, None, list, tuple, dict, joined by |", ast.unparse(kind))


def _items_fit(values: list[object], item: ast.expr) -> bool:
    """Whether the items of a list fit ``int`` of ``list[int]``, or ``int, str`` of ``tuple[int, str]``."""
    if not isinstance(item, ast.Tuple):
        return all(_fits(value, item) for value in values)
    kinds = item.elts
    if len(kinds) == 2 and isinstance(kinds[1], ast.Constant) and kinds[1].value is ...:
        return all(_fits(value, kinds[0]) for value in values)
    return len(values) == len(kinds) and all(_fits(value, kind) for value, kind in zip(values, kinds, strict=True))


def _assignments(node: ast.stmt, source: str) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    """Name, value and annotation of every assignment that one statement makes."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        yield node.target.id, node.value, node.annotation
        return
    if isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
        for target in node.targets:
            yield ast.unparse(target), node.value, None
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    raise _no_literal(node, source)


def _literal(value: ast.expr, source: str) -> object:
    try:
        return ast.literal_eval(value)
    except ValueError:
        raise _no_literal(value, source) from None


def _no_literal(node: ast.AST, source: str) -> ValueError:
    line = ast.get_source_segment(source, node) or ast.unparse(node)
    return error("parameters cell", "lines like name = literal", repr(line), "Move computed values below the cell.")


def _kind_of(default: object) -> str:
    """The annotation that a default implies; None alone says nothing, so it allows everything."""
    return "object" if default is None else type(default).__name__


def _comments(source: str) -> dict[int, str]:
    """The comment that ends each line, by line number."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def _known(parameters: Mapping[str, Parameter], name: str, origin: str) -> Parameter:
    if name not in parameters:
        raise error(f"{origin}: parameter", "a parameter of this notebook", repr(name), nearest(name, parameters))
    return parameters[name]


def _wrong(parameter: Parameter, value: object, origin: str = "") -> ValueError:
    remedy = ""
    if isinstance(value, str) and "float" in parameter.kind:
        try:
            remedy = f"YAML reads it as text: write {float(value):.1e}."
        except ValueError:
            remedy = ""
    if isinstance(value, str) and value[:1] in ("[", "("):
        remedy = f'Quote the words in it, and the whole: -p \'{parameter.name}=["a", "b"]\'.'
    return error(f"{origin}{parameter.name}", parameter.kind, f"{value!r:.60} ({type(value).__name__})", remedy)
