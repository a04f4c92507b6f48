# The one task graph: data -> weights -> executed notebooks -> figures, claims -> book.
#
#   noisebook book                      what `make book` calls: this file, with contents deciding instead of times
#   snakemake --cores 2 --dry-run book  what would be done, and why
#
# A chapter depends on its notebook, its preset, the modules that it imports (found with ast, through one another), its
# entries in the registry with their weights, its committed studies, and the data. Pages of the book do not touch it.

import os
import sys
from pathlib import Path

from noisebook import _paths, _registry, chapters

os.environ["NOISEBOOK_CACHE"] = str(Path("build/cache").resolve())
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

CHAPTERS = chapters.names()
RESULTS = "build/results"
PAGE = "build/book/_build/html/index.html"


def here(files):
    """Paths relative to the clone, seen past the links in src/noisebook; sorted, so that order changes nothing."""
    return sorted({str(Path(file).resolve().relative_to(Path.cwd())) for file in files})


def pages(wildcards=None):
    """What the book is made of besides the results: pages, pictures, settings, tables, and the docstrings."""
    found = [file for file in Path("book").rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    settings = [file for file in map(Path, ("_config.yml", "_toc.yml", "pyproject.toml")) if file.is_file()]
    tables = [file for file in (_paths.DATA / "registry.yaml",) if file.is_file()]
    return here([*found, *settings, *tables, *_paths.PACKAGE.rglob("*.py")])


PAPERS = sorted(file.parent.name for file in (_paths.PACKAGE / "papers").glob("*/__init__.py"))


wildcard_constraints:
    chapter="[a-z]+",


localrules: all, figures, weights, studies


rule all:
    input: PAGE


rule book:
    input:
        page=PAGE


rule figures:
    input: expand(f"{RESULTS}/{{chapter}}/run.json", chapter=CHAPTERS)


rule weights:
    input: expand("build/weights/{chapter}.done", chapter=PAPERS)


rule studies:
    input: expand("build/studies/{chapter}.done", chapter=PAPERS)


# The list of the embedded data with their checksums: chapters follow what the data are, not when they were made. No
# `run:`, whose Python Snakemake calls through a shell without quotes: a clone's path may have spaces.
rule data:
    input: here(chapters.closure("import noisebook.simulated"))
    output: "build/data.cksum"
    shell: 'folder=$(noisebook data make --again) && (cd "$folder" && find . -type f -exec cksum {{}} +) | sort > {output}'


rule chapter:
    input:
        lambda wildcards: here(chapters.dependencies(wildcards.chapter)),
        data=rules.data.output[0],
    output:
        f"{RESULTS}/{{chapter}}.ipynb",
        f"{RESULTS}/{{chapter}}/run.json",
        f"{RESULTS}/{{chapter}}/run.log",
        f"{RESULTS}/{{chapter}}/claims.json",
    params:
        registry=lambda wildcards: [_registry.of_chapter(work) for work in chapters.works(wildcards.chapter)],
    threads: 2
    shell: f"echo 'Computing the chapter {{wildcards.chapter}}' && noisebook run {{wildcards.chapter}} --out {RESULTS}"


rule html:
    input:
        rules.figures.input,
        pages,
        notebooks=expand(f"{RESULTS}/{{chapter}}.ipynb", chapter=CHAPTERS),
        claims=expand(f"{RESULTS}/{{chapter}}/claims.json", chapter=CHAPTERS),
        costs=expand(f"{RESULTS}/{{chapter}}/run.log", chapter=CHAPTERS),
    output: PAGE
    threads: 2
    shell: f"python book/build.py --results {RESULTS} --stage build/stage --out build/book"


rule train:
    input: lambda wildcards: here(chapters.closure(f"import noisebook.papers.{wildcards.chapter}"))
    output: "build/weights/{chapter}.done"
    threads: 2
    shell: "noisebook train {wildcards.chapter} && touch {output}"


# The command runs only what is stale, and goes on from its checkpoints; so this rule may always be asked.
rule study:
    input:
        lambda wildcards: here(chapters.closure(f"import noisebook.papers.{wildcards.chapter}")),
        lambda wildcards: here(chapters.weight_files(wildcards.chapter)),
    output: "build/studies/{chapter}.done"
    threads: 2
    shell: "noisebook studies {wildcards.chapter} && touch {output}"
