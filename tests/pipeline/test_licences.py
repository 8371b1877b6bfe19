"""No package that ct2flow imports or links is under the GPL or AGPL."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ALLOWED_ALTERNATIVES = {
    "docutils",  # public domain and BSD; its GPL part is one Emacs file that no one imports
}


def runtime_closure(name, seen):
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        key = requirement.name.lower()
        if key not in seen:
            seen.add(key)
            runtime_closure(requirement.name, seen)
    return seen


def licence_of(name):
    fields = metadata.metadata(name)
    classifiers = [c for c in fields.get_all("Classifier") or [] if c.startswith("License")]
    short = (fields.get("License") or "").split("\n")[0][:200]
    return " | ".join([fields.get("License-Expression") or "", short, *classifiers])


def offenders_of(names):
    strong = re.compile(r"\bA?GPL|GNU (Affero )?General Public", re.IGNORECASE)
    weak = re.compile(r"LGPL|Lesser General Public", re.IGNORECASE)
    found = {n: licence_of(n) for n in sorted(names)}
    return {n: t for n, t in found.items() if strong.search(weak.sub("", t))}


def test_no_runtime_dependency_is_gpl_or_agpl():
    names = runtime_closure("ct2flow", set()) - ALLOWED_ALTERNATIVES
    assert len(names) > 40
    assert not offenders_of(names)


@pytest.mark.parametrize("extra", ["onnx", "tensorboard"])
def test_no_package_of_an_optional_command_is_gpl_or_agpl(extra):
    path = Path(__file__).resolve().parents[2] / "pyproject.toml"
    asked = tomllib.loads(path.read_text())["project"]["optional-dependencies"][extra]
    names = {Requirement(text).name for text in asked}
    try:
        for name in tuple(names):
            runtime_closure(name, names)
        found = offenders_of(names)
    except metadata.PackageNotFoundError as error:
        pytest.skip(f"needs ct2flow[{extra}]: {error.name} is not installed")
    assert not found
