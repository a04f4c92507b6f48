"""One small book, built once for all tests of this folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import tiny

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "book"))  # where build.py finds its parts


def _load(name: str) -> ModuleType:
    """A script of the book's folder, as a module."""
    spec = importlib.util.spec_from_file_location(f"book_{name}", ROOT / "book" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def build() -> ModuleType:
    """``book/build.py``."""
    return _load("build")


@pytest.fixture(scope="session")
def address() -> ModuleType:
    """``book/address.py``."""
    return _load("address")


@pytest.fixture(scope="session")
def title() -> ModuleType:
    """``book/title.py``."""
    return _load("title")


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a tiny chapter that stands in for every chapter."""
    return tiny.run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def site(build: ModuleType, results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML of the book made of those results, warnings as errors."""
    folder = tmp_path_factory.mktemp("book")
    build.main(["--results", str(results), "--stage", str(folder / "stage"), "--out", str(folder / "out")])
    return folder / "out" / "_build" / "html"
