"""Starts zenodo-get in a process of its own that does not outlive its parent.

Run as a script: ``python -P _program.py FOLDER ARGUMENT...``, with standard input an open pipe. When the pipe closes,
because the parent ended, however it ended, the private folder is removed and the program stops. The access token is
taken from the environment, so that it stands in no list of processes.
"""

import os
import runpy
import select
import shutil
import sys
import threading


def end_with_parent(folder: str) -> None:
    """Wait for the end of standard input, then remove the folder and stop at once."""
    while os.read(0, 1):
        pass
    for _ in range(3):  # the other thread may write on while the folder is removed
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main() -> None:
    """Hand the arguments on to zenodo-get."""
    folder = sys.argv.pop(1)
    if token := os.environ.get("ZENODO_ACCESS_TOKEN"):
        sys.argv += ["--access-token", token]
    threading.Thread(target=end_with_parent, args=(folder,), daemon=True).start()
    try:
        runpy.run_module("zenodo_get", run_name="__main__", alter_sys=True)
    finally:
        if select.select([0], [], [], 0)[0]:  # the parent ended in the meantime
            end_with_parent(folder)


if __name__ == "__main__":
    main()
