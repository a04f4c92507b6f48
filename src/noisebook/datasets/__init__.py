"""Loaders, one a modality: the real archive's layout and the embedded, simulated default go through the same code.

CT: the folders of the TCIA collection LDCT-and-Projection-data and of the AAPM Low Dose CT Grand Challenge. Chest
radiographs: those of Kermany et al. 2018, as its copy on Kaggle has them. Photon counts: TIFF files and NumPy arrays.
"""

from ._counts import COUNT_SUFFIXES, CountKind, CountReport, count_report, read_counts
from ._ct import ARCHIVE, SERIES, TEST_PATIENTS, TOLERANCE_MM, CtPairs, ct_grids, ct_pairs, ct_patients, pair, split
from ._xray import XRAY_CLASSES, XRAY_PARTS, XrayFile, check_xray, is_picture, xray_files, xray_images, xray_split

__all__ = [
    "ARCHIVE",
    "COUNT_SUFFIXES",
    "SERIES",
    "TEST_PATIENTS",
    "TOLERANCE_MM",
    "XRAY_CLASSES",
    "XRAY_PARTS",
    "CountKind",
    "CountReport",
    "CtPairs",
    "XrayFile",
    "check_xray",
    "count_report",
    "ct_grids",
    "ct_pairs",
    "ct_patients",
    "is_picture",
    "pair",
    "read_counts",
    "split",
    "xray_files",
    "xray_images",
    "xray_split",
]
