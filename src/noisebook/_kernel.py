"""The kernel that runs a notebook: in this very interpreter, through papermill, and talked to through files.

What that needs is the extra ``run``. The library does without it, so that installing it where a notebook runs already,
as in a hosted one, replaces nothing of the kernel that is running.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from noisebook import _paths
from noisebook._checks import error

RUNNER = ("ipykernel", "nbclient", "papermill")
"""What runs a notebook."""
SOCKETS = "noisebook-sockets-"
"""How the folders of the kernels' sockets begin."""


def check() -> None:
    """Raise unless what runs a notebook is installed: it is the extra ``run``, which a hosted notebook does not need.

    Raises:
        ValueError: a part of it is missing; the command that installs it is named.
    """
    if missing := [name for name in RUNNER if find_spec(name) is None]:
        remedy = f"Install: {sys.executable} -m pip install {' '.join(RUNNER)}"
        raise error("noisebook run", "what the extra run installs", f"no {', no '.join(missing)}", remedy)


def execute(
    source: Path,
    partial: Path,
    chosen: dict[str, object],
    out: Path,
    timeout: float | None,
    progress: bool,
    accepted: Callable[[], None],
) -> None:
    """Run ``source`` into ``partial`` by papermill, in this interpreter and in the folder ``out``.

    ``accepted`` is called once the first code cell after the parameters, which validates them, has ended well.
    """
    import logging

    import papermill

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it would log is raised or refused here
    limit = None if timeout is None else max(1, round(timeout))
    opening = False  # whether the code cell before sets parameters

    def executed(cell: Mapping[str, Any], cell_index: int, execute_reply: Mapping[str, Any]) -> None:
        nonlocal opening
        sets = any("parameters" in tag for tag in cell["metadata"].get("tags", []))
        if opening and not sets and execute_reply["content"]["status"] == "ok":
            accepted()
        opening = sets

    with _sockets() as sockets:
        papermill.execute_notebook(
            source,
            partial,
            parameters=chosen,
            kernel_name="python3",
            language="python",
            progress_bar=progress,
            cwd=out,
            execution_timeout=limit,
            iopub_timeout=60,  # a busy machine may take more than the 4 s that a cell's last output is given
            kernel_manager_class=_kernel_of_this_interpreter(sockets),
            on_cell_executed=executed,
        )


@contextmanager
def _sockets() -> Iterator[Path]:
    """A folder for the kernel's sockets, locked while it is in use; those that killed runs left are removed.

    Sockets need a short path, so it lies in the system's temporary folder.
    """
    import fcntl
    import tempfile

    for left in Path(tempfile.gettempdir()).glob(f"{SOCKETS}*/lock"):
        with suppress(OSError), left.open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=SOCKETS) as folder, (Path(folder) / "new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (Path(folder) / "new").rename(Path(folder) / "lock")  # seen by others only once it is held
        yield Path(folder)


def _kernel_of_this_interpreter(sockets: Path) -> type:
    """A kernel manager that starts ``sys.executable``, whatever kernels are registered on this machine.

    It talks through files in the folder ``sockets``, not over the network.
    """
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import Unicode

    # the cache is absolute, as the kernel runs in another folder; the user's own IPython files, if any, stay out
    variables = {"PYTHONHASHSEED": "0", "NOISEBOOK_CACHE": str(_paths.cache()), "IPYTHONDIR": str(sockets)}
    spec = KernelSpec(resource_dir=RESOURCES, **(get_kernel_dict() | {"env": variables}))
    spec.argv = [sys.executable, *spec.argv[1:], "--log-level=CRITICAL"]  # what it would log, the notebook has

    class ThisInterpreter(AsyncKernelManager):
        """Starts the interpreter that runs this program."""

        transport = Unicode("ipc")
        connection_file = Unicode(str(sockets / "kernel.json"))

        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

    return ThisInterpreter
