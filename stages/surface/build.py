"""From a volume and its airway to a closed surface in patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.core.errors import InputError
from pipeline.core.planes import Plane
from pipeline.core.volume import Volume
from stages.surface.caps import cap
from stages.surface.cutting import Opening, cut_open
from stages.surface.field import compose_field
from stages.surface.isosurface import extract_surface, smooth_surface
from stages.surface.mesh import Mesh, components, is_closed, join, volume_mm3
from stages.surface.settings import SurfaceSettings

ORDER: dict[str, Literal[1, 3]] = {"linear": 1, "cubic": 3}
PHARYNX = "pharynx"
NOSTRIL = "nostril-"


@dataclass(frozen=True)
class AirwaySurface:
    """Hold a closed surface in patches.

    Parameters
    ----------
    wall
        The wall.
    caps
        One per opening, by file name: ``inlet-left``, ``inlet-right``, ``outlet-pharynx``.
    openings
        The cuts, by the same names.
    volume_change_percent
        What smoothing did to the volume before the cuts.
    """

    wall: Mesh
    caps: dict[str, Mesh]
    openings: dict[str, Opening]
    volume_change_percent: float

    @property
    def whole(self) -> Mesh:
        """Return wall and caps as one closed mesh."""
        return join([self.wall, *self.caps.values()])


def build_surface(
    volume: Volume, region: Volume, planes: dict[str, Plane], settings: SurfaceSettings
) -> AirwaySurface:
    """Draw the wall, smooth it, cut it at the planes and close it.

    Raises
    ------
    InputError
        If the airway at this isolevel does not reach the planes or cannot be closed.
    """
    field = compose_field(
        volume,
        region,
        planes,
        isolevel_hu=settings.isolevel_hu,
        spacing_mm=settings.spacing_mm,
        order=ORDER[settings.interpolation],
    )
    raw = extract_surface(field.values, field.grid)
    mesh = smooth_surface(
        raw, iterations=settings.smoothing_iterations, pass_band=settings.smoothing_pass_band
    )
    change = 100.0 * (volume_mm3(mesh) / volume_mm3(raw) - 1.0)
    openings: dict[str, Opening] = {}
    caps: dict[str, Mesh] = {}
    for plane in planes.values():
        inlet = plane.name.startswith(NOSTRIL)
        name = f"inlet-{plane.name.removeprefix(NOSTRIL)}" if inlet else f"outlet-{plane.name}"
        mesh, openings[name] = cut_open(mesh, plane, keep_ahead=inlet)
        caps[name] = cap(openings[name], outward_ahead=not inlet)
    surface = AirwaySurface(
        _single(mesh), {n: _single(c) for n, c in caps.items()}, openings, change
    )
    if not is_closed(surface.whole):
        raise InputError("The airway's surface could not be closed; use another spacing.")
    return surface


def _single(mesh: Mesh) -> Mesh:
    """Round points as the STL file does, so that patches share their vertices exactly."""
    return Mesh(mesh.points.astype(np.float32).astype(np.float64), mesh.faces)


def part_count(mesh: Mesh) -> int:
    """Return the number of connected parts of a mesh."""
    return len(np.unique(components(mesh.faces, len(mesh.points))))
