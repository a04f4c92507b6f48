"""One file of a Zenodo record, brought by the program zenodo-get into a private folder, and looked at afterwards.

The program is not trusted with the outcome: it can end well with a wrong, a partial or no file. So the record's list
of files is read first, the program is asked for the one name alone, and what then lies in the folder is compared.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from noisebook._checks import error, nearest

PROGRAM = Path(__file__).with_name("_program.py")
TIME_OUT_S = 30
AGAIN = "Check the connection and run the command again; what is in the cache stays as it was."


@dataclass(frozen=True)
class Effort:
    """How long to try.

    Attributes:
        retries: After a first attempt that failed: of a request (429, 502, 503, 504, no connection), and of a transfer.
        pause_s: Before the first repetition, s; doubled each time. A Retry-After of the server has precedence.
        progress: Show a progress bar.
    """

    retries: int = 3
    pause_s: float = 1.0
    progress: bool = False


def download(record: str, file: str, folder: Path, effort: Effort, size: int | None = None) -> tuple[Path, str]:
    """Bring one file of a record into a folder, and compare it with the md5 that the record states.

    Args:
        record: Number of the record.
        file: Key of the file in the record, a plain name.
        folder: Private, empty, removed by the caller.
        effort: How long to try.
        size: Bytes, if known, for the progress bar.

    Returns:
        The path in the folder, and the md5.

    Raises:
        ValueError: No answer, no such record or file, another key that leads out of a folder, or other bytes than the
            record states.
    """
    name = f"Zenodo record {record}, {file}"
    listed = _files(record, folder / "list", effort)
    if file not in listed:
        raise error(name, "a file of this record", f"{len(listed)} of other names", nearest(file, listed))
    target = folder / "file"
    _run(name, ["--record", record, "--glob", glob.escape(file)], target, effort, target / file, size)
    found = sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))
    if found != [file] or (target / file).is_symlink() or not (target / file).is_file():
        raise error(name, "this one file from zenodo-get", found or "nothing", AGAIN)
    got = digest(target / file, "md5")
    if got != listed[file]:
        raise error(name, f"md5 {listed[file]}, as the record states", got, AGAIN)
    return target / file, got


def digest(path: Path, kind: str) -> str:
    """The checksum of a file, in hexadecimal digits, read piece by piece."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest()


def _files(record: str, folder: Path, effort: Effort) -> dict[str, str]:
    """The md5 of every file of a record by its key, as the program lists them."""
    name = f"Zenodo record {record}"
    _run(name, ["--record", record, "--md5"], folder, effort)
    listing = folder / "md5sums.txt"
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    files: dict[str, str] = {}
    if not lines:
        raise error(name, "at least one file", "an empty record", "Look at it on zenodo.org: it may be restricted.")
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{32})  (.+)", line)
        key = match[2] if match else ""
        if not match or not is_name(key) or key in files:
            raise error(name, "an md5 and a plain name for each file, each once", repr(line), "Nothing was fetched.")
        files[key] = match[1]
    return files


def is_name(key: str) -> bool:
    """Whether a key names a file in the very folder that it is put into."""
    return PurePosixPath(key).name == key and key not in ("", ".", "..") and "\\" not in key and key.isprintable()


def _run(
    name: str, arguments: list[str], folder: Path, effort: Effort, watched: Path | None = None, size: int | None = None
) -> None:
    """Run zenodo-get into ``folder`` to its end; it ends with this process, and never sees this terminal's Ctrl-C."""
    command = [sys.executable, "-P", str(PROGRAM), str(folder.parent), *arguments, "--output-dir", str(folder)]
    command += ["--max-http-retries", str(effort.retries), "--backoff-factor", str(effort.pause_s)]
    command += ["--retry", str(effort.retries), "--pause", str(effort.pause_s), "--time-out", str(TIME_OUT_S)]
    alive, held = os.pipe()
    try:
        with subprocess.Popen(
            [*command, "--verbosity", "1"],
            stdin=alive,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                said = _wait(process, watched if effort.progress else None, size)
            except BaseException:
                process.kill()
                raise
    finally:
        os.close(alive)
        os.close(held)
    if process.returncode:
        got = _reason(said.decode(errors="replace")) or f"exit status {process.returncode}"
        raise error(name, "an answer that zenodo-get can use", got, AGAIN)


def _wait(process: subprocess.Popen[bytes], watched: Path | None, size: int | None) -> bytes:
    """What the program says until its end; meanwhile the growing file is shown."""
    from tqdm import tqdm

    name = watched.name if watched else ""
    with tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=watched is None, leave=False) as bar:
        while True:
            try:
                return process.communicate(timeout=0.2)[0]
            except subprocess.TimeoutExpired:
                if watched and watched.is_file():
                    bar.update(watched.stat().st_size - bar.n)


def _reason(said: str) -> str:
    """The errors in what the program said: without colours and without the access token."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    if token := os.environ.get("ZENODO_ACCESS_TOKEN"):
        plain = plain.replace(token, "<token>")
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")] or lines[-1:]
    reason = "; ".join(list(dict.fromkeys(errors))[:2])[:500].rstrip(".")
    return reason.replace("Expecting value", "no JSON (a page of HTML?): Expecting value")
