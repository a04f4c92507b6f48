"""Pixels: decoded one frame at a time, in HU, and never larger than the header says.

A CT value is the same in MONOCHROME1 as in MONOCHROME2: they say how to show it, not what it is (PS3.3 C.7.6.3.1.2), so
HU are not inverted.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array

from noisebook._checks import check_shape, error

from ._header import Header, dataset, door

PADDING_HU = -1024.0
"""What pixels outside the field of view are set to: the lowest value of a 12-bit CT image."""
VOID_HU = -1500.0
"""No reconstruction of matter goes below this; scanners write -2000 or -3024 outside the field of view."""
SECONDS = 30
"""How long the decoder may take for a frame."""
REMEDY = "Fetch or export the file again; it may be damaged, or its syntax have no decoder here."


def images(files: Iterable[Sequence[Header]]) -> Iterator[np.ndarray]:
    """Decode frames of some files: each ``(Y, X)`` float32 in HU, padding set to ``PADDING_HU``.

    Args:
        files: For each file the headers of the frames that are wanted.

    Raises:
        ValueError: The pixels are missing, cut short, of another size, undecodable, or not finite in HU.
    """
    with ExitStack() as stack:
        decoder = None
        for headers in files:
            ds = _opened(headers[0])
            for header in headers:
                with door(header.path, f"decodable pixels ({header.syntax})", REMEDY):
                    found = _stream_size(ds, header)
                if found not in (None, header.size):
                    wanted = "{} x {} compressed pixels".format(*header.size)
                    raise error(header.name, wanted, "{} x {}".format(*found), REMEDY)
                if "JPEG" in header.syntax:
                    decoder = decoder or stack.enter_context(_decoder())
                    stored = _asked(decoder, header)
                else:
                    with door(header.path, f"decodable pixels ({header.syntax})", REMEDY):
                        stored = pixel_array(ds, index=header.frame)
                check_shape(header.name, stored, header.size)
                yield _hu(header, stored)


@contextmanager
def _decoder() -> Iterator[subprocess.Popen[bytes]]:
    """The program `_decoder`, started; its end is ours."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("_decoder.py"))]
    # each thread of a numerical library would reserve a part of the little memory that the program allows itself
    alone = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=alone) as process:
        try:
            yield process
        finally:
            process.kill()
            with suppress(OSError):  # what it did not read
                process.stdin.close()  # type: ignore[union-attr]


def _asked(process: subprocess.Popen[bytes], header: Header) -> np.ndarray:
    """The stored values of a frame from the decoder's process."""
    assert process.stdin is not None  # both are pipes
    assert process.stdout is not None
    timer = threading.Timer(SECONDS, process.kill)
    timer.start()
    try:
        process.stdin.write(json.dumps([str(header.path), header.frame]).encode() + b"\n")
        process.stdin.flush()
        answer = process.stdout.read(int.from_bytes(process.stdout.read(8)))
    except OSError:  # it has ended
        answer = b""
    finally:
        timer.cancel()
    if not answer:
        got = f"nothing from the decoder, which failed or took more than {SECONDS} s"
        raise error(header.name, f"decodable pixels ({header.syntax})", got, REMEDY)
    stored: np.ndarray = np.load(io.BytesIO(answer), allow_pickle=False)
    return stored


def _opened(header: Header) -> Dataset:
    """The data set of a file with as many bytes of pixels as its header claims."""
    with door(header.path, f"decodable pixels ({header.syntax})", REMEDY):
        ds = dataset(header.path, pixels=True)
        found = len(ds.PixelData) if "PixelData" in ds else 0
        rows, columns = header.size
        plain = ds.BitsAllocated // 8 * rows * columns * header.frames
        needed = header.frames if ds.file_meta.TransferSyntaxUID.is_compressed else plain
    if found < needed:
        got = f"{found} (the file is cut short)"
        raise error(str(header.path), f"{needed} bytes of pixel data or more", got, REMEDY)
    return ds


def _stream_size(ds: Dataset, header: Header) -> tuple[int, int] | None:
    """Rows and columns that a frame's code stream states, before memory is taken for them; None if it states none.

    JPEG and JPEG-LS state them in the start of frame, JPEG 2000 in the SIZ marker.
    """
    if not ds.file_meta.TransferSyntaxUID.is_encapsulated:
        return None
    extended = (ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths) if "ExtendedOffsetTable" in ds else None
    data = get_frame(ds.PixelData, header.frame, extended_offsets=extended, number_of_frames=header.frames)
    siz = data.find(b"\xff\x4f\xff\x51")
    if siz >= 0:
        x, y, x0, y0 = (int.from_bytes(data[siz + k : siz + k + 4]) for k in (8, 12, 16, 20))
        return y - y0, x - x0
    place = 2 if data[:2] == b"\xff\xd8" else len(data)
    while place + 9 <= len(data):
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return int.from_bytes(data[place + 5 : place + 7]), int.from_bytes(data[place + 7 : place + 9])
        place += 2 + length
    return None


def _hu(header: Header, stored: np.ndarray) -> np.ndarray:
    (slope,), (intercept,) = header.numbers["RescaleSlope"], header.numbers["RescaleIntercept"]
    with np.errstate(all="ignore"):  # what overflows is refused below
        hu = stored * slope + intercept
        outside = hu < VOID_HU
        padding = np.array(header.numbers["PixelPaddingValue"] + header.numbers["PixelPaddingRangeLimit"])
        if padding.size:
            if np.iinfo(stored.dtype).min < 0:  # a negative value that was written as unsigned
                padding = np.where(
                    padding > np.iinfo(stored.dtype).max, padding - 2.0 ** (8 * stored.itemsize), padding
                )
            outside |= (stored >= padding.min()) & (stored <= padding.max())
        hu[outside] = PADDING_HU
        hu = hu.astype(np.float32)
    if not np.isfinite(hu).all():
        got = f"values that are not, with slope {slope:g} and intercept {intercept:g}"
        raise error(header.name, "finite HU", got, "The header is damaged.")
    return hu
