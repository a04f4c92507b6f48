"""pyproject.toml, constraints.txt and environment.yml agree, and the files around them are whole."""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
CONDA_NAMES = {"matplotlib": "matplotlib-base", "torch": "pytorch-cpu"}
CONDA_ONLY = {"python", "pip", "jupyterlab"}


def requirements(project: dict) -> list[Requirement]:
    """What the package itself needs."""
    return [Requirement(line) for line in project["project"]["dependencies"]]


def pins(constraints: str) -> dict[str, str]:
    """Name to version of a constraints file, names in canonical form."""
    lines = [line.split("#")[0].strip() for line in constraints.splitlines()]
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


def constraint_problems(project: dict, constraints: str) -> list[str]:
    """Requirements, extras included, that are not pinned within their bounds; and lines that are no pins."""
    lines = [line for line in constraints.splitlines() if line and line[0] != "#"]
    found = [f"no plain pin: {line}" for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line)]
    pinned = pins(constraints)
    extras = project["project"]["optional-dependencies"].values()
    for need in [*requirements(project), *(Requirement(line) for extra in extras for line in extra)]:
        version = pinned.get(canonicalize_name(need.name))
        if version is None:
            found.append(f"{need.name} is not pinned")
        elif not need.specifier.contains(version):
            found.append(f"{need.name}=={version} is outside {need.specifier}")
    return found


def environment_problems(project: dict, environment: dict) -> list[str]:
    """Where environment.yml has other packages or other bounds than the package's own requirements."""
    conda = [Requirement(line) for line in environment["dependencies"] if isinstance(line, str)]
    pip = [line for part in environment["dependencies"] if isinstance(part, dict) for line in part["pip"]]
    found = [] if pip[-1:] == ["-e ."] else ["pip does not install the package itself last"]
    there = {need.name: need.specifier for need in [*conda, *(Requirement(line) for line in pip if line[0] != "-")]}
    wanted = {CONDA_NAMES.get(need.name, need.name): need.specifier for need in requirements(project)}
    wanted["python"] = Requirement(f"python{project['project']['requires-python']}").specifier
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
        ("python >=3.11", "python >=3.10", "python: "),
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


def test_the_address_of_the_repository_is_one_setting():
    """It stands in pyproject.toml alone, as an https address or empty."""
    assert re.fullmatch(r"|https://[^ ]+[^/ ]", PROJECT["tool"]["noisebook"]["repository"])


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WRITES = {"book": {"pages", "id-token"}, "nightly": {"issues"}, "release": {"contents"}}


def workflow_problems(workflow: dict, name: str) -> list[str]:
    """What a workflow calls that is not there, what it uses without a version, and what it may do beyond its need."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    jobs = workflow["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    found = []
    for first, *rest in (shlex.split(step["run"]) for step in steps if "run" in step):
        plain = first in ("python", "tar", "cp", "gh") or (first == "make" and set(rest) <= targets)
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
    assert found["book"]["push"] == {"branches": ["main"]}
    assert set(found["preview"]) == {"pull_request"}
    assert "schedule" in found["nightly"]
    assert found["release"] == {"push": {"tags": ["v*"]}}


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


def test_make_needs_nothing_but_a_python(tmp_path):
    """`make help` lists every public target, and a Python that is too old is refused in words."""
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert targets
    assert {line.split()[0] for line in listed.splitlines() if not line.startswith("make")} == set(targets[1].split())
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    old = tmp_path / "oldpython"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = ["make", "book", f"PYTHON={old}"]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "noisebook needs Python 3.11 to 3.13" in refused.stdout


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
