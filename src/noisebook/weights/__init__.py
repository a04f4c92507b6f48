"""Weights: the registry of every file that a result depends on, and loading that verifies before it opens.

``data/registry.yaml`` holds two tables: ``embedded``, the small networks trained here and kept in ``data/weights``, and
``external``, the files of others. Ours are safetensors files, a format that holds no code; those of others may also be
PyTorch's, which ``read`` opens without running anything in them. Size and sha256 are compared first, on the very bytes
that are then parsed. This module holds no model class.
"""

from noisebook._registry import Embedded, External, Range, embedded, external, metadata

from ._deposit import deposit
from ._files import embed, halved, into, load, register, save
from ._open import Checkpoint, bare, read
from ._ranges import carried, carrying, restored, span, warn_outside
from ._registry import check_registry, model_card

__all__ = [
    "Checkpoint",
    "Embedded",
    "External",
    "Range",
    "bare",
    "carried",
    "carrying",
    "check_registry",
    "deposit",
    "embed",
    "embedded",
    "external",
    "halved",
    "into",
    "load",
    "metadata",
    "model_card",
    "read",
    "register",
    "restored",
    "save",
    "span",
    "warn_outside",
]
