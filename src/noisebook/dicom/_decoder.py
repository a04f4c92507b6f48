"""Decode JPEG, JPEG-LS and JPEG 2000 in a process of their own: on damaged streams their decoders crash, print or hang.

`noisebook.dicom` runs this file as a program. Standard input holds frames, each pickled with its transfer syntax and
options, standard output the stored values as npy, all after their lengths in 8 bytes. It ends at the first failure.
"""

import io
import os
import pickle
import resource
import sys
from contextlib import suppress

import numpy as np
from pydicom.pixels.decoders.base import get_decoder

MEMORY = 4 * 2**30
"""Bytes of address space."""


def main() -> None:
    """Answer until standard input ends."""
    with suppress(ValueError, OSError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the decoders print is no answer
    while length := int.from_bytes(sys.stdin.buffer.read(8)):
        syntax, data, options = pickle.loads(sys.stdin.buffer.read(length))
        packed = io.BytesIO()
        np.save(packed, get_decoder(syntax).as_array(data, index=0, **options)[0], allow_pickle=False)
        answer.write(len(packed.getvalue()).to_bytes(8) + packed.getvalue())
        answer.flush()


if __name__ == "__main__":
    main()
