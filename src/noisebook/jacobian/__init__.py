"""The Jacobian of any network at an image, as a linear operator: products, responses, covariances, noise maps.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE TMI 2022, doi
10.1109/TMI.2022.3214475. Near an image x, f(x + v) = f(x) + J v: small signals pass through J, and noise of covariance
S comes out with covariance J S J'. J is never formed: a column costs one forward-mode pass, a row one reverse-mode one.
"""

from ._covariance import Covariance, Map, coloured, diagonal, white
from ._noise_map import NoiseMap, noise_map
from ._operator import Jacobian, Transpose

__all__ = [
    "Covariance",
    "Jacobian",
    "Map",
    "NoiseMap",
    "Transpose",
    "coloured",
    "diagonal",
    "noise_map",
    "white",
]
