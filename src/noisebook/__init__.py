"""noisebook: five works on image denoising, reproduced, and the tools that measure their networks.

Import the module you need (``from noisebook import ct, jacobian``); this file imports nothing heavy,
so that ``noisebook --help`` answers at once.

Simulated photons would differ between processors: MKL's exponential does in its last bits, one draw in a million is
then rejected where it was not, and all that follow shift. ``MKL_CBWR`` makes MKL compute alike everywhere, unless it is
set already; ``MKL_CBWR=AUTO`` gives large matrix products their speed back.
"""

import os

os.environ.setdefault("MKL_CBWR", "COMPATIBLE")

__version__ = "0.1.0"
