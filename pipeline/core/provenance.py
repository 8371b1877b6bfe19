"""Which code and which libraries made an artefact."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]

LIBRARIES = (
    "lightning-fabric",
    "monai",
    "numba",
    "numpy",
    "pydicom",
    "scikit-image",
    "scipy",
    "SimpleITK",
    "torch",
    "vtk",
)
"""The libraries whose version can change a number."""


@cache
def code_digest(stage: str) -> str:
    """Return a sha256 over the sources of one stage and of the core, 16 hex digits.

    Snakemake cannot see into the installed package; a rule that carries this digest in its
    params runs again when its stage's code changed, and only then.
    """
    folders = (_ROOT / "stages" / stage, _ROOT / "pipeline" / "core")
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                total.update(path.relative_to(_ROOT).as_posix().encode())
                total.update(path.read_bytes())
    return total.hexdigest()[:16]


@cache
def commit() -> str:
    """Return the git commit of the sources, with '+' if they differ from it, else 'unknown'."""
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "pipeline", "stages")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def library_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return the installed version of each library, leaving out those not installed."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def package_version() -> str:
    """Return the version of ct2flow."""
    try:
        return metadata.version("ct2flow")
    except metadata.PackageNotFoundError:
        return "uninstalled"


def _git(*arguments: str) -> str:
    if not (_ROOT / ".git").exists():
        raise OSError("not a checkout")
    result = subprocess.run(  # noqa: S603 -- fixed program, fixed arguments
        ["git", "-C", str(_ROOT), *arguments],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()
