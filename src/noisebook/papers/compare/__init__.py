"""Every network under every tool: each on data of its own domain, measured in the same way.

The one paper that imports the others.
"""

from noisebook.papers import Paper

from . import data, measures

PAPER = Paper("compare", None, measures)
__all__ = ["PAPER", "data", "measures"]
