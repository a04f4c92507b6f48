"""noisebook: five works on image denoising, reproduced, and the tools that measure their networks.

Import the module you need (``from noisebook import ct, jacobian``); this file imports nothing heavy,
so that ``noisebook --help`` answers at once.
"""

__version__ = "0.1.0"
