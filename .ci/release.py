"""Whether a tag may become a release; one line for everything that is wrong.

Its name is the version, data/release.json was frozen from that version and has every claim that is measured now, and
every result names the commit that it was computed from. Whether results have drifted is asked by `make test-browser`.

    .venv/bin/python .ci/release.py v0.1.0
"""

import json
import re
import sys
from pathlib import Path

from noisebook import __version__, chapters, claims, release
from noisebook._console import refusals

ROOT = Path(__file__).resolve().parents[1]


def problems(tag: str, results: Path, frozen: Path) -> list[str]:
    """What is wrong with a release of this tag."""
    found = [] if tag == f"v{__version__}" else [f"the tag is {tag}, the package's version {__version__}"]
    kept, version = release.read(frozen), json.loads(frozen.read_text(encoding="utf-8"))["version"]
    found += [] if version == __version__ else [f"{frozen.name} was frozen from version {version}, not {__version__}"]
    for chapter in chapters.names():
        stamp = json.loads((results / chapter / "results.json").read_text(encoding="utf-8"))["provenance"]
        if not re.fullmatch("[0-9a-f]{12}", stamp["commit"]):
            found.append(f"{chapter}: its results name no commit, but: {stamp['commit']}")
        measured = {claim.id for claim in claims.read(results / chapter / "claims.json")}
        found += [
            f"{chapter}: claim {id} is not in {frozen.name}" for id in sorted(measured - set(kept.get(chapter, ())))
        ]
    return found


if __name__ == "__main__":
    with refusals():
        wrong = problems(sys.argv[1], ROOT / "build" / "results", ROOT / "data" / "release.json")
    sys.exit("\n".join(wrong) or None)
