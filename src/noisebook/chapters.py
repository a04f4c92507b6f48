"""Chapters: which there are, what their parameters are, what they depend on, and how one is run.

A run executes a copy of the notebook with papermill, in the kernel of this very interpreter and in the output folder,
under a temporary name; only a notebook that ended is given its final name and a manifest, ``run.json``, without which
no page of the book is made of it.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from noisebook import _kernel, _parameters, _paths, _registry
from noisebook._checks import check_one_of, error, read_json
from noisebook._notebook import LOG, MANIFEST, described, fingerprint, problems, read, text, tidy

REFUSAL = re.compile(r".+: expected .+, got .+")  # as `_checks.error` writes it


class RunError(RuntimeError):
    """A notebook did not end well; the message names the cell and the reason."""


@dataclass(frozen=True)
class Run:
    """What one run cost and where it lies.

    Attributes:
        notebook: the executed notebook, ``OUT/<chapter>.ipynb``.
        seconds: wall time, kernel start included.
        memory_gb: peak resident memory of the kernel in GB (1e9 bytes); an upper bound where this process ran others.
    """

    notebook: Path
    seconds: float
    memory_gb: float

    def __str__(self) -> str:
        return f"{self.notebook.stem}: {self.seconds:.0f} s, {self.memory_gb:.1f} GB"


def names() -> list[str]:
    """The chapters: every notebook that lies in the notebooks folder."""
    return sorted(path.stem for path in _paths.NOTEBOOKS.glob("*.ipynb"))


def path(chapter: str) -> Path:
    """The notebook of a chapter.

    Raises:
        ValueError: there is no such chapter; the nearest one is named.
    """
    check_one_of("chapter", chapter, names())
    return _paths.NOTEBOOKS / f"{chapter}.ipynb"


def title(chapter: str) -> str:
    """The first heading of a chapter."""
    cells = "\n".join(text(cell) for cell in read(path(chapter))["cells"] if cell["cell_type"] == "markdown")
    heading = re.search(r"^#\s+(.+)$", cells, re.MULTILINE)
    return heading.group(1).strip() if heading else chapter


def parameters(chapter: str) -> dict[str, _parameters.Parameter]:
    """The parameters of a chapter, read from its cell that is tagged ``parameters``."""
    for cell in read(path(chapter))["cells"]:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            return _parameters.read(text(cell))
    return {}


def presets(chapter: str) -> dict[str, Path]:
    """The presets of a chapter: name to YAML file."""
    found = sorted(_paths.PRESETS.glob(f"{chapter}-*.yaml"))
    return {file.stem.removeprefix(f"{chapter}-"): file for file in found}


def values(chapter: str, preset: str, overrides: Iterable[str] = ()) -> dict[str, object]:
    """The parameters that a run sets: those of the preset, then every ``name=value`` of ``overrides``.

    A parameter that ``is_place`` is taken relative to the present folder, and made absolute, because the notebook runs
    in its output folder.

    Raises:
        ValueError: the chapter, the preset or a name is unknown (the nearest is named), a value has a wrong type, or
            ``overrides`` set ``out``, which is for plain papermill.
    """
    import yaml

    known = parameters(chapter)
    check_one_of(f"preset of {chapter}", preset, presets(chapter))
    file = presets(chapter)[preset]
    chosen: dict[str, object] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    _parameters.check(known, chosen, file.name)
    chosen |= (given := dict(_parameters.parse(known, assignment) for assignment in overrides))
    if "out" in given:
        raise error("-p", "a parameter that is no place of the run", "out", "The folder is given by --out FOLDER.")
    for name, value in chosen.items():
        if is_place(name) and isinstance(value, str) and value:
            chosen[name] = str(_paths.absolute(name, value))
    return chosen


def is_place(name: str) -> bool:
    """Whether a parameter of this name is a place on disk: ``data_root``, ``scan_path``, ``work_folder``."""
    return name.endswith(("_root", "_path", "_folder"))


# ------------------------------------------------------------------------------------------------ what a chapter needs


def dependencies(chapter: str, preset: str = "book") -> list[Path]:
    """The files that decide what a run of a chapter gives: notebook, preset, modules, weights and studies.

    Modules are those under ``src/noisebook`` that the notebook imports, and what they import in turn. The registry
    stays out: of it, only the entries of this chapter count.
    """
    files = [path(chapter), *modules(chapter), *(file for work in works(chapter) for file in weight_files(work))]
    files += [presets(chapter)[preset]] if preset in presets(chapter) else []
    files += sorted(file for file in (_paths.DATA / "studies" / chapter).glob("*") if file.is_file())
    return list(dict.fromkeys(files))


def works(chapter: str) -> list[str]:
    """A chapter and every other paper whose code its notebook imports: their weights are its weights."""
    inside = (file.relative_to(_paths.PACKAGE).parts for file in modules(chapter))
    papers = {parts[1].removesuffix(".py") for parts in inside if parts[0] == "papers" and parts[1] != "__init__.py"}
    return [chapter, *sorted(papers - {chapter})]


def weight_files(chapter: str) -> list[Path]:
    """The files under ``data/weights`` that the registry lists for a chapter."""
    listed = [str(entry["file"]) for entry in _registry.of_chapter(chapter).values() if "file" in entry]
    return [_paths.DATA / "weights" / name for name in listed if (_paths.DATA / "weights" / name).is_file()]


def modules(chapter: str) -> list[Path]:
    """The files under ``src/noisebook`` that a chapter's notebook imports, directly or through one another."""
    lines = "\n".join(text(cell) for cell in read(path(chapter))["cells"] if cell["cell_type"] == "code")
    code = re.sub(r"^\s*[%!].*$", "pass", lines, flags=re.MULTILINE)
    return closure(code)


def closure(code: str, package: str = "") -> list[Path]:
    """The files of this package that ``code`` imports, directly or through one another, wherever the import stands.

    Args:
        code: Python source.
        package: the dotted package that relative imports in ``code`` start from.
    """
    found: set[Path] = set()
    waiting = list(_imports(code, package))
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            within = ".".join(["noisebook", *file.relative_to(_paths.PACKAGE).parent.parts])
            waiting += _imports(file.read_text(encoding="utf-8"), within)
    return sorted(found)


@cache
def _imports(code: str, package: str) -> tuple[Path, ...]:
    """The files of this package that one source imports, its packages' ``__init__`` included.

    Kept, since the task graph asks for every chapter several times.
    """
    found: list[Path] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            dotted = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        found += [file for name in dotted for file in _files(name)]
    return tuple(found)


def _files(dotted: str) -> Iterator[Path]:
    """The file of ``noisebook.a.b`` and of every package above it; nothing for what is no module of ours."""
    first, *rest = dotted.split(".")
    if first != "noisebook":
        return
    for depth in range(len(rest) + 1):
        place = _paths.PACKAGE.joinpath(*rest[:depth])
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file


# -------------------------------------------------------------------------------------------------------------- running


def run(
    chapter: str,
    *,
    preset: str = "book",
    overrides: Iterable[str] = (),
    out: Path = Path(),
    cell_timeout: float | None = None,
    progress: bool = False,
) -> Run:
    """Execute a chapter into ``out``: the notebook ``<chapter>.ipynb`` and, in ``<chapter>/``, all that it writes.

    What an earlier run of the chapter left there is removed once the first cell has accepted the parameters. A run that
    fails leaves ``<chapter>.failed.ipynb``; one that is refused, or stops before, leaves the earlier results too.

    Args:
        chapter: its name.
        preset: ``smoke``, ``book`` or ``paper``.
        overrides: ``name=value`` for parameters, stronger than the preset.
        out: the folder to write into; made if missing.
        cell_timeout: seconds that one cell may take; none means no limit.
        progress: show a progress bar of the cells.

    Raises:
        ValueError: see ``values``, ``_kernel.check`` and ``move_earlier``.
        RunError: a cell failed, timed out, did not run, or the kernel died.
    """
    source, chosen, out = path(chapter), values(chapter, preset, overrides), _paths.absolute("--out", out)
    _kernel.check()
    results = out / chapter
    move_earlier(chapter, out)
    results.mkdir(parents=True, exist_ok=True)
    log = results / LOG
    log.write_text("running\n", encoding="utf-8")
    partial, start = out / f"{chapter}.partial.ipynb", time.perf_counter()
    try:
        _kernel.execute(source, partial, chosen, out, cell_timeout, progress, lambda: discard_earlier(chapter, out))
        done = tidy(read(partial), chosen)
        if wrong := problems(done):
            raise RunError(wrong[0])
    except BaseException as failure:
        log.write_text("failed\n", encoding="utf-8")
        if partial.is_file():
            partial.replace(out / f"{chapter}.failed.ipynb")
        restore_earlier(chapter, out)
        if not isinstance(failure, Exception):  # Ctrl-C stays one
            raise
        raise RunError(_explain(chapter, failure, out)) from failure
    seconds = time.perf_counter() - start
    discard_earlier(chapter, out)  # of a notebook without a first cell
    return _finish(Run(out / f"{chapter}.ipynb", seconds, _peak_memory_gb()), done, partial, chosen, preset)


def interrupted(results: Path) -> bool:
    """Whether a folder of results is of a run that did not end; one that plain papermill made is not."""
    return (results / LOG).is_file() and not (results / MANIFEST).is_file()


def move_earlier(chapter: str, out: Path) -> None:
    """Move what an earlier run of a chapter left in ``out`` into a hidden folder; a folder that no run made stays.

    Raises:
        ValueError: a notebook of the chapter's name lies there, the chapter's own one for instance, that no run made.
    """
    restore_earlier(chapter, out)  # of a run that was killed before its first cell ended
    if (mine := out / f"{chapter}.ipynb").is_file() and not (out / chapter / LOG).is_file():
        raise error(str(mine), "no notebook, or an earlier run's", "one that no run made", "Choose another --out.")
    for name in (f"{chapter}.failed.ipynb", f"{chapter}.partial.ipynb"):
        (out / name).unlink(missing_ok=True)
    if (out / chapter / LOG).is_file():
        (old := _earlier(chapter, out)).mkdir()
        for place in (mine, out / chapter):
            if place.exists():
                place.rename(old / place.name)


def restore_earlier(chapter: str, out: Path) -> None:
    """Put back what ``move_earlier`` moved, in place of what lies there now."""
    old = _earlier(chapter, out)
    for place in sorted(old.glob("*")):
        if place.is_dir():
            shutil.rmtree(out / place.name, ignore_errors=True)
        place.replace(out / place.name)
    if old.is_dir():
        old.rmdir()


def discard_earlier(chapter: str, out: Path) -> None:
    """Remove what ``move_earlier`` moved, under another name first: half a folder must not be put back."""
    import tempfile

    if (old := _earlier(chapter, out)).is_dir():
        with tempfile.TemporaryDirectory(dir=out, prefix=f"{old.name}-") as gone:
            old.replace(Path(gone) / "old")


def _earlier(chapter: str, out: Path) -> Path:
    return out / f".{chapter}.old"


def _finish(run: Run, done: dict[str, Any], partial: Path, chosen: dict[str, object], preset: str) -> Run:
    """Give the executed notebook its final name, then write the log and, last of all, the manifest."""
    results = run.notebook.with_suffix("")
    partial.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(run.notebook)
    (results / LOG).write_text(f"seconds: {run.seconds:.1f}\npeak memory: {run.memory_gb:.2f} GB\n", encoding="utf-8")
    stamped = results / "results.json"
    manifest = {
        "notebook": fingerprint(done),
        "parameters": chosen,
        "preset": preset,
        "provenance": read_json(stamped, "results").get("provenance", {}) if stamped.is_file() else {},
    } | described(done)
    _paths.write_whole(results / MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
    return run


def _peak_memory_gb() -> float:
    """The largest resident memory that a child of this process has had, in units of 1e9 bytes."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e9


def _explain(chapter: str, failure: BaseException, out: Path) -> str:
    """Why a run failed, in a form to be read: the cell, its source, the end of the traceback, the partial notebook.

    Where the library refused an input, the refusal alone; its traceback stands in the notebook.
    """
    kept = out / f"{chapter}.failed.ipynb"
    where = f"\nThe notebook so far: {kept}" if kept.is_file() else ""
    if not hasattr(failure, "traceback"):
        reason = " ".join(str(failure).split()) or type(failure).__name__
        return f"{chapter} stopped: {reason[:500]}{where}"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(failure.traceback)).strip().splitlines()
    source = "\n".join(f"    {line}" for line in failure.source.strip().splitlines())  # type: ignore[attr-defined]
    number = failure.cell_index + 1  # type: ignore[attr-defined]
    message = " ".join(str(failure.evalue).split())  # type: ignore[attr-defined]
    if failure.ename == "ValueError" and REFUSAL.match(message):  # type: ignore[attr-defined]
        return f"noisebook: {message}\n{chapter} failed in cell {number}.{where}"
    return f"{chapter} failed in cell {number}:\n{source}\n\n" + "\n".join(plain[-12:]) + where
