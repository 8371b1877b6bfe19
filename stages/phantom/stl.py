"""Write triangles as binary STL."""

from __future__ import annotations

import numpy as np

from stages.phantom.truth import Surface

_TRIANGLE = np.dtype(
    [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")], align=False
)


def binary_stl(surface: Surface) -> bytes:
    """Return the bytes of a binary STL file, mm."""
    corners = surface.vertices_mm[surface.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    records = np.zeros(len(corners), dtype=_TRIANGLE)
    records["normal"] = normals / np.maximum(length, 1e-30)
    records["corners"] = corners
    header = b"ct2flow phantom airway, mm, LPS".ljust(80)
    return header + np.uint32(len(corners)).tobytes() + records.tobytes()
