"""From a volume and its airway to a closed surface in patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.core.errors import InputError, UsageError
from pipeline.core.planes import Plane
from pipeline.core.volume import Volume
from stages.surface.caps import cap
from stages.surface.cutting import Opening, cut_open
from stages.surface.extension import extend
from stages.surface.field import compose_field
from stages.surface.isosurface import extract_surface, smooth_surface
from stages.surface.mesh import Mesh, area_mm2, components, is_closed, join, volume_mm3
from stages.surface.outside import Ball, ball_before, divide_at_ball
from stages.surface.remeshing import remesh_patches
from stages.surface.settings import SurfaceSettings

ORDER: dict[str, Literal[1, 3]] = {"linear": 1, "cubic": 3}
PHARYNX = "pharynx"
NOSTRIL = "nostril-"

PLAIN = {"target_edge_mm": None, "inlet_extension_mm": 0.0, "outside_air_mm": 0.0}
"""Settings of a surface from nostril to pharynx with the grid's own triangles."""


@dataclass(frozen=True)
class AirwaySurface:
    """Hold a closed surface in patches.

    Parameters
    ----------
    wall
        The wall.
    caps
        One per opening, by file name: ``inlet-left``, ``inlet-right``, ``outlet-pharynx``; with outside air
        the one ``inlet``.
    openings
        The cuts, by the same names; the ball's surface is no cut.
    volume_change_percent
        What smoothing did to the volume before the cuts.
    inner_planes
        The nostrils' planes where these are no inlets: there sides can be told apart.
    """

    wall: Mesh
    caps: dict[str, Mesh]
    openings: dict[str, Opening]
    volume_change_percent: float
    inner_planes: dict[str, Plane]

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
    NumericalError
        If it cannot be remeshed to the edge length wished for.
    """
    ball = _ball(planes, settings)
    mesh, change = _drawn(volume, region, planes, settings, ball)
    wall, caps, openings = _opened(mesh, planes, settings, ball)
    patches = {"wall": _single(wall), **{name: _single(c) for name, c in caps.items()}}
    if not is_closed(join(list(patches.values()))):
        raise InputError("The airway's surface could not be closed; use another spacing.")
    if settings.target_edge_mm is not None:
        found = remesh_patches(patches, settings.target_edge_mm)
        patches = {name: _single(mesh) for name, mesh in found.items()}
    wall = patches.pop("wall")
    extended = ball is not None or settings.inlet_extension_mm > 0
    inner = {n: plane for n, plane in planes.items() if extended and n.startswith(NOSTRIL)}
    return AirwaySurface(wall, patches, openings, change, inner)


def _ball(planes: dict[str, Plane], settings: SurfaceSettings) -> Ball | None:
    if settings.outside_air_mm == 0:
        return None
    if settings.inlet_extension_mm > 0:
        raise UsageError(
            "inlet_extension_mm and outside_air_mm are both set: give one, the nostrils have one inlet."
        )
    nostrils = [plane for plane in planes.values() if plane.name.startswith(NOSTRIL)]
    return ball_before(nostrils, settings.outside_air_mm)


def _drawn(
    volume: Volume,
    region: Volume,
    planes: dict[str, Plane],
    settings: SurfaceSettings,
    ball: Ball | None,
) -> tuple[Mesh, float]:
    """Return the smoothed iso-surface and what smoothing did to its volume, %."""
    field = compose_field(
        volume,
        region,
        planes,
        isolevel_hu=settings.isolevel_hu,
        spacing_mm=settings.spacing_mm,
        order=ORDER[settings.interpolation],
        ball=ball,
    )
    raw = extract_surface(field.values, field.grid)
    mesh = smooth_surface(
        raw, iterations=settings.smoothing_iterations, pass_band=settings.smoothing_pass_band
    )
    return mesh, 100.0 * (volume_mm3(mesh) / volume_mm3(raw) - 1.0)


def _opened(
    mesh: Mesh, planes: dict[str, Plane], settings: SurfaceSettings, ball: Ball | None
) -> tuple[Mesh, dict[str, Mesh], dict[str, Opening]]:
    """Cut the surface at the planes, or at the ball before the nostrils, and close it there."""
    openings: dict[str, Opening] = {}
    caps: dict[str, Mesh] = {}
    pipes: list[Mesh] = []
    for plane in planes.values():
        inlet = plane.name.startswith(NOSTRIL)
        if inlet and ball is not None:
            continue
        name = f"inlet-{plane.name.removeprefix(NOSTRIL)}" if inlet else f"outlet-{plane.name}"
        mesh, opening = cut_open(mesh, plane, keep_ahead=inlet)
        if inlet and settings.inlet_extension_mm > 0:
            pipe, opening = extend(
                opening,
                length_mm=settings.inlet_extension_mm,
                area_ratio=settings.inlet_taper,
                spacing_mm=settings.spacing_mm,
            )
            pipes.append(pipe)
        openings[name], caps[name] = opening, cap(opening, outward_ahead=not inlet)
    if ball is not None:
        mesh, caps["inlet"] = divide_at_ball(mesh, ball, settings.spacing_mm)
    return join([mesh, *pipes]), caps, openings


@dataclass(frozen=True)
class Sizes:
    """Hold volume (mm3) and wall area (mm2) of an airway drawn at one level."""

    isolevel_hu: float
    volume_mm3: float
    wall_area_mm2: float


def sizes_at(
    volume: Volume,
    region: Volume,
    planes: dict[str, Plane],
    settings: SurfaceSettings,
    isolevel_hu: float,
) -> Sizes | None:
    """Return the sizes at another isolevel, nostril to pharynx, or None if it cannot be drawn there."""
    other = settings.model_copy(update={**PLAIN, "isolevel_hu": isolevel_hu})
    try:
        surface = build_surface(volume, region, planes, other)
    except InputError:
        # At another level the airway may be closed or run into its surroundings: that is an answer too.
        return None
    return sizes_of(surface, isolevel_hu)


def sizes_of(surface: AirwaySurface, isolevel_hu: float) -> Sizes:
    """Return the sizes of a surface."""
    return Sizes(isolevel_hu, volume_mm3(surface.whole), area_mm2(surface.wall))


def _single(mesh: Mesh) -> Mesh:
    """Round points as the STL file does, so that patches share their vertices exactly."""
    return Mesh(mesh.points.astype(np.float32).astype(np.float64), mesh.faces)


def part_count(mesh: Mesh) -> int:
    """Return the number of connected parts of a mesh."""
    return len(np.unique(components(mesh.faces, len(mesh.points))))
