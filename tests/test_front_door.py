"""The front door on another machine: a clone whose path has a space and an umlaut, an old Python, an index or none."""

import http.server
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = "my nöise book"


def write_program(path: Path, text: str) -> Path:
    """A shell script that can be called."""
    path.write_text(f"#!/bin/sh\nset -e\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_make_needs_nothing_but_a_python(tmp_path):
    """`make help` lists every public target, and a Python that is too old is refused in words."""
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert targets
    assert {line.split()[0] for line in listed.splitlines() if not line.startswith("make")} == set(targets[1].split())
    refused = install(tmp_path, "exit 1")
    assert refused.returncode != 0
    assert "noisebook needs Python 3.11 to 3.13" in refused.stdout


def install(folder: Path, python: str, *variables: str) -> subprocess.CompletedProcess[str]:
    """`make .venv/.installed` in a bare copy of the front door, where ``python`` is a shell script's text."""
    clone = folder / FOLDER
    clone.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, clone)
    write_program(folder / "python", python)
    command = ["make", ".venv/.installed", "PYTHON=../python", *variables]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False, timeout=30)


# Makes a .venv whose pip only notes what it is asked for; everything else is Python's own work.
PYTHON = f"""case "$1" in
  -m) mkdir -p .venv/bin; printf '#!/bin/sh\\necho "$@" > asked' > .venv/bin/python; chmod +x .venv/bin/python;;
  *) exec "{sys.executable}" "$@";;
esac"""


@contextmanager
def index(answer: str):
    """The address of an index of packages that answers, has no torch, refuses to be called, or hangs."""
    done = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            if answer == "hangs":
                done.wait(60)
            else:
                self.send_response(200 if answer == "answers" and self.path == "/cpu/torch/" else 404)
                self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{9 if answer == 'refuses' else server.server_address[1]}/cpu"
        done.set()
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "gpu", "cpu"),
    [
        ("answers", "", True),
        ("answers", "0", True),
        ("answers", "1", False),
        ("misses", "", False),
        ("refuses", "", False),
        ("hangs", "", False),
    ],
)
def test_torch_comes_without_cuda_where_its_index_answers(tmp_path, answer, gpu, cpu):
    """On Linux pip is given the index of CPU builds if that answers at once and has torch, unless GPU=1 is given."""
    with index(answer) as address:
        made = install(tmp_path, PYTHON, f"TORCH_CPU={address}", f"GPU={gpu}")
    assert (made.returncode, made.stderr) == (0, "")
    asked = (tmp_path / FOLDER / "asked").read_text()
    chosen = f"--extra-index-url {address} " if cpu and platform.system() == "Linux" else ""
    assert asked == f"-m pip install --quiet {chosen}-c constraints.txt -e .[book,dev]\n"


# What the two commands of the rules leave behind.
NOISEBOOK = """case "$1" in
  data) mkdir -p "$NOISEBOOK_CACHE/ct"; echo 1 > "$NOISEBOOK_CACHE/ct/a b.dcm"; echo "$NOISEBOOK_CACHE/ct";;
  run) mkdir -p "$4/$2"; touch "$4/$2.ipynb" "$4/$2/run.json" "$4/$2/run.log" "$4/$2/claims.json";;
esac"""
BUILD = """[ "$1" = book/build.py ]; mkdir -p "$7/_build/html"; touch "$7/_build/html/index.html\""""


def test_every_rule_runs_in_a_folder_with_a_space(tmp_path):
    """The task graph passes no path of the clone, its interpreter's included, through a shell unquoted."""
    clone = tmp_path / FOLDER
    left = shutil.ignore_patterns("__pycache__", "build", ".*", "tests")
    shutil.copytree(ROOT, clone, symlinks=True, ignore=left)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=clone, check=True)
    site = next(clone.glob(".venv/lib/python*/site-packages"))
    (site / "here.pth").write_text(sysconfig.get_path("purelib"))
    (clone / ".venv/bin/python").unlink()
    write_program(clone / ".venv/bin/python", BUILD)
    write_program(clone / ".venv/bin/noisebook", NOISEBOOK)
    command = [clone / ".venv/bin/python3", "-m", "snakemake", "--cores", "1", "book", "weights", "studies"]
    variables = os.environ | {"PYTHONPATH": "src"}
    done = subprocess.run(command, cwd=clone, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (clone / "build/data.cksum").read_text().endswith(" 2 ./a b.dcm\n")
    assert (clone / "build/book/_build/html/index.html").is_file()
