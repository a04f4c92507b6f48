"""The cache of fetched files: where they lie, how they come in, what is known of them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from noisebook import _paths, _registry
from noisebook._checks import check_one_of, error, writes
from noisebook._registry import External

from . import _zenodo
from ._zenodo import Effort

PRIVATE = ".fetch-"
PINS = "checksums.json"


@dataclass(frozen=True)
class Known:
    """What a file must agree with; None where it is not known."""

    size: int | None
    md5: str | None
    sha256: str | None


def folder() -> Path:
    """Where fetched files lie: a folder of the cache, not created here."""
    return _paths.cache() / "fetched"


def fetchable(data: Path | None = None) -> dict[str, External]:
    """The files of the registry that can be fetched, by id.

    Args:
        data: The folder that holds ``registry.yaml``; none means the package's own.

    Raises:
        ValueError: The registry is not whole.
    """
    return {
        entry.id: entry for entry in _registry.external(data or _paths.DATA) if entry.archive == "zenodo" and entry.file
    }


def place(id: str, data: Path | None = None) -> Path:
    """Where a file lies once it is fetched.

    Args:
        id: In the registry.
        data: As for ``fetchable``.

    Raises:
        ValueError: Unknown id, or an entry whose record or file is no plain number or name.
    """
    return _place(_find(id, data))


def present(id: str, data: Path | None = None) -> bool:
    """Whether a file has been fetched; arguments as for `place`.

    Raises:
        ValueError: As `place` does, or the cache cannot be read.
    """
    with writes(folder(), _paths.CACHE_REMEDY):
        return place(id, data).is_file()


def fetch(
    id: str,
    *,
    retries: int = 3,
    pause_s: float = 1.0,
    progress: bool = False,
    tell: Callable[[str], object] = lambda line: None,
    data: Path | None = None,
) -> Path:
    """Bring a file into the cache, unless it is there and verified.

    An interrupted call leaves the cache as it was. A second process waits for the first. Proxies are taken from the
    environment, and an access token from ``ZENODO_ACCESS_TOKEN``; neither is shown.

    Args:
        id: In the registry.
        retries: Repetitions of what failed on the way.
        pause_s: Before the first repetition, s; doubled each time, and a Retry-After of the server has precedence.
        progress: Show a progress bar.
        tell: Called with what the user should know: a wait, a damaged file replaced, a checksum pinned.
        data: As for ``fetchable``.

    Returns:
        The file in the cache.

    Raises:
        ValueError: Unknown id; the archive does not give the file, or gives other bytes than the registry, the record
            or the pin says; the cache cannot be written.
    """
    entry = _find(id, data)
    if retries < 0 or not pause_s >= 0:
        raise error("retries and pause", "numbers of at least zero", f"{retries} and {pause_s}")
    final = _place(entry)
    with writes(folder(), _paths.CACHE_REMEDY), _only_process(tell):
        if final.is_file() and (known := _known(entry)).sha256:
            if not (wrong := _differences(final, known)):
                return final
            tell(f"{final}: {wrong}; fetched again")
        return _bring(entry, final, Effort(retries, pause_s, progress), tell)


def verified(id: str, data: Path | None = None) -> tuple[Path, str]:
    """The cached file and its sha256, after comparing size and checksum.

    Args:
        id: In the registry.
        data: As for ``fetchable``.

    Raises:
        ValueError: Unknown id; not fetched; no checksum known; or another size or checksum.
    """
    entry = _find(id, data)
    path, remedy = _place(entry), f"Run: noisebook weights fetch {id}"
    with writes(folder(), _paths.CACHE_REMEDY):
        known = _known(entry)
        if path.is_file() and known.sha256 is None:
            raise error(str(path), f"a sha256 in the registry or in {PINS}", "none", remedy)
        check(path, known.size, known.sha256 or "", remedy)
    return path, known.sha256 or ""


def check(path: Path, size: int | None, sha256: str, remedy: str) -> None:
    """Compare a file with what is known of it.

    Args:
        path: The file.
        size: Bytes; None if not known.
        sha256: Of the file.
        remedy: What to do where it differs.

    Raises:
        ValueError: The file is missing, or of another size or sha256.
    """
    if not path.is_file():
        raise error(str(path), "the weights file", "nothing there", remedy)
    if size not in (None, path.stat().st_size):
        raise error(str(path), f"{size} bytes", path.stat().st_size, remedy)
    if (got := _zenodo.digest(path, "sha256")) != sha256:
        raise error(str(path), f"sha256 {sha256}", got, remedy)


def clean(ids: list[str], data: Path | None = None) -> list[Path]:
    """Remove fetched files, and what killed processes left; pinned checksums stay.

    Args:
        ids: In the registry.
        data: As for ``fetchable``.

    Returns:
        The files that were removed.

    Raises:
        ValueError: Unknown id, or the cache cannot be written.
    """
    files = [place(id, data) for id in ids]
    with writes(folder(), _paths.CACHE_REMEDY):
        removed = [file for file in files if file.is_file()]
        if not folder().is_dir():
            return []
        with _only_process(lambda line: None):
            for file in removed:
                file.unlink(missing_ok=True)
                if not any(file.parent.iterdir()):
                    file.parent.rmdir()
    return removed


def _find(id: str, data: Path | None) -> External:
    known = fetchable(data)
    check_one_of("file to fetch", id, known)
    return known[id]


def _place(entry: External) -> Path:
    record, file = entry.record or "", entry.file or ""
    if not record.isdecimal() or not _zenodo.is_name(file):
        raise error(entry.id, "a record that is a number and a file that is a plain name", f"{record!r}, {file!r}")
    return folder() / f"{entry.archive}-{record}" / file


def _bring(entry: External, final: Path, effort: Effort, tell: Callable[[str], object]) -> Path:
    """Fetch into a private folder on the same disk, compare, pin what was unknown, rename."""
    known = _known(entry)
    with tempfile.TemporaryDirectory(dir=folder(), prefix=PRIVATE, ignore_cleanup_errors=True) as private:
        file, md5 = _zenodo.download(entry.record or "", entry.file or "", Path(private), effort, known.size)
        if wrong := _differences(file, known):
            remedy = "The archive or a proxy gives another file than was verified before. Nothing was kept."
            raise error(f"{entry.id}: {entry.file}", "the bytes of the registry or of the first fetch", wrong, remedy)
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
        if entry.sha256 is None and known.sha256 is None:
            _pin(final, Known(file.stat().st_size, md5, _zenodo.digest(file, "sha256")), tell)
        final.parent.mkdir(exist_ok=True)
        return file.replace(final)


def _known(entry: External) -> Known:
    """Size and checksums of the registry, completed by those pinned at the first fetch."""
    pin = _pins().get(_key(_place(entry)), Known(None, None, None))
    if entry.sha256:
        return Known(entry.size, entry.md5, entry.sha256)
    return Known(entry.size or pin.size, entry.md5 or pin.md5, pin.sha256)


def _differences(file: Path, known: Known) -> str:
    """How a file differs from what is known; empty if in nothing."""
    found = file.stat().st_size
    if known.size not in (None, found):
        return f"{found} bytes instead of {known.size}"
    for kind, wanted in (("md5", known.md5), ("sha256", known.sha256)):
        if wanted and (got := _zenodo.digest(file, kind)) != wanted:
            return f"{kind} {got} instead of {wanted}"
    return ""


def _key(final: Path) -> str:
    return final.relative_to(folder()).as_posix()


def _pins() -> dict[str, Known]:
    """What was pinned, by the path of the file in the cache."""
    path = folder() / PINS
    if not path.is_file():
        return {}
    try:
        return {key: Known(**pin) for key, pin in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as problem:
        remedy = "Remove it, and each file is pinned anew when it is fetched again."
        raise error(str(path), "pinned checksums", type(problem).__name__, remedy) from None


def _pin(final: Path, pin: Known, tell: Callable[[str], object]) -> None:
    """Enter a file into the pins."""
    pins = {key: asdict(other) for key, other in (_pins() | {_key(final): pin}).items()}
    _paths.write_whole(folder() / PINS, (json.dumps(pins, indent=1, sort_keys=True) + "\n").encode())
    tell(f"{final.name}: pinned at first use, sha256 {pin.sha256}, {pin.size} bytes, md5 {pin.md5}")


@contextmanager
def _only_process(tell: Callable[[str], object]) -> Iterator[None]:
    """Hold the cache alone; the lock is the system's own and ends with the process, however it ends.

    What processes that were killed left behind is removed first.
    """
    import fcntl

    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another process is fetching; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder().glob(f"{PRIVATE}*"):
            shutil.rmtree(left, ignore_errors=True)
        for unfinished in folder().glob(f".{PINS}.*"):
            unfinished.unlink(missing_ok=True)
        yield
