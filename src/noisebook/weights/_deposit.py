"""The deposit: the folder that a maintainer uploads to Zenodo, so that the networks have a DOI of their own."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import yaml

from noisebook import __version__, _paths
from noisebook._checks import error
from noisebook._registry import Embedded, External, embedded

from ._registry import check_registry, model_card

SUMS = "SHA256SUMS"
LICENCES = ("LICENSE", "LICENSE-text.md")
README = """\
# Networks of noisebook {version}

Trained networks of the book noisebook, as safetensors files, one a network. What each is, how it was trained and under
which licence it stands is told in `model-cards.md`; they are not for clinical use. `LICENSE` is that of the code,
`LICENSE-text.md` that of the text. Compare the files with `sha256sum --check SHA256SUMS`.

To make them known to `noisebook weights fetch`: enter the rows of `registry-external.yaml` into the table `external` of
`data/registry.yaml`, with the number and the DOI of the published record.

| file | licence |
|---|---|
{rows}
"""


def deposit(out: str | Path, root: Path, data: Path = _paths.DATA) -> list[Path]:
    """Write the folder that is uploaded to Zenodo. Equal weights and registry give equal bytes.

    Args:
        out: The folder; an earlier deposit there is replaced as a whole.
        root: The clone, for licences and the authors in ``CITATION.cff``.
        data: As for ``embedded``.

    Returns:
        Its files, sorted by name: weights, model cards, licences, ``.zenodo.json``, checksums, and the registry's rows.

    Raises:
        ValueError: The registry does not agree with the files, there is no network, a file of the clone is missing, two
            networks have files of one name, or ``out`` is something else than a deposit.
    """
    out, entries = Path(out), embedded(data)
    if problems := check_registry(data):
        raise error(str(data), "a registry that agrees with its files", "; ".join(problems))
    names = [Path(entry.file).name for entry in entries]
    if not entries or len(set(names)) < len(names):
        raise error(str(data), "networks with files of different names", names or "none")
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]) and not (out / SUMS).is_file():
        raise error(str(out), "an empty folder or an earlier deposit", "something else", "Name another folder.")
    try:
        contents = {name: (root / name).read_bytes() for name in LICENCES}
        authors = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))["authors"]
    except OSError as problem:
        raise error(str(root), "the licences and CITATION.cff of the clone", problem) from None
    contents |= {Path(entry.file).name: (data / "weights" / entry.file).read_bytes() for entry in entries}
    contents |= {name: text.encode() for name, text in _texts(entries, authors, data).items()}
    sums = [f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents)]
    return _write(out, contents | {SUMS: "".join(sums).encode()})


def _texts(entries: list[Embedded], authors: list[dict[str, str]], data: Path) -> dict[str, str]:
    """What is written about the weights, by the name of the file."""
    cards = "\n".join(model_card(entry.id, data) for entry in entries)
    rows = "\n".join(f"| {Path(entry.file).name} | {entry.licence} |" for entry in entries)
    external = [asdict(_external(entry)) for entry in entries]
    about = json.dumps(_metadata(entries, authors), indent=1, sort_keys=True, ensure_ascii=False)
    return {
        "README.md": README.format(version=__version__, rows=rows),
        "model-cards.md": f"# Model cards\n\n{cards}",
        "registry-external.yaml": yaml.safe_dump(external, sort_keys=False, allow_unicode=True, width=110),
        ".zenodo.json": about + "\n",
    }


def _metadata(entries: list[Embedded], authors: list[dict[str, str]]) -> dict[str, object]:
    """What Zenodo asks about a record, in the words of its ``.zenodo.json``."""
    licences = sorted({entry.licence for entry in entries})
    names = [
        author.get("name") or f"{author.get('family-names', '')}, {author.get('given-names', '')}" for author in authors
    ]
    chapters = ", ".join(sorted({entry.chapter for entry in entries}))
    return {
        "title": f"noisebook {__version__}: trained networks for image denoising",
        "upload_type": "dataset",
        "version": __version__,
        "access_right": "open",
        "license": licences[0].lower() if len(licences) == 1 else "other-open",
        "creators": [{"name": name} for name in names],
        "keywords": ["image denoising", "neural network", "weights", "reproducible research"],
        "description": f"<p>{len(entries)} networks trained with noisebook (chapters: {chapters}), as safetensors "
        "files with model cards and checksums. Not for clinical use.</p>",
    }


def _external(entry: Embedded) -> External:
    """The row that makes a deposited file known to ``noisebook weights fetch``, but for the record's number."""
    return External(
        id=f"deposit-{entry.id}",
        kind="weights",
        chapter=entry.chapter,
        archive="zenodo",
        record=None,
        doi=None,
        file=Path(entry.file).name,
        size=entry.size,
        sha256=entry.sha256,
        md5=None,
        licence=entry.licence,
        citation=f"The noisebook developers, networks of noisebook {__version__}",
        preprocessing={},
        embedded=entry.id,
        note="",
    )


def _write(out: Path, contents: dict[str, bytes]) -> list[Path]:
    """Write all files into a folder beside ``out``, then give it its name."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as private:
        work = Path(private) / "deposit"
        work.mkdir()
        for name, content in contents.items():
            (work / name).write_bytes(content)
        if out.exists():
            shutil.rmtree(out)
        work.replace(out)
    return sorted(out / name for name in contents)
