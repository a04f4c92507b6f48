"""pyproject.toml, constraints.txt and environment.yml agree, and the files around them are whole."""

import os
import re
import shlex
import subprocess
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
PYTHONS = ("3.11.0", "3.12.0", "3.13.0")
CONDA_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch-cpu"}
CONDA_ONLY = {"pip", "jupyterlab"}
KERNEL = {
    "ipykernel",
    "jupyter-client",
    "jupyter-core",
    "nbclient",
    "nbformat",
    "notebook",
    "papermill",
    "pyzmq",
    "tornado",
}
BINDER_PYTHON = re.compile(r"python\s*=+\s*(\d+\.\d+)")  # how Binder's builder finds the version, with both its parts


def requirements(project: dict, *extras: str) -> list[Requirement]:
    """What the package itself needs, and its extras, without itself."""
    lists = [
        project["project"]["dependencies"],
        *(project["project"]["optional-dependencies"][name] for name in extras),
    ]
    return [need for lines in lists for need in map(Requirement, lines) if need.name != project["project"]["name"]]


def brought(needs: list[Requirement], stop: str = "") -> set[str]:
    """The packages that ``needs`` bring, through one another as far as they are installed; not what ``stop`` brings."""
    waiting, done = list(needs), []
    while waiting:
        need = waiting.pop()
        if need not in done and need.name != stop:
            done.append(need)
            with suppress(PackageNotFoundError):
                for one in map(Requirement, distribution(need.name).requires or []):
                    if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in ("", *need.extras)):
                        waiting.append(one)
    return {canonicalize_name(need.name) for need in done}


def pins(constraints: str) -> dict[str, str]:
    """Name to version of a constraints file, names in canonical form."""
    lines = [line.split("#")[0].strip() for line in constraints.splitlines()]
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


def constraint_problems(project: dict, constraints: str) -> list[str]:
    """Requirements, extras included, that are not pinned within their bounds; and lines that are no pins."""
    lines = [line for line in constraints.splitlines() if line and line[0] != "#"]
    found = [f"no plain pin: {line}" for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line)]
    pinned = pins(constraints)
    for need in requirements(project, *project["project"]["optional-dependencies"]):
        version = pinned.get(canonicalize_name(need.name))
        if version is None:
            found.append(f"{need.name} is not pinned")
        elif not need.specifier.contains(version):
            found.append(f"{need.name}=={version} is outside {need.specifier}")
    return found


def environment_problems(project: dict, environment: dict) -> list[str]:
    """Where environment.yml has other packages or other bounds than the package's own and those that run a notebook."""
    lines = [line for line in environment["dependencies"] if isinstance(line, str)]
    conda = [Requirement(line) for line in lines if not line.startswith("python ")]
    pip = [line for part in environment["dependencies"] if isinstance(part, dict) for line in part["pip"]]
    found = [] if pip[-1:] == ["-e ."] else ["pip does not install the package itself last"]
    there = {need.name: need.specifier for need in [*conda, *(Requirement(line) for line in pip if line[0] != "-")]}
    wanted = {CONDA_NAMES.get(need.name, need.name): need.specifier for need in requirements(project, "run")}
    python = next((match[1] for line in lines if (match := BINDER_PYTHON.fullmatch(line))), "")
    if not python or python not in SpecifierSet(project["project"]["requires-python"]):
        found.append(f"python: {python or 'no one version'} is not one of {project['project']['requires-python']}")
    for name in sorted(wanted.keys() - there.keys()):
        found.append(f"{name} is missing")
    for name in sorted(there.keys() - wanted.keys() - CONDA_ONLY):
        found.append(f"{name} is not in pyproject.toml")
    for name in sorted(wanted.keys() & there.keys()):
        if wanted[name] != there[name]:
            found.append(f"{name}: {there[name]} is not {wanted[name]}")
    return found


def test_the_constraints_pin_every_requirement_within_its_bounds():
    """Every requirement has one version in constraints.txt, and pyproject.toml allows it."""
    assert constraint_problems(PROJECT, CONSTRAINTS) == []


def test_every_constraint_installs_on_the_first_release_of_every_python():
    """No pinned version refuses the oldest patch release of a Python that the front door takes."""
    found = []
    for name, version in pins(CONSTRAINTS).items():
        with suppress(PackageNotFoundError):
            there = distribution(name)
            needs = SpecifierSet(there.metadata["Requires-Python"] or "")
            same = there.version.split("+")[0] == version
            found += [f"{name}=={version} needs {needs}" for old in PYTHONS if same and not needs.contains(old)]
    assert found == []


def test_every_constraint_is_needed():
    """What no requirement leads to is not pinned."""
    browser = [Requirement("playwright"), Requirement("axe-playwright-python")]  # for `make test-browser`
    everything = [*requirements(PROJECT, *PROJECT["project"]["optional-dependencies"]), *browser]
    assert pins(CONSTRAINTS).keys() - brought(everything) == set()


def test_the_environment_matches_the_project():
    """Binder and conda get the same packages with the same bounds as pip."""
    assert environment_problems(PROJECT, ENVIRONMENT) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("torch==", "torch==1.", "is outside >=2.6"),
        ("numpy==", "nampy==", "numpy is not pinned"),
        ("numpy==", "-e .\nnumpy==", "no plain pin: -e ."),
        ("numpy==", "-f https://example.org\nnumpy==", "no plain pin: -f"),
        ("numpy==", "numpy>=", "no plain pin: numpy>="),
    ],
)
def test_a_broken_constraint_is_found(old, new, message):
    """A version out of bounds, a missing pin and a line that is none are each reported."""
    found = constraint_problems(PROJECT, CONSTRAINTS.replace(f"\n{old}", f"\n{new}"))
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("numpy >=2.0", "numpy >=1.9", "numpy: >=1.9 is not >=2.0"),
        ("  - numpy >=2.0\n", "", "numpy is missing"),
        ("numpy >=2.0", "numpy >=2.0\n  - pandas", "pandas is not in pyproject.toml"),
        ("python =3.12", "python =3.10", "python: 3.10 is not one of"),
        ("python =3.12", "python >=3.11,<3.14", "python: no one version is not one of"),
        ("lightning-fabric>=2.4", "lightning-fabric>=2.3", "lightning-fabric: >=2.3 is not >=2.4"),
        ("      - -e .\n", "", "pip does not install the package itself"),
    ],
)
def test_a_broken_environment_is_found(old, new, message):
    """A missing, additional or differently bounded package is reported."""
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert old in text
    found = environment_problems(PROJECT, yaml.safe_load(text.replace(old, new)))
    assert any(message in problem for problem in found), found


def test_nothing_replaces_a_running_kernel():
    """What the package needs brings no part of a kernel, which Colab would have replaced under the open notebook.

    IPython alone is asked for, from the version that Colab has; and with every extra there is all that runs a chapter.
    """
    needs = requirements(PROJECT)
    assert Requirement("ipython>=7.34") in needs
    found = brought(needs, stop="ipython")
    assert {"torch", "numpy", "rich"} <= found
    assert found & (KERNEL | {"traitlets"}) == set()
    run = {need.name for need in requirements(PROJECT, "run")}
    assert {"ipykernel", "nbclient", "papermill"} <= run
    for extra in ("book", "dev"):
        assert "noisebook[run]" in PROJECT["project"]["optional-dependencies"][extra]


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WRITES = {"book": {"pages", "id-token"}, "nightly": {"issues"}, "release": {"contents"}}


SAFE = 'git config --global --add safe.directory "$GITHUB_WORKSPACE"'


def workflow_problems(workflow: dict, name: str) -> list[str]:
    """What a workflow calls that is not there, what it uses without a version, and what it may do beyond its need."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    jobs = workflow["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    found = []
    for first, *rest in (shlex.split(step["run"]) for step in steps if "run" in step):
        plain = first in ("python", "git", "tar", "cp", "gh", "apt-get") or (first == "make" and set(rest) <= targets)
        plain = plain or (first == ".venv/bin/python" and (rest[0] == "-m" or (ROOT / rest[0]).is_file()))
        if not plain and not (first.startswith(".ci/") and (ROOT / first).is_file()):
            found.append(f"runs {first}, which is no file or target here")
    uses = [step["uses"] for step in steps if "uses" in step]
    found += [f"{action} has no version" for action in uses if not re.fullmatch(r"actions/[a-z-]+@v\d+", action)]
    if not isinstance(workflow.get("permissions"), dict):
        found.append("its permissions are not stated")
    given = [workflow.get("permissions"), *(job.get("permissions") for job in jobs.values())]
    writes = {scope for one in given if isinstance(one, dict) for scope, right in one.items() if right == "write"}
    found += [f"may write {scope}" for scope in sorted(writes - WRITES.get(name, set()))]
    found += [f"needs {need}, which is no job" for job in jobs.values() for need in _listed(job) if need not in jobs]
    container = [job["steps"] for job in jobs.values() if "container" in job]
    found += [
        "git refuses the clone in a container" for steps in container if SAFE not in [s.get("run") for s in steps]
    ]
    return found + [f"{job} may run for hours" for job, one in jobs.items() if name != "book" and _unbounded(one)]


def _listed(job: dict) -> list[str]:
    needs = job.get("needs", [])
    return [needs] if isinstance(needs, str) else needs


def _unbounded(job: dict) -> bool:
    return "timeout-minutes" not in job and not _listed(job)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_only_what_there_is(path):
    """Every workflow runs what this repository has, with pinned actions, bounded time and the least rights."""
    assert workflow_problems(yaml.safe_load(path.read_text(encoding="utf-8")), path.stem) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("make book", "make boook", "runs make"),
        ("make book", "curl x", "runs curl"),
        ("checkout@v4", "checkout@main", "actions/checkout@main has no version"),
        ("contents: read", "contents: write", "may write contents"),
        ("permissions:\n  contents: read\n", "", "permissions are not stated"),
        ("timeout-minutes: 45", "timeout: 45", "build may run for hours"),
        ("runs-on", "needs: nobody\n    runs-on", "needs nobody, which is no job"),
        ("runs-on", "container: python\n    runs-on", "git refuses the clone in a container"),
    ],
)
def test_a_broken_workflow_is_found(old, new, message):
    """Each rule for workflows, broken once, is reported."""
    text = (ROOT / ".github" / "workflows" / "preview.yml").read_text(encoding="utf-8")
    assert old in text
    found = workflow_problems(yaml.safe_load(text.replace(old, new)), "preview")
    assert any(message in problem for problem in found), found


def test_there_is_a_workflow_for_every_occasion():
    """Tests, pages on main, a preview of pull requests, a nightly run and a release each have their trigger."""
    found = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))[True] for path in WORKFLOWS}
    assert {"push", "pull_request"} <= set(found["ci"])
    assert found["book"] == {"workflow_run": {"workflows": ["tests"], "types": ["completed"], "branches": ["main"]}}
    assert set(found["preview"]) == {"pull_request"}
    assert "schedule" in found["nightly"]
    assert found["release"] == {"push": {"tags": ["v*"]}}


def test_only_what_passed_its_tests_is_published():
    """The book is built of the commit whose tests succeeded after a push, and a deployment is never cut off."""
    book, tests = (yaml.safe_load((WORKFLOWS[0].parent / f"{name}.yml").read_text()) for name in ("book", "ci"))
    build, publish = book["jobs"]["build"], book["jobs"]["publish"]
    assert book[True]["workflow_run"]["workflows"] == [tests["name"]]
    run = "github.event.workflow_run"
    assert build["if"] == f"{run}.conclusion == 'success' && {run}.event == 'push'"
    assert build["steps"][0]["with"]["ref"] == f"${{{{ {run}.head_sha }}}}"
    assert publish["needs"] == "build"
    assert publish["concurrency"] == {"group": "pages", "cancel-in-progress": False}


def test_a_night_that_hangs_is_reported():
    """The report is made of every job that did not succeed: one that takes too long is cancelled and has not failed."""
    jobs = yaml.safe_load((WORKFLOWS[0].parent / "nightly.yml").read_text())["jobs"]
    assert jobs["report"]["if"].startswith("always() && ")
    assert set(jobs["report"]["needs"]) == jobs.keys() - {"report"}
    assert all(f"needs.{name}.result != 'success'" in jobs["report"]["if"] for name in jobs["report"]["needs"])


@pytest.mark.parametrize(
    ("open_one", "called"), [("", "issue create --title T --body x"), ("7", "issue comment 7 --body x")]
)
def test_a_failed_night_opens_one_issue(tmp_path, open_one, called):
    """The report opens an issue where there is none of its title, and adds to the one that is open."""
    gh = tmp_path / "gh"
    gh.write_text(f'#!/bin/sh\nif [ "$2" = list ]; then echo "{open_one}"; else echo "$@" > {tmp_path}/called; fi\n')
    gh.chmod(0o755)
    variables = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([str(ROOT / ".ci" / "report"), "T", "x"], env=variables, check=True)
    assert (tmp_path / "called").read_text().strip() == called


def test_the_citation_names_the_version():
    """CITATION.cff is whole and names the version of the package."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    source = (ROOT / "src" / "noisebook" / "__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{citation["version"]}"' in source
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)


def test_the_citation_names_every_work_and_the_book_as_its_page_does():
    """The page on citing has CITATION.cff's title and version; its references are the chapters' works."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    page = (ROOT / "book" / "cite.md").read_text(encoding="utf-8")
    assert f"{{{citation['title']}}}" in page
    assert f"version {citation['version']};" in page
    keys = re.findall(r"{cite:t}`(\w+)`", (ROOT / "book" / "chapters.yml").read_text(encoding="utf-8"))
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    titles = [re.search(rf"{key},.*?title += {{(.*?)}},\n", entries, re.DOTALL)[1] for key in keys]
    assert sorted(ref["title"] for ref in citation["references"]) == sorted(re.sub("[{}]", "", t) for t in titles)
