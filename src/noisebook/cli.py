"""The ``noisebook`` command: thin, and quick to answer. It calls papermill, Snakemake and the library.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from noisebook import _notebook, _paths, _weights_command, chapters
from noisebook._checks import error, writes
from noisebook._console import list_entries, refusals

ABOUT = """A book on image denoising that recomputes itself: every chapter is a notebook, every figure has a command.

\b
First steps:
  noisebook list                                what there is
  noisebook list linearized                     its parameters and presets
  noisebook run linearized --preset smoke       a chapter in seconds, coarse
  noisebook run linearized --out results        a chapter as the book has it
  noisebook book                                the whole book (in a clone)
"""

# rich would take what stands in brackets for markup
app = typer.Typer(
    help=ABOUT, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
data_app = typer.Typer(help="The data: what is here, make the embedded ones, look at yours.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(_weights_command.app, name="weights")

# Typer keeps the lines of a help text as they are after a backspace (\b), so these docstrings are not raw strings.
ChapterName = Annotated[str, typer.Argument(help="A chapter, as `noisebook list` names it.", show_default=False)]


def main() -> None:
    """The entry point of the command; a terminal that lacks a character is given its number instead."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()


@app.command("list")
def list_(chapter: Annotated[str, typer.Argument(help="One chapter, in detail.")] = "") -> None:
    """Show the chapters, or the presets and parameters of one.

    \b
    noisebook list
    noisebook list linearized
    """
    if not chapter:
        for name in chapters.names():
            typer.echo(f"{name:<12} {chapters.title(name)}")
        return
    with refusals():
        known = chapters.parameters(chapter)
    typer.echo(f"{chapter}: {chapters.title(chapter)}\n\npresets: {', '.join(chapters.presets(chapter))}\nparameters:")
    for parameter in known.values():
        line = f"  {parameter.name}: {parameter.kind} = {parameter.default!r}"
        typer.echo(line + (f"    {parameter.comment}" if parameter.comment else ""))


@app.command(context_settings={"allow_extra_args": True})  # they are refused below, in one line
def run(
    context: typer.Context,
    chapter: ChapterName,
    preset: Annotated[
        str, typer.Option(help="smoke (seconds), book (minutes, embedded data) or paper (GPU).")
    ] = "book",
    p: Annotated[list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="Set one parameter; repeat.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write into.", file_okay=False)] = Path(),
    cell_timeout: Annotated[float | None, typer.Option(help="Seconds that one cell may take.", min=1)] = None,
) -> None:
    """Execute a chapter: its notebook, figures, numbers and claims, written into a folder.

    What an earlier run left there is replaced. A run that fails exits with 1 and leaves CHAPTER.failed.ipynb.

    \b
    noisebook run linearized --preset smoke --out try
    noisebook run linearized -p seed=3 -p verify=false --out try
    """
    with refusals():
        if loose := [*(word for word in p or () if "=" not in word), *context.args]:
            raise error("run", "one chapter, and parameters as -p NAME=VALUE", repr(" ".join(loose)))
        try:
            with writes(out, "Choose another --out."):
                show = sys.stderr.isatty()
                done = chapters.run(
                    chapter, preset=preset, overrides=p or (), out=out, cell_timeout=cell_timeout, progress=show
                )
        except chapters.RunError as failed:
            typer.echo(str(failed), err=True)
            raise SystemExit(1) from None
    typer.echo(f"{done}\n{done.notebook}")


@app.command()
def figures() -> None:
    """Make the figures of every chapter, where anything they depend on has changed (in a clone).

    Elsewhere, run the chapter that you want: noisebook run CHAPTER --out results
    """
    folder = _clone("figures", "noisebook run CHAPTER --out results") / "build" / "results"
    _graph("figures")
    for picture in sorted(folder.glob("*/figures/*.png")):
        typer.echo(picture)


@app.command()
def book() -> None:
    """Build the book: data, notebooks, figures, claims, pages; only what has changed (in a clone)."""
    page = _clone("book", "noisebook run CHAPTER --out results") / "build" / "book" / "_build" / "html" / "index.html"
    _graph("book")
    typer.echo(f"The book: {page}")


@app.command()
def train(
    chapter: ChapterName,
    name: Annotated[list[str] | None, typer.Option(help="Only this network; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    folder: Annotated[Path | None, typer.Option(help="For checkpoints [default: build/training/CHAPTER].")] = None,
) -> None:
    """Train the networks that ship with a chapter, and enter them into data/weights and its registry (in a clone).

    An interrupted training goes on from its last checkpoint.

    \b
    noisebook train linearized
    noisebook train linearized --device cuda
    """
    root = _clone("train", "noisebook weights list, for the networks that are here")
    with refusals():
        from noisebook import papers

        networks = papers.find(chapter).networks
        if networks is None:
            typer.echo(f"{chapter} has no networks of its own")
            return
        networks.train_shipped(folder or root / "build" / "training" / chapter, name, device)


@app.command()
def studies(
    chapter: ChapterName,
    name: Annotated[list[str] | None, typer.Option(help="Only this study; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda; recorded with the result.")] = "cpu",
    again: Annotated[bool, typer.Option("--again", help="Also those whose result still counts.")] = False,
) -> None:
    """Run the long studies of a chapter whose committed results are missing or stale (in a clone); hours.

    \b
    noisebook studies linearized
    noisebook studies regularity --name edges
    """
    root = _clone("studies", "the results under data/studies, which are in the package")
    with refusals():
        from noisebook import papers
        from noisebook import studies as library

        paper = papers.find(chapter)
        found = [paper.study(wanted) for wanted in name] if name else list(paper.studies)
    for study in found:
        if not again and not library.stale(study):
            typer.echo(f"{chapter}/{study.name}: still counts")
            continue
        typer.echo(library.make(study, root / "build" / "studies" / chapter / study.name, device))


@app.command()
def claims(
    folder: Annotated[Path | None, typer.Argument(help="Of runs [default: build/results or .].")] = None,
) -> None:
    """Show what every chapter that was run claims, and whether it holds, fails or is undecided.

    \b
    noisebook claims
    noisebook claims try
    """
    clone = _paths.clone()
    place = folder or (clone / "build" / "results" if clone else Path())
    runs = sorted({file.parent for name in ("claims.json", _notebook.LOG) for file in place.glob(f"*/{name}")})
    if not runs:
        where = f"below {place}" if place.name else "in this folder"
        typer.echo(f"noisebook: no claims {where}: run a chapter first, noisebook run CHAPTER --out FOLDER", err=True)
        raise SystemExit(2)
    from noisebook import claims as library

    for ran in runs:
        if chapters.interrupted(ran):
            typer.echo(f"## {ran.name}\n\nIts run did not end: noisebook run {ran.name}\n")
            continue
        with refusals():
            typer.echo(f"## {ran.name}\n\n{library.markdown(library.read(ran / 'claims.json'))}\n")


@data_app.command("list")
def data_list() -> None:
    """Show the data sets of the registry, and what the cache holds."""
    list_entries(lambda entry: "architecture" not in entry and entry.get("kind") != "weights")
    with refusals():
        cache = _paths.cache()
        typer.echo(f"cache: {cache}")
        for folder in sorted(path for path in (cache / "data").glob("*") if path.is_dir() and path.name[0] != "."):
            files = [file for file in folder.rglob("*") if file.is_file()]
            typer.echo(f"    {folder.name}: {len(files)} files, {sum(f.stat().st_size for f in files) / 1e6:.1f} MB")


@data_app.command("make")
def data_make(
    recipe: Annotated[str, typer.Option(help="test (the book's), train (45 patients) or smoke.")] = "test",
    again: Annotated[bool, typer.Option("--again", help="Also if they are there.")] = False,
) -> None:
    """Simulate the embedded CT data into the cache, as DICOM series in the layout of the real archive.

    Chapters do it by themselves when they need it. The folder is printed.
    """
    from noisebook import simulated

    with refusals():
        typer.echo(simulated.embedded_ct(simulated.named(recipe), progress=sys.stderr.isatty(), again=again))


@data_app.command("check")
def data_check(
    path: Annotated[Path, typer.Argument(help="A DICOM file, a folder, chest_xray, or counts: .tif, .npy, .npz.")],
) -> None:
    """Say what a file or folder of your own holds, what is left out and why, and which chapter can use it.

    Every image is decoded; a chapter is named only if its own loader has read what it needs. The status is 1 if
    nothing can be used, and 2 if nothing is there.

    \b
    noisebook data check LDCT-and-Projection-data
    noisebook data check LDCT-and-Projection-data/L248
    noisebook data check counts.tif
    noisebook data check chest_xray
    """
    from noisebook import _findings, validation

    with refusals():
        if not path.exists():
            raise error(str(path), "a file or folder", "nothing there", "Check the path.")
        try:
            found = validation.validate(path, progress=sys.stderr.isatty())
        except ValueError as refused:
            typer.echo(f"noisebook: {refused}", err=True)
            raise SystemExit(1) from None
    for line in _findings.lines(found):
        typer.echo(line)
    if not found.usable:
        raise SystemExit(1)


def _clone(command: str, instead: str) -> Path:
    """The root of the clone; outside of one, say what to do instead and exit with 2."""
    root = _paths.clone()
    if root is None:
        typer.echo(f"noisebook: {command} needs a clone of the repository. Here there is: {instead}", err=True)
        raise SystemExit(2)
    return root


def _graph(target: str) -> None:
    """Bring one target of the Snakefile up to date; exit as Snakemake does.

    One build at a time: the lock is the system's own, which a killed build does not leave behind, so Snakemake's own
    lock is switched off.
    """
    import fcntl
    import subprocess

    root = _clone(target, "noisebook run CHAPTER --out results")
    (root / "build").mkdir(exist_ok=True)
    # Contents decide, not times: checksums are compared up to 1 GB (Snakemake's own limit is 1 MB).
    options = ["--cores", "2", "--rerun-incomplete", "--max-checksum-file-size", "1000000000", "--nolock"]
    command = [sys.executable, "-m", "snakemake", target, *options, "--quiet", "host", "reason", "rules"]
    with (root / "build" / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            typer.echo("noisebook: another build is under way in this clone", err=True)
            raise SystemExit(2) from None
        status = subprocess.run(command, cwd=root, check=False, pass_fds=[lock.fileno()]).returncode
    if status:
        raise SystemExit(status)
