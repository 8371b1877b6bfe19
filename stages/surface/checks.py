"""Judge whether patches bound a volume that a flow can be computed in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.surface.intersections import self_intersections
from stages.surface.mesh import (
    Mesh,
    area_mm2,
    components,
    edge_faults,
    join,
    normals_mm2,
    volume_mm3,
)

PLANAR_MM = 0.05
"""Openings farther from their plane than this are worth a remark."""

PLAUSIBLE_EXTENT_MM = (5.0, 2000.0)
"""Outside this range lengths are probably not in mm."""

PLACES = 3
"""Number of places named per finding."""


@dataclass(frozen=True)
class Finding:
    """Hold one sentence about a surface and whether it makes the surface unusable."""

    sentence: str
    is_fatal: bool = False


def check_patches(patches: dict[str, Mesh]) -> list[Finding]:
    """Return what can be said about wall, inlets and outlets together.

    Parameters
    ----------
    patches
        By file name without suffix: ``wall``, ``inlet*``, ``outlet*``; lengths in mm.
    """
    missing = [
        kind
        for kind in ("wall", "inlet", "outlet")
        if not any(n.startswith(kind) for n in patches)
    ]
    findings = [Finding(f"there is no {kind}*.stl", is_fatal=True) for kind in missing]
    filled = {name: mesh for name, mesh in patches.items() if len(mesh.faces)}
    if not filled:
        return findings
    whole = join(list(filled.values()))
    findings += _closedness(whole) + _orientation(whole, filled) + _intersections(whole)
    return findings + _size(whole) + _planarity(filled)


def _closedness(whole: Mesh) -> list[Finding]:
    open_edges, reversed_edges = edge_faults(whole.faces)
    if open_edges:
        edges = np.sort(whole.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        unique, counts = np.unique(edges, axis=0, return_counts=True)
        where = _places(whole.points[unique[counts != 2]].mean(axis=1))
        return [
            Finding(
                f"{open_edges} edges are not shared by exactly two triangles, near {where}",
                is_fatal=True,
            )
        ]
    if reversed_edges:
        return [
            Finding(
                f"{reversed_edges} edges join triangles of opposite orientation", is_fatal=True
            )
        ]
    parts = len(np.unique(components(whole.faces, len(whole.points))))
    return [Finding(f"closed: {len(whole.faces)} triangles in {parts} connected part(s)")]


def _orientation(whole: Mesh, patches: dict[str, Mesh]) -> list[Finding]:
    volume = volume_mm3(whole)
    if volume <= 0:
        return [
            Finding(f"normals point inward (volume {volume:.6g} mm3): flip them", is_fatal=True)
        ]
    areas = ", ".join(f"{name} {area_mm2(mesh):.5g}" for name, mesh in sorted(patches.items()))
    return [Finding(f"volume {volume / 1000:.6g} ml; areas in mm2: {areas}")]


def _intersections(whole: Mesh) -> list[Finding]:
    flat = int((np.linalg.norm(normals_mm2(whole), axis=1) == 0.0).sum())
    findings = [Finding(f"{flat} triangles have no area")] if flat else []
    pairs = self_intersections(whole)
    if len(pairs):
        where = _places(whole.points[whole.faces[pairs[:, 0]]].mean(axis=1))
        findings.append(
            Finding(f"{len(pairs)} pairs of triangles cross, near {where}", is_fatal=True)
        )
    else:
        findings.append(Finding("no triangles cross"))
    return findings


def _size(whole: Mesh) -> list[Finding]:
    extent = float(np.ptp(whole.points, axis=0).max())
    if PLAUSIBLE_EXTENT_MM[0] <= extent <= PLAUSIBLE_EXTENT_MM[1]:
        return []
    return [Finding(f"the surface is {extent:.4g} mm long: are its lengths in mm?")]


def _planarity(patches: dict[str, Mesh]) -> list[Finding]:
    findings = []
    for name, mesh in sorted(patches.items()):
        if name.startswith(("inlet", "outlet")):
            normal = normals_mm2(mesh).sum(axis=0)
            normal /= max(float(np.linalg.norm(normal)), 1e-30)
            height = mesh.points @ normal
            depth = float(np.ptp(height))
            if depth > PLANAR_MM:
                findings.append(Finding(f"{name} is not flat: it is {depth:.3g} mm deep"))
    return findings


def _places(points: np.ndarray) -> str:
    shown = "; ".join(f"({p[0]:.2f}, {p[1]:.2f}, {p[2]:.2f})" for p in points[:PLACES])
    return f"{shown} mm" + (" and elsewhere" if len(points) > PLACES else "")
