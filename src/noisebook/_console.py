"""What the commands share: how a refusal is told, and how entries of the registry are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from noisebook._checks import reason


@contextmanager
def refusals() -> Iterator[None]:
    """Turn a refused input, or a disk that refuses, into one line on standard error and exit status 2."""
    try:
        yield
    except ValueError as refused:
        typer.echo(f"noisebook: {refused}", err=True)
        raise SystemExit(2) from None
    except OSError as refused:
        message = f"expected a place that can be read and written, got {reason(refused)}."
        remedy = "Make room, or choose another folder; NOISEBOOK_CACHE names that of the cache."
        typer.echo(f"noisebook: {message} {remedy}", err=True)
        raise SystemExit(2) from None


def list_entries(wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Print the entries of the registry that are ``wanted``."""
    from noisebook import _registry

    for name, entry in _registry.entries().items():
        if wanted(entry):
            size = f"{entry['size'] / 1e6:.2f} MB" if entry.get("size") else "size not stated"
            typer.echo(f"{name}  ({entry['chapter']}, {size}, {entry.get('licence') or 'no licence stated'})")
            if about := entry.get("architecture") or entry.get("citation"):
                typer.echo(f"    {about}")
