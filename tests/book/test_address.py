"""The repository's address: what is taken for one, and that the notebooks get it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest
import tiny

from noisebook import _notebook

GITHUB, GITLAB = "https://github.com/someone/noise.book", "https://gitlab.com/someone/noisebook"


def _set(root: Path, given: str) -> Path:
    (root / "pyproject.toml").write_text(f'[tool.noisebook]\nrepository = "{given}"\n')
    return root


@pytest.mark.parametrize(
    ("given", "taken"), [("", ""), (GITHUB, GITHUB), (f"{GITHUB}/", GITHUB), (f"{GITLAB}.git", GITLAB)]
)
def test_the_address_is_read_as_the_buttons_need_it(
    address: ModuleType, tmp_path: Path, given: str, taken: str
) -> None:
    """Without a slash or .git at its end, with which no button would lead anywhere; empty is none."""
    assert address.repository(_set(tmp_path, given)) == taken
    (tmp_path / "pyproject.toml").write_text("")
    assert address.repository(tmp_path) == ""


@pytest.mark.parametrize(
    "given",
    ["https://codeberg.org/you/noisebook", "https://github.com/you", f"{GITLAB}/sub", "git@github.com:you/noisebook"],
)
def test_another_address_is_refused(address: ModuleType, tmp_path: Path, given: str) -> None:
    """A host that the theme does not know, no repository, a group in a group, another protocol: told in one line."""
    with pytest.raises(ValueError, match=r"repository: expected https://github\.com/OWNER/NAME.*Mend pyproject\.toml"):
        address.repository(_set(tmp_path, given))


def test_the_address_is_written_into_every_notebook(address: ModuleType, tmp_path: Path) -> None:
    """Only the line of the cell for Colab changes; a second time nothing does, and an empty address is taken back."""
    names = sorted(path.name for path in (tiny.ROOT / "notebooks").glob("*.ipynb"))
    shutil.copytree(tiny.ROOT / "notebooks", tmp_path / "notebooks")
    before = {name: (tmp_path / "notebooks" / name).read_bytes() for name in names}
    address.write(_set(tmp_path, ""))
    empty = {name: (tmp_path / "notebooks" / name).read_bytes() for name in names}
    assert [path.name for path in address.write(_set(tmp_path, GITHUB))] == names
    assert address.write(tmp_path) == []
    for name in names:
        cells = _notebook.read(tmp_path / "notebooks" / name)["cells"]
        assert f'\naddress = "git+{GITHUB}"  # git+' in _notebook.text(next(c for c in cells if c["id"] == "colab"))
    address.write(_set(tmp_path, ""))
    assert {name: (tmp_path / "notebooks" / name).read_bytes() for name in names} == empty
    assert [len(before[name].splitlines()) for name in names] == [len(empty[name].splitlines()) for name in names]
