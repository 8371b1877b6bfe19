"""The shapes of the validation, and their folders of STL files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from stages.flow.validation.shapes import (
    Patches,
    anchored,
    bend,
    blocks,
    circle,
    rectangle,
    revolve,
    rotation,
    tube,
)

__all__ = [
    "Patches",
    "anchored",
    "bend",
    "blocks",
    "circle",
    "rectangle",
    "revolve",
    "rotation",
    "tube",
    "write_folder",
]


def write_folder(folder: Path, patches: Mapping[str, Float[np.ndarray, "face 3 3"]]) -> Path:
    """Write binary STL files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, triangles in patches.items():
        records = np.zeros(len(triangles), dtype=[("f", "<f4", (4, 3)), ("attribute", "<u2")])
        records["f"][:, 1:] = triangles
        header = b"binary".ljust(80, b" ") + len(triangles).to_bytes(4, "little")
        (folder / f"{name}.stl").write_bytes(header + records.tobytes())
    return folder
