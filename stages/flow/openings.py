"""Inlets and outlets: where they are and what their links return.

Notes
-----
A link that ends at a pressure opening returns mostly anti-bounce-back (Ginzburg, Verhaeghe &
d'Humieres 2008, Commun. Comput. Phys. 3, 427) and partly the equilibrium of the imposed density
and the cell's velocity (its normal part where fluid enters). At a velocity inlet it returns the
equilibrium of the imposed velocity and of the density one cell further in: bounce-back with an
imposed velocity, and the
density of the cell itself, leave a checkerboard of pressure in the first layer.

Total-pressure inlets take the static pressure from Bernoulli's equation, p = p_t - rho u_n^2 / 2
(Saint-Venant & Wantzel), so that several nostrils share the flow; so do outlets where fluid comes
back. All outlets have one pressure,

    p = P + Z (Q_out - Q),     Z = rho c / A,

which answers a wrong flux with the impedance of sound, so that pressure waves leave instead of
being reflected (Thompson 1987, doi:10.1016/0021-9991(87)90041-6); P integrates the rest slowly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.flow.lattice import SOUND_SPEED_SQUARED_LU, VELOCITIES
from stages.flow.mesh import WALL, PatchedSurface, area_vectors, is_inlet
from stages.flow.profiles import developed_profile
from stages.flow.voxels import SparseLattice
from stages.flow.walls import WallLinks

_IMPEDANCE_SHARE = 0.8
"""Outlet impedance over that of sound: 1 absorbs waves fully, but the flux is one step old."""
_INTEGRAL_TRANSITS = 4.0
"""Time constant of the outlet's integral in transits of sound: critical damping of the airway's
inertance, rho L / A, against the impedance."""
_FLUX_SMOOTHING = 0.2
"""Share of the newest step in the flux that the outlets answer."""


@dataclass(frozen=True)
class Opening:
    """Describe one opening.

    Parameters
    ----------
    name
        Patch name.
    inlet
        Whether the flow enters here.
    area_mm2
        Area of the patch.
    centre_mm
        Centre of the patch, world (x, y, z).
    direction
        Unit normal in the direction of the flow: inward at inlets, outward at outlets.
    triangles_mm
        The patch.
    link
        Numbers of the links that end at the opening.
    """

    name: str
    inlet: bool
    area_mm2: float
    centre_mm: Float[np.ndarray, "3"]
    direction: Float[np.ndarray, "3"]
    triangles_mm: Float[np.ndarray, "face 3 3"]
    link: Int[np.ndarray, "link"]


@dataclass(frozen=True)
class OpeningLinks:
    """Hold the links of all openings as an engine takes them.

    Parameters
    ----------
    link, cell, direction, opening
        Number among all links, fluid cell, outward direction and opening of each link.
    profile
        Velocity along the normal at each link relative to the opening's mean.
    solid
        Whether the link ends at the wall: a cell at an opening exchanges mass through its wall links
        too, and only their sum with the opening's is the flux.
    surface
        What the links would return if the opening were a wall, in the order of `link`.
    normal
        Direction of the flow of each opening, (3, opening).
    inlet
        Whether the flow enters, for each opening.
    """

    link: Int[np.ndarray, "link"]
    cell: Int[np.ndarray, "link"]
    direction: Int[np.ndarray, "link"]
    opening: Int[np.ndarray, "link"]
    profile: Float[np.ndarray, "link"]
    solid: Bool[np.ndarray, "link"]
    surface: WallLinks | None
    normal: Float[np.ndarray, "3 opening"]
    inlet: Int[np.ndarray, "opening"]

    def as_type(self, precision: type[np.floating]) -> OpeningLinks:
        """Return the same links with profiles of the populations' type."""
        profile = self.profile.astype(precision)
        surface = None if self.surface is None else self.surface.as_type(precision)
        return replace(self, profile=profile, surface=surface)

    def with_surface(self, walls: WallLinks) -> OpeningLinks:
        """Return the links with what they would return as walls, whatever the order of those."""
        return replace(self, surface=walls.in_order_of(self.link))


@dataclass
class OpeningState:
    """Hold what the openings impose and carry, lattice units; the engine updates it in place.

    Parameters
    ----------
    given_velocity
        Whether inlets impose their velocity instead of their total pressure.
    level
        Density deviation of the total pressure at each inlet.
    speed
        Mean velocity at each velocity inlet.
    flux
        Mass through each opening in the last step, positive in the direction of the flow.
    outlet
        Level, impedance, rate of the integral, target flux, smoothed flux, smoothing.
    """

    given_velocity: bool
    level: Float[np.ndarray, "opening"]
    speed: Float[np.ndarray, "opening"]
    flux: Float[np.ndarray, "opening"]
    outlet: Float[np.ndarray, "6"]


def make_openings(surface: PatchedSurface, lattice: SparseLattice) -> tuple[Opening, ...]:
    """Describe every opening that the fluid reaches."""
    openings = []
    for name in surface.openings:
        link = lattice.links_of(name)
        if len(link) == 0:
            continue
        triangles = surface.faces_of(name)
        areas = np.linalg.norm(area_vectors(triangles), axis=1)
        outward = VELOCITIES[lattice.link_direction[link]].mean(axis=0)
        normal = _unit_normal(triangles, outward)
        openings.append(
            Opening(
                name,
                is_inlet(name),
                float(areas.sum()),
                (triangles.mean(axis=1) * areas[:, None]).sum(axis=0) / areas.sum(),
                -normal if is_inlet(name) else normal,
                triangles,
                link,
            )
        )
    return tuple(openings)


def _unit_normal(
    triangles: Float[np.ndarray, "face 3 3"], outward: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3"]:
    """Return the mean normal on the side to which the links leave, however the patch is wound."""
    normal: Float[np.ndarray, "3"] = area_vectors(triangles).sum(axis=0)
    length = float(np.linalg.norm(normal))
    if length < 1e-9 * float(np.linalg.norm(area_vectors(triangles), axis=1).sum()):
        normal, length = outward, float(np.linalg.norm(outward))
    normal = normal / length
    return normal if normal @ outward >= 0 else -normal


def opening_links(
    openings: tuple[Opening, ...], lattice: SparseLattice, *, developed: bool
) -> tuple[OpeningLinks, Float[np.ndarray, "opening"]]:
    """Return the links of all openings and each opening's share of the flow.

    Links are sorted by cell and direction, as walls are. The share of a velocity inlet goes with
    its area or, if developed, with what one pressure gradient drives through it.
    """
    number = np.repeat(np.arange(len(openings)), [len(o.link) for o in openings])
    link = np.concatenate([o.link for o in openings])
    profile = np.ones(len(link))
    share = np.array([o.area_mm2 for o in openings])
    for k, opening in enumerate(openings):
        if developed and opening.inlet:
            points = _ends_mm(lattice, opening.link)
            values, conductance = developed_profile(
                opening.triangles_mm, opening.direction, points
            )
            profile[number == k] = values
            share[k] = conductance
    owner = np.full(len(lattice.cells), -1)
    owner[lattice.link_cell[link[::-1]]] = number[::-1]
    wall = lattice.links_of(WALL)
    wall = wall[owner[lattice.link_cell[wall]] >= 0]
    solid = np.repeat([False, True], [len(link), len(wall)])
    number = np.concatenate([number, owner[lattice.link_cell[wall]]])
    profile = np.concatenate([profile, np.zeros(len(wall))])
    link = np.concatenate([link, wall])
    order = np.lexsort((lattice.link_direction[link], lattice.link_cell[link]))
    link, number, profile, solid = link[order], number[order], profile[order], solid[order]
    inlet = np.array([o.inlet for o in openings])
    share = np.where(inlet, share / share[inlet].sum(), share / share[~inlet].sum())
    return OpeningLinks(
        link.astype(np.int32),
        lattice.link_cell[link].astype(np.int32),
        lattice.link_direction[link].astype(np.int32),
        number.astype(np.int32),
        profile,
        solid,
        None,
        np.stack([o.direction for o in openings], axis=1),
        inlet,
    ), share


def _ends_mm(lattice: SparseLattice, link: Int[np.ndarray, "link"]) -> Float[np.ndarray, "link 3"]:
    reach = lattice.link_distance[link][:, None] * lattice.spacing_mm
    start = lattice.centres_mm[lattice.link_cell[link]]
    return np.asarray(start + VELOCITIES[lattice.link_direction[link]] * reach)


def longest_path_mm(openings: tuple[Opening, ...]) -> float:
    """Return the largest straight distance between an inlet and an outlet."""
    inlets = [o.centre_mm for o in openings if o.inlet]
    outlets = [o.centre_mm for o in openings if not o.inlet]
    return max(float(np.linalg.norm(a - b)) for a in inlets for b in outlets)


def outlet_control(
    openings: tuple[Opening, ...], spacing_mm: float, *, integrate: bool
) -> Float[np.ndarray, "6"]:
    """Return the outlets' control at rest, lattice units; see `OpeningState.outlet`."""
    sound = np.sqrt(SOUND_SPEED_SQUARED_LU)
    area = sum(o.area_mm2 for o in openings if not o.inlet) / spacing_mm**2
    length = longest_path_mm(openings) / spacing_mm
    impedance = _IMPEDANCE_SHARE / (sound * area)
    rate = sound / (_INTEGRAL_TRANSITS * max(length, 4.0)) if integrate else 0.0
    return np.array([0.0, impedance, rate, 0.0, 0.0, _FLUX_SMOOTHING])
