"""``noisebook weights``: the trained networks, those that ship with the book and those that others published."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from noisebook import _paths
from noisebook._checks import check_one_of
from noisebook._console import list_entries, refusals

app = typer.Typer(
    help="The trained networks: those that ship with the book, and those of others, fetched and verified.",
    no_args_is_help=True,
)

RESTORE = "Restore it: git checkout data/weights, or install the wheel again."
Names = Annotated[list[str] | None, typer.Argument(help="Ids or chapters [default: all].", show_default=False)]


@app.command("list")
def list_() -> None:
    """Show the trained networks: chapter, size, licence, and architecture or citation; and what has been fetched."""
    from noisebook import _registry, archives

    list_entries(lambda entry: "architecture" in entry or entry.get("kind") == "weights")
    others = [name for name, entry in _registry.entries().items() if entry.get("archive") == "zenodo"]
    with refusals():
        there = {name: archives.present(name) for name in others}
    if there:
        typer.echo(f"cache: {archives.folder()}")
        for name, fetched in there.items():
            typer.echo(f"    {name}: {'fetched' if fetched else 'not fetched'}")


@app.command()
def fetch(
    names: Names = None,
    retries: Annotated[int, typer.Option(help="Repetitions of what failed on the way.", min=0)] = 3,
    pause: Annotated[float, typer.Option(help="Seconds before the first repetition; then doubled.", min=0)] = 1.0,
) -> None:
    """Fetch networks that others published into the cache, with zenodo-get, and verify them.

    A checksum that is not known is pinned at the first fetch; other bytes are refused from then on. Proxies are taken
    from the environment, and an access token from ZENODO_ACCESS_TOKEN.

    \b
    noisebook weights fetch regularity
    noisebook weights fetch
    """
    from noisebook import archives

    with refusals():
        for name in _chosen(names, _of_others()):
            show_progress = sys.stderr.isatty()
            path = archives.fetch(name, retries=retries, pause_s=pause, progress=show_progress, tell=_tell)
            typer.echo(path)


@app.command()
def verify(names: Names = None) -> None:
    """Compare networks with the size and checksum that are known of them; those not fetched are left out unless named.

    \b
    noisebook weights verify
    noisebook weights verify regularity
    """
    from noisebook import _registry, archives

    with refusals():
        ours, others = {entry.id: entry for entry in _registry.embedded()}, _of_others()
        chosen = _chosen(names, {name: entry.chapter for name, entry in ours.items()} | others)
    wrong = 0
    for name in chosen:
        try:
            if name in others and not names and not archives.present(name):
                typer.echo(f"{name}: not fetched")
                continue
            if name in others:
                archives.verified(name)
            else:
                archives.check(_paths.DATA / "weights" / ours[name].file, ours[name].size, ours[name].sha256, RESTORE)
            typer.echo(f"{name}: verified")
        except ValueError as problem:
            wrong += 1
            typer.echo(f"{name}: {problem}", err=True)
    if wrong:
        raise SystemExit(1)


@app.command()
def clean(names: Names = None) -> None:
    """Remove fetched networks from the cache; their pinned checksums stay.

    \b
    noisebook weights clean
    noisebook weights clean regularity
    """
    from noisebook import archives

    with refusals():
        chosen = _chosen(names, _of_others())
        for path in archives.clean(chosen):
            typer.echo(f"removed {path}")


@app.command()
def deposit(
    out: Annotated[Path | None, typer.Option(help="Folder [default: build/deposit].", show_default=False)] = None,
) -> None:
    """Write the folder that a maintainer uploads to Zenodo: weights, model cards, licences, checksums (in a clone).

    \b
    noisebook weights deposit
    """
    root = _paths.clone()
    if root is None:
        typer.echo("noisebook: deposit needs a clone of the repository, for its licences and authors", err=True)
        raise SystemExit(2)
    from noisebook import weights

    with refusals():
        for file in weights.deposit(out or root / "build" / "deposit", root):
            typer.echo(file)


def _of_others() -> dict[str, str]:
    """The networks that can be fetched: id and chapter."""
    from noisebook import archives

    return {name: entry.chapter for name, entry in archives.fetchable().items() if entry.kind == "weights"}


def _chosen(names: list[str] | None, chapters: dict[str, str]) -> list[str]:
    """The ids that are meant by ids and chapters, each once, in the order of the registry.

    Args:
        names: Ids or chapters; none means all.
        chapters: Every id with its chapter.
    """
    for name in names or ():
        check_one_of("weights", name, {*chapters, *chapters.values()})
    return [id for id, chapter in chapters.items() if not names or id in names or chapter in names]


def _tell(line: str) -> None:
    typer.echo(f"noisebook: {line}", err=True)
