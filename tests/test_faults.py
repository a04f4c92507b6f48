"""Interruptions and full disks: the next call completes, and nothing half-written is taken for whole."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_training
from processes import HEARD, on_a_small_disk
from tiny_notebook import WRITE, install, tiny

from noisebook import _paths, chapters

SLOW = """import os, time
(folder / "kernel").write_text(str(os.getpid()))
time.sleep(rate * 120)"""
RUN = """import pathlib, sys
from noisebook import _paths, chapters
root = pathlib.Path(sys.argv[1])
_paths.NOTEBOOKS, _paths.PRESETS, _paths.DATA = root / "notebooks", root / "notebooks" / "presets", root / "data"
chapters.run("tiny", out=root / "out")"""
TRAIN = """import sys, time, pathlib
sys.path.insert(0, sys.argv[2])
import test_training
step = test_training.Line.step
test_training.Line.step = lambda *arguments: time.sleep(0.02) or step(*arguments)
test_training.train(pathlib.Path(sys.argv[1]), 8)"""
COMMAND = [sys.executable, "-c", "from noisebook.cli import main; main()"]


def interrupt(code: str, *arguments: object, when: Callable[[], bool], sent: signal.Signals) -> int:
    """Run Python code in a process, send it a signal when something has happened, and say how it ended."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, preexec_fn=HEARD, **quiet) as process:
        deadline = time.monotonic() + 60
        while not when() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(sent)
        return process.wait(timeout=60)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """Killed with -9 in the second and fifth epoch, training leaves whole checkpoints, and ends where it would have."""
    for epoch in (2, 5):
        reached = (tmp_path / "killed" / f"checkpoint-{epoch:04d}.pt").is_file
        here = Path(__file__).parent
        assert interrupt(TRAIN, tmp_path / "killed", here, when=reached, sent=signal.SIGKILL) == -signal.SIGKILL
        kept = sorted(path.name for path in (tmp_path / "killed").glob("checkpoint-*.pt"))
        assert f"checkpoint-{epoch:04d}.pt" in kept
        json.loads((tmp_path / "killed" / "log.json").read_text())
    resumed, log = test_training.train(tmp_path / "killed", 8)
    straight, whole = test_training.train(tmp_path / "straight", 8)
    assert test_training.weight(resumed) == test_training.weight(straight)
    assert log == whole
    assert json.loads((tmp_path / "killed" / "log.json").read_text()) == whole


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        os.kill(process, 0)
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_is_no_run_and_the_next_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals
) -> None:
    """Killed or interrupted, a run leaves no notebook and no mark, its kernel ends, and the next run is whole."""
    notebook = install(monkeypatch, tmp_path, tiny(WRITE, SLOW))
    kernel, done = tmp_path / "out" / "tiny" / "kernel", tmp_path / "out" / "tiny.ipynb"
    assert interrupt(RUN, tmp_path, when=lambda: kernel.is_file() and kernel.read_text() != "", sent=sent) != 0
    assert not done.exists()
    assert not (tmp_path / "out" / "tiny" / "run.json").exists()
    deadline = time.monotonic() + 20
    while alive(int(kernel.read_text())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(int(kernel.read_text()))
    notebook.write_text(json.dumps(tiny(WRITE)))
    chapters.run("tiny", out=tmp_path / "out")
    assert (tmp_path / "out" / "tiny" / "run.json").is_file()
    assert not kernel.exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["tiny", "tiny.ipynb"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where writing or renaming fails, the old content stays and no other file is left."""
    path = tmp_path / "a.json"
    _paths.write_whole(path, b"old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("os.fsync", "pathlib.Path.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(name, full)
            with pytest.raises(OSError, match="No space left"):
                _paths.write_whole(path, b"new")
        assert path.read_bytes() == b"old"
        assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    _paths.write_whole(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("arguments", [("data", "make", "--recipe", "smoke"), ("run", "linearized", "--out", "{}")])
def test_a_place_that_is_none_is_refused_in_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A file where the cache or the output folder should be is named, with what to do; status 2, no traceback."""
    (tmp_path / "file").write_bytes(b"")
    command = [*COMMAND, *(part.format(tmp_path / "file" / "out") for part in arguments)]
    variables = os.environ | {"NOISEBOOK_CACHE": str(tmp_path / "file")}
    refused = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("noisebook: ")
    assert refused.stderr.count("\n") == 1
    for part in ("expected a", "written, got [Errno 20]", "file", "hoose another"):
        assert part in refused.stderr


@pytest.mark.parametrize(
    ("options", "reason"), [("size=100k", "No space left on device"), ("ro,size=1m", "Read-only file system")]
)
def test_a_full_and_a_read_only_disk_are_told(tmp_path: Path, options: str, reason: str) -> None:
    """Data that do not fit, or may not be written, end in one line that says so; nothing is left that looks whole."""
    (tmp_path / "cache").mkdir()
    variables = os.environ | {"NOISEBOOK_CACHE": str(tmp_path / "cache")}
    command = [*COMMAND, "data", "make", "--recipe", "smoke"]
    shown = on_a_small_disk(tmp_path / "cache", options, command, variables)
    assert shown.stdout == "status 2\n"
    assert reason in shown.stderr
    assert shown.stderr.count("\n") == 1
