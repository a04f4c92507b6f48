"""Pixels: decoded one frame at a time, in HU, and never larger than the header says.

A CT value is the same in MONOCHROME1 as in MONOCHROME2: they say how to show it, not what it is (PS3.3 C.7.6.3.1.2), so
HU are not inverted.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.utils import as_pixel_options, pixel_array
from pydicom.uid import UID, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from noisebook._checks import check_shape, error

from ._header import Header, Pixels, door, pixels

PADDING_HU = -1024.0
"""What pixels outside the field of view are set to: the lowest value of a 12-bit CT image."""
VOID_HU = -1500.0
"""No reconstruction of matter goes below this; scanners write -2000 or -3024 outside the field of view."""
SECONDS = 30
"""How long the decoder may take for a frame."""
REMEDY = "Fetch or export the file again; it may be damaged, or its syntax have no decoder here."


def images(files: Iterable[Sequence[Header]]) -> Iterator[np.ndarray]:
    """Decode frames of some files: each ``(Y, X)``, the pixels as they are stored, for `to_hu`.

    Args:
        files: For each file the headers of the frames that are wanted.

    Raises:
        ValueError: The pixels are missing, cut short, of another size, or undecodable.
    """
    with ExitStack() as stack:
        decoder = None
        for headers in files:
            with door(headers[0].path, f"decodable pixels ({headers[0].syntax})", REMEDY):
                data = pixels(headers[0])
                found, needed = _length(data, headers[0])
            if found < needed:
                got = f"{found} (the file is cut short)"
                raise error(str(headers[0].path), f"{needed} bytes of pixel data or more", got, REMEDY)
            for header in headers:
                if header.coded and isinstance(data, Dataset):
                    decoder = decoder or stack.enter_context(_decoder())
                    stored = _asked(decoder, data, header)
                else:
                    stored = _plain(data, header)
                check_shape(header.name, stored, header.size)
                yield stored


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


def _asked(process: subprocess.Popen[bytes], ds: Dataset, header: Header) -> np.ndarray:
    """The stored values of a frame from the decoder's process."""
    assert process.stdin is not None  # both are pipes
    assert process.stdout is not None
    with door(header.path, f"decodable pixels ({header.syntax})", REMEDY):
        extended = (ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths) if "ExtendedOffsetTable" in ds else None
        data = get_frame(ds.PixelData, header.frame, extended_offsets=extended, number_of_frames=header.frames)
        found = _stream_size(data, ds.file_meta.TransferSyntaxUID)
        options = as_pixel_options(ds, number_of_frames=1)
        options.pop("extended_offsets", None)
        question = pickle.dumps((str(ds.file_meta.TransferSyntaxUID), encapsulate([data]), options))
    if found not in (None, header.size):
        wanted = "{} x {} compressed pixels".format(*header.size)
        raise error(header.name, wanted, "{} x {}".format(*found), REMEDY)
    timer = threading.Timer(SECONDS, process.kill)
    timer.start()
    try:
        process.stdin.write(len(question).to_bytes(8) + question)
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


def _length(data: Pixels, header: Header) -> tuple[int, int]:
    """How many bytes of pixels a file has, and at least should have."""
    if isinstance(data, bytes) or not data.file_meta.TransferSyntaxUID.is_encapsulated:
        needed = int(header.numbers["BitsAllocated"][0]) // 8 * math.prod(header.size) * header.frames
    else:
        needed = header.frames
    return len(data if isinstance(data, bytes) else data.get("PixelData") or b""), needed


def _plain(data: Pixels, header: Header) -> np.ndarray:
    """The pixels of a frame with all their allocated bits, unsigned: without a code stream, or in RLE."""
    bits, count = int(header.numbers["BitsAllocated"][0]), math.prod(header.size)
    if isinstance(data, bytes):
        return np.frombuffer(data, f"<u{bits // 8}", count, header.frame * count * bits // 8).reshape(header.size)
    with door(header.path, f"decodable pixels ({header.syntax})", REMEDY):
        values: np.ndarray = pixel_array(data, index=header.frame, bits_stored=bits, pixel_representation=0)
        return values


def _stream_size(data: bytes, syntax: UID) -> tuple[int, int] | None:
    """Rows and columns that a code stream states, before memory is taken for them; None if it states none.

    JPEG and JPEG-LS state them in the start of frame, JPEG 2000 in the SIZ marker, which is its second.
    """
    if syntax not in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        x, y, x0, y0 = (int.from_bytes(data[k : k + 4]) for k in (8, 12, 16, 20))
        return (y - y0, x - x0) if data[:4] == b"\xff\x4f\xff\x51" else None
    place = 2 if data[:2] == b"\xff\xd8" else len(data)
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return int.from_bytes(data[place + 5 : place + 7]), int.from_bytes(data[place + 7 : place + 9])
        place += 1 if marker == 0xFF else 2 + length  # any marker may be preceded by fill bytes
    return None


def to_hu(header: Header, stored: np.ndarray, hu: np.ndarray) -> None:
    """Write the HU of a frame from `images` to ``hu``, ``(Y, X)`` float32, padding set to ``PADDING_HU``.

    Only the bits that the header calls stored count, whatever lies beside them.

    Raises:
        ValueError: HU are not finite.
    """
    names = ("RescaleSlope", "RescaleIntercept", "BitsStored", "PixelRepresentation")
    slope, intercept, bits, signed = (header.numbers[name][0] for name in names)
    high = (*header.numbers["HighBit"], bits - 1)[0]
    padding = header.numbers["PixelPaddingValue"] + header.numbers["PixelPaddingRangeLimit"]
    law = (slope, intercept, int(bits), int(high + 1 - bits), bool(signed), padding)
    if stored.dtype.itemsize <= 2:
        table, finite = _table(law)
        np.take(table, stored.astype(np.uint16, copy=False), out=hu, mode="clip")  # the default mode copies
    else:
        hu[:], finite = _values(stored.astype(np.int64), *law), False
    if not (finite or np.isfinite(hu).all()):
        got = f"values that are not, with slope {slope:g} and intercept {intercept:g}"
        raise error(header.name, "finite HU", got, "The header is damaged.")


@lru_cache(maxsize=4)
def _table(law: tuple[Any, ...]) -> tuple[np.ndarray, bool]:
    """The HU of every pixel of 16 bits, and whether all are finite."""
    table = _values(np.arange(2**16), *law)
    return table, bool(np.isfinite(table).all())


def _values(
    pixels: np.ndarray, slope: float, intercept: float, bits: int, low: int, signed: bool, padding: tuple[float, ...]
) -> np.ndarray:
    """The HU of pixels of which ``bits`` from bit ``low`` on are the value (PS3.5 section 8.1.1)."""
    stored = (pixels >> low) & (2**bits - 1)
    if signed:  # two's complement
        stored -= (stored >> (bits - 1)) << bits
    with np.errstate(all="ignore"):  # what overflows is refused by the caller
        hu = stored * slope + intercept
        outside = hu < VOID_HU
        edges = np.array(padding)
        if edges.size:
            if signed:  # a negative value may be written as unsigned
                edges = (edges + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
            outside |= (stored >= edges.min()) & (stored <= edges.max())
        hu[outside] = PADDING_HU
        result: np.ndarray = hu.astype(np.float32)
    return result
