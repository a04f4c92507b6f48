"""DICOM CT series to and from float32 Hounsfield units: the only door to pydicom in this library.

A series is read as ``(Z, Y, X)``, sorted along the slice normal by ImagePositionPatient (never by file name or
instance number), with the spacing in mm. Every fault raises ``ValueError`` naming the file, what was expected, what
was found and the remedy; no warning, message or traceback of the libraries below comes through.

pydicom: D. L. Mason, Med. Phys. 38 (2011), https://doi.org/10.1118/1.3611983; compressed syntaxes by GDCM.
"""

from ._read import PADDING_HU, Series, SeriesFiles, read_series, read_slice, scan, shipped_example
from ._write import write_series

__all__ = [
    "PADDING_HU",
    "Series",
    "SeriesFiles",
    "read_series",
    "read_slice",
    "scan",
    "shipped_example",
    "write_series",
]
