"""What a release says of itself: one version, sound bounds, a workflow and a container."""

import re
import tomllib
from pathlib import Path

import jaxreg

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere():
    assert jaxreg.__version__ == PROJECT["version"]
    assert f"\nversion: {PROJECT['version']}\n" in text("CITATION.cff")
    released = re.search(r"^## \[(\d[^]]*)\] - \d{4}-\d{2}-\d{2}$", text("CHANGELOG.md"), re.M)
    assert released and released[1] == PROJECT["version"]


def test_the_changelog_has_known_sections():
    """Those of Keep a Changelog, each once in a version, with something in it."""
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    versions = re.split(r"^## \[", text("CHANGELOG.md"), flags=re.M)[1:]
    assert versions[0].startswith("Unreleased]")
    for version in versions:
        _, *sections = re.split(r"^### ", version, flags=re.M)
        titles = [section.splitlines()[0] for section in sections]
        assert set(titles) <= known and len(set(titles)) == len(titles)
        assert all(re.search(r"^- ", section, re.M) for section in sections)


def test_a_release_of_jaxlib_that_hangs_is_excluded():
    assert "jaxlib>=0.10,!=0.11.1" in PROJECT["dependencies"]


def test_every_python_that_is_claimed_is_tested():
    prefix = "Programming Language :: Python :: 3."
    claimed = [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(prefix)]
    workflow = text(".github/workflows/tests.yml")
    assert "python-version: [" + ", ".join(f'"3.{minor}"' for minor in claimed) + "]" in workflow
    assert PROJECT["requires-python"] == f">=3.{claimed[0]}"


def test_the_workflow_runs_targets_that_exist():
    workflow, makefile = text(".github/workflows/tests.yml"), text("Makefile")
    commands = re.findall(r"run: make (.*)", workflow)
    assert {"lint", "types", "tests", "slow", "lowest", "newest", "docs", "wheel"} <= set(commands)
    for command in commands:
        assert re.search(rf"^{command}:", makefile, re.M), command


def test_the_container_is_built_from_what_exists():
    dockerfile, ignored = text("Dockerfile"), text(".dockerignore").splitlines()
    sources = [
        word for line in re.findall(r"^COPY (.*)$", dockerfile, re.M) for word in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists() and f"!{source}" in ignored, source
    extras = re.findall(r"EXTRAS=([a-z,]+)", dockerfile)
    assert len(extras) == 2 and all(set(names.split(",")) <= set(EXTRAS) for names in extras)
    python = re.search(r"^ARG PYTHON=3\.(\d+)$", dockerfile, re.M)
    assert python and f"Programming Language :: Python :: 3.{python[1]}" in PROJECT["classifiers"]
