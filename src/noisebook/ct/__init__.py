"""Two-dimensional CT: scan geometries, projection, filtered back-projection, exact adjoints, and the dose model.

Sources: A. C. Kak, M. Slaney, *Principles of Computerized Tomographic Imaging*, IEEE Press 1988, chapter 3 (parallel
beam: section 3.3; equiangular fan beam: section 3.4.1); J. Xu, F. Noo, "Linearized analysis of noise and
resolution for DL-based image generation", IEEE TMI 2022, doi 10.1109/TMI.2022.3214475 (exposures; appendix II, the
adjoint of fan-beam reconstruction); P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images",
IEEE TMI 1(3), 1982, doi 10.1109/TMI.1982.4307572 (projection of voxel images).

Images are (B, Y, X) with row index along +y and column index along +x; sinograms are (B, V, D) line integrals over
views and channels. Every function keeps dtype and device of what it is given.
"""

from ._dose import PAPER_EXPOSURES, Dose
from ._fbp import back_project, back_project_adjoint, fbp, fbp_adjoint
from ._geometry import MU_WATER_PER_MM, Geometry, Grid, hu_to_mu, mu_to_hu
from ._project import project, project_adjoint

__all__ = [
    "MU_WATER_PER_MM",
    "PAPER_EXPOSURES",
    "Dose",
    "Geometry",
    "Grid",
    "back_project",
    "back_project_adjoint",
    "fbp",
    "fbp_adjoint",
    "hu_to_mu",
    "mu_to_hu",
    "project",
    "project_adjoint",
]
