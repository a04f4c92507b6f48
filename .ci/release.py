"""Whether a tag may become a release; one line for everything that is wrong.

Its name is the version, data/release has every claim that is measured now, and every run names the commit that it was
computed from. Whether results have drifted is asked by `make test-browser`.

    .venv/bin/python .ci/release.py v0.1.0
"""

import re
import sys
from pathlib import Path

from noisebook import __version__, _notebook, chapters, claims
from noisebook._console import refusals

ROOT = Path(__file__).resolve().parents[1]


def problems(tag: str, results: Path, kept: Path) -> list[str]:
    """What is wrong with a release of this tag."""
    found = [] if tag == f"v{__version__}" else [f"the tag is {tag}, the package's version {__version__}"]
    for chapter in chapters.names():
        commit = _notebook.of_book(results, chapter)["provenance"]["commit"]
        if not re.fullmatch("[0-9a-f]{12}", commit):
            found.append(f"{chapter}: its results name no commit, but: {commit}")
        file = kept / f"{chapter}.json"
        released = {claim.id for claim in claims.read(file)} if file.is_file() else set()
        measured = {claim.id for claim in claims.read(results / chapter / "claims.json")}
        found += [f"{chapter}: claim {id} is not in {file.name}" for id in sorted(measured - released)]
    return found


if __name__ == "__main__":
    with refusals():
        wrong = problems(sys.argv[1], ROOT / "build" / "results", ROOT / "data" / "release")
    sys.exit("\n".join(wrong) or None)
