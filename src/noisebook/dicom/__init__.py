"""DICOM CT series to and from float32 Hounsfield units: the only door to pydicom in this library.

A series is read as ``(Z, Y, X)``, sorted along the slice normal by ImagePositionPatient (never by file name or
instance number), with the spacing in mm. Every fault raises ``ValueError`` naming the file, what was expected, what
was found and the remedy; no warning, message or traceback of the libraries below comes through. Nothing of a header
that identifies a patient leaves this module.

Read are plain, deflated, implicit and big-endian files, RLE, JPEG (lossy ones of 8 bits), JPEG-LS and JPEG 2000, one
image a file or many in enhanced CT. pydicom: D. L. Mason, Med. Phys. 38 (2011), https://doi.org/10.1118/1.3611983;
compressed syntaxes by GDCM.
"""

from ._header import same_spacing
from ._pixels import PADDING_HU
from ._read import Contents, Series, SeriesFiles, read_series, read_slice, read_volume, scan, shipped_example
from ._write import write_series

__all__ = [
    "PADDING_HU",
    "Contents",
    "Series",
    "SeriesFiles",
    "read_series",
    "read_slice",
    "read_volume",
    "same_spacing",
    "scan",
    "shipped_example",
    "write_series",
]
