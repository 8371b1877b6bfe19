"""Write and read STL files whose bytes depend on nothing but the triangles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.core.errors import InputError
from stages.surface.mesh import Mesh, join, normals_mm2

HEADER = b"ct2flow surface, mm, patient coordinates LPS".ljust(80)
_RECORD = np.dtype([("normal", "<f4", 3), ("vertex", "<f4", (3, 3)), ("attribute", "<u2")])


def write_stl(path: Path, mesh: Mesh) -> None:
    """Write a binary STL."""
    normal = normals_mm2(mesh)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    records = np.zeros(len(mesh.faces), dtype=_RECORD)
    records["normal"] = normal / np.where(length > 0, length, 1.0)
    records["vertex"] = mesh.points[mesh.faces]
    count = np.array([len(mesh.faces)], dtype="<u4").tobytes()
    path.write_bytes(HEADER + count + records.tobytes())


def read_stl(path: Path) -> Mesh:
    """Read a binary or ASCII STL; vertices at equal places become one.

    Raises
    ------
    InputError
        If the file is no STL.
    """
    data = path.read_bytes()
    if len(data) >= 84:
        count = int(np.frombuffer(data, "<u4", 1, 80)[0])
        if len(data) == 84 + 50 * count:
            corners = np.frombuffer(data, _RECORD, count, 84)["vertex"].astype(np.float64)
            return _welded(corners.reshape(-1, 3))
    return _read_ascii(path, data)


def _read_ascii(path: Path, data: bytes) -> Mesh:
    words = data.split()
    at = [i for i, word in enumerate(words) if word == b"vertex"]
    try:
        corners = np.array([[float(w) for w in words[i + 1 : i + 4]] for i in at])
    except ValueError as error:
        raise InputError(f"{path.name}: is no readable STL; export it again.") from error
    if len(corners) == 0 or len(corners) % 3 or corners.shape[1:] != (3,):
        raise InputError(f"{path.name}: holds no triangles; export it as STL again.")
    return _welded(corners)


def _welded(corners: np.ndarray) -> Mesh:
    return join([Mesh(corners, np.arange(len(corners)).reshape(-1, 3))])
