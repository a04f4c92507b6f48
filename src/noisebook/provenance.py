"""Provenance: which code, packages, seed, data and weights a result came from. Two equal runs give two equal stamps.

Neither the clock, a path, the host nor the user stands in a stamp.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import noisebook
from noisebook import _paths
from noisebook._checks import check_device, error

PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "scikit-image",
    "pydicom",
    "python-gdcm",
    "safetensors",
    "matplotlib",
    "papermill",
)
GIT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Stamp:
    """Where a result comes from.

    Attributes:
        commit: Of the clone, or of the one that the wheel was built in, with ``+changes`` if tracked files differed.
        version: Of noisebook.
        python: Version of Python.
        packages: Version of each package that computes or draws.
        seed: Seed of the run.
        device: ``cpu`` or ``cuda``.
        data: Id of the data.
        weights: Id of the weights.
        parameters: Those of the notebook that the fields above do not hold, without ``out``.
    """

    commit: str
    version: str
    python: str
    packages: dict[str, str]
    seed: int
    device: str
    data: str
    weights: str
    parameters: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    def markdown(self) -> str:
        """A table of one row a line, for the top of a notebook."""
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        rows = {
            "code": f"noisebook {self.version}, commit {self.commit}",
            "run by": f"Python {self.python}, {packages}",
            "seed, device": f"{self.seed}, {self.device}",
            "data": self.data,
            "weights": self.weights,
            "parameters": ", ".join(f"{name} = {json.dumps(value)}" for name, value in self.parameters.items()),
        }
        lines = [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows.items()]
        return "\n".join(["| provenance | |", "|---|---|", *lines]) + "\n"


def stamp(seed: int, device: str, data: str, weights: str, parameters: dict[str, Any]) -> Stamp:
    """The stamp of a run.

    Args:
        seed: Seed of the run.
        device: Device that computes, such as ``cpu`` or ``cuda``.
        data: Id of the data, such as the embedded recipe's.
        weights: Id of the weights.
        parameters: The notebook's parameters: numbers, strings, booleans, None and lists of them. ``out`` is left out
            (where results go is no part of what they are), and of an absolute path only the last name is kept.

    Returns:
        The stamp, parameters sorted by name.

    Raises:
        ValueError: A parameter that JSON cannot hold; a device that is no such word, or is not there.
    """
    check_device(device)
    kept = {name: _without_folder(value) for name, value in sorted(parameters.items()) if name != "out"}
    try:
        json.dumps(kept, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise error("parameters", "values that JSON can hold", problem, "Pass the cell's literals.") from None
    packages = {name: _version(name) for name in PACKAGES}
    data, weights = _without_folder(data), _without_folder(weights)
    python = platform.python_version()
    return Stamp(commit(), noisebook.__version__, python, packages, seed, device, data, weights, kept)


def write_results(stamp: Stamp, values: dict[str, Any], path: str | Path) -> None:
    """Write a chapter's numbers and their stamp as JSON; equal results give equal bytes.

    Args:
        stamp: Of the run.
        values: Numbers by name, in lists and dictionaries at will.
        path: The file; its folder must exist.

    Raises:
        ValueError: A value that JSON cannot hold, NaN and infinity among them.
    """
    try:
        text = json.dumps({"provenance": stamp.as_dict(), "values": values}, indent=1, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise error("values", "finite numbers, strings, lists and dictionaries", problem) from None
    _paths.write_whole(Path(path), (text + "\n").encode())


def commit() -> str:
    """The commit of the clone that this package is run from.

    Returns:
        Twelve digits, with ``+changes`` if tracked files differ; for an installed wheel, those that it was built with;
        ``not in a clone`` for an unpacked archive; ``unknown (git failed)`` where git is missing, slow, refuses the
        folder or has no commit.
    """
    root, built = _paths.clone(), _paths.PACKAGE / "commit.txt"
    if root is None and built.is_file():  # hatch_build.py writes it
        return built.read_text(encoding="utf-8").strip()
    if root is None or not (root / ".git").exists():
        return "not in a clone"
    call = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+changes"]
    # A hook or another repository's shell may point git elsewhere; and asking must not write to the index.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            call,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown (git failed)"
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _without_folder(value: Any) -> Any:
    """Of an absolute path (or one from the home folder) the last name; anything else as it is."""
    if isinstance(value, list | tuple):
        return [_without_folder(item) for item in value]
    if isinstance(value, str | Path) and (os.path.isabs(value) or str(value).startswith("~")):
        return f"…/{Path(value).name}"
    return str(value) if isinstance(value, Path) else value
