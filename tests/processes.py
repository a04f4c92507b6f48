"""Processes for the tests: one that hears Ctrl-C, and one on a small disk of its own."""

from __future__ import annotations

import functools
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

# tests that were started in the background ignore SIGINT, and what they start would too
HEARD = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)


def on_a_small_disk(
    folder: Path, options: str, command: Sequence[str], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with a small file system mounted on ``folder``; it prints its status and then the files left."""
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o {options} none {folder}"
    if not shutil.which("unshare") or subprocess.run([*inside, mount], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a small file system in a name space of his own")
    script = f'{mount} && "$@"; echo status $?; find {folder} -type f'
    return subprocess.run([*inside, script, "-", *command], env=env, capture_output=True, text=True, check=False)
