"""Decode JPEG, JPEG-LS and JPEG 2000 in a process of their own: on damaged streams their decoders crash, print or hang.

`noisebook.dicom` runs this file as a program. Each line on standard input is a JSON list of a path and a frame from 0;
the answer on standard output is its length in 8 bytes and the stored values as npy. It ends at the first failure.
"""

import io
import json
import os
import resource
import sys
from contextlib import suppress

import numpy as np
import pydicom
from pydicom.pixels.utils import pixel_array

MEMORY = 4 * 2**30
"""Bytes of address space."""


def main() -> None:
    """Answer until standard input ends."""
    with suppress(ValueError, OSError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the decoders print is no answer
    known, ds = "", pydicom.Dataset()
    for line in sys.stdin:
        path, frame = json.loads(line)
        if path != known:
            known, ds = path, pydicom.dcmread(path)
        packed = io.BytesIO()
        np.save(packed, pixel_array(ds, index=frame), allow_pickle=False)
        answer.write(len(packed.getvalue()).to_bytes(8) + packed.getvalue())
        answer.flush()


if __name__ == "__main__":
    main()
