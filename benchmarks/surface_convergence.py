"""Compare surfaces with the phantom's analytic truth: convergence, slices, smoothing, a thin slot.

    python benchmarks/surface_convergence.py --seed 4 docs/surface_convergence.md

Images are box means over voxels of a head whose airway is analytic; everything after that is the
pipeline as run. Four positions of the body between the voxels each. About six minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage import measure

from pipeline.core.geometry import VoxelGrid
from pipeline.core.planes import Plane
from pipeline.core.volume import Volume
from stages.phantom.coverage import cover
from stages.phantom.shapes import Distance
from stages.phantom.stage import patient_of
from stages.phantom.tissues import Patient
from stages.phantom.truth import airway_distance_mm, lumen_grid, true_planes
from stages.surface.build import AirwaySurface, build_surface
from stages.surface.caps import cap
from stages.surface.cutting import cut_open
from stages.surface.mesh import Mesh, area_mm2, join, normals_mm2, volume_mm3
from stages.surface.settings import SurfaceSettings

AIR_HU, TISSUE_HU = -1000.0, 40.0
LEVEL_HU = 0.5 * (AIR_HU + TISSUE_HU)
SPACINGS_MM = (1.0, 0.71, 0.5, 0.35)
PHASES = ((0.12, 0.41, 0.77), (0.63, 0.05, 0.29), (0.37, 0.83, 0.52), (0.91, 0.58, 0.14))
MARGIN_MM = 6.0
STEP_MM = 0.01
FAR_MM = 2.0
"""Where the wall found is farther from a true one there is no true wall to compare its normal with."""

Box = tuple[np.ndarray, np.ndarray]


def image_of(
    distance: Distance,
    box: Box,
    steps_mm: tuple[float, float, float],
    phase: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Volume:
    """Return the box means over voxels (z, y, x steps) of air within a body, HU."""
    low, high = box
    origin = low - np.array(phase) * steps_mm[::-1]
    n = np.ceil((high - origin) / steps_mm[::-1]).astype(int) + 1
    at = (float(origin[0]), float(origin[1]), float(origin[2]))
    grid = VoxelGrid((int(n[2]), int(n[1]), int(n[0])), steps_mm, at)
    z, y, x = (
        o + s * np.arange(k) for o, s, k in zip(at[::-1], steps_mm, grid.shape, strict=True)
    )
    bounds = tuple((float(a[0]), float(a[-1])) for a in (x, y, z))
    share = np.zeros(grid.shape, dtype=np.float32)
    found = cover(distance, (z, y, x), (bounds[0], bounds[1], bounds[2]), thickness_mm=steps_mm[0])
    if found is not None:
        share[found[0]] = found[1]
    return Volume(TISSUE_HU + np.float32(AIR_HU - TISSUE_HU) * share, grid)


def patient_box(patient: Patient) -> Box:
    grid = lumen_grid(patient, 1.0)
    low = np.array(grid.origin_mm) - MARGIN_MM
    return low, low + np.array(grid.extent_mm)[::-1] + 2 * MARGIN_MM


def scanned(
    patient: Patient,
    steps_mm: tuple[float, float, float],
    phase: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Volume:
    distance = patient.frame.posed(patient.airway.distance)
    return image_of(distance, patient_box(patient), steps_mm, phase)


def everywhere(image: Volume) -> Volume:
    return Volume(np.ones(image.grid.shape, dtype=np.uint8), image.grid)


def drawn(image: Volume, planes: dict[str, Plane], **settings: object) -> AirwaySurface:
    """Draw a surface as the stage does, at the level half-way between air and tissue."""
    chosen = SurfaceSettings.model_validate({"isolevel_hu": LEVEL_HU, **settings})
    return build_surface(image, everywhere(image), planes, chosen)


def true_measures(patient: Patient, spacings_mm: tuple[float, float]) -> tuple[float, float]:
    """Return volume (mm3) and wall area (mm2) of the analytic body, extrapolated in the spacing.

    The distance itself is drawn by scikit-image at two fine spacings: no image, no pipeline but the cuts.
    """
    found = []
    for h in spacings_mm:
        low, high = patient_box(patient)
        n = np.ceil((high - low) / h).astype(int)
        at = (float(low[0]), float(low[1]), float(low[2]))
        grid = VoxelGrid((int(n[2]), int(n[1]), int(n[0])), (h, h, h), at)
        values = np.empty(grid.shape, dtype=np.float32)
        for k in range(grid.shape[0]):
            index = np.stack(np.meshgrid([k], *map(np.arange, grid.shape[1:]), indexing="ij"), -1)
            x, y, z = np.moveaxis(grid.to_world_mm(index)[0], -1, 0).astype(np.float32)
            values[k] = patient.frame.posed(patient.airway.distance)(x, y, z)
        inner = np.pad(values[1:-1, 1:-1, 1:-1], 1, constant_values=1.0)
        points, faces, _, _ = measure.marching_cubes(inner, 0.0, gradient_direction="ascent")
        found.append(_cut_measures(Mesh(grid.to_world_mm(points), faces), patient))
    (a, b), (coarse, fine) = spacings_mm, np.array(found)
    best = fine + (fine - coarse) * b**2 / (a**2 - b**2)
    return float(best[0]), float(best[1])


def _cut_measures(mesh: Mesh, patient: Patient) -> tuple[float, float]:
    mesh = mesh if volume_mm3(mesh) > 0 else Mesh(mesh.points, mesh.faces[:, ::-1])
    caps = []
    for plane in true_planes(patient).values():
        inlet = plane.name.startswith("nostril")
        mesh, opening = cut_open(mesh, plane, keep_ahead=inlet)
        caps.append(cap(opening, outward_ahead=not inlet))
    return volume_mm3(join([mesh, *caps])), area_mm2(mesh)


@dataclass(frozen=True)
class Deviation:
    """Hold how far a wall is from the true one: distance (mm) and angle of normals (degrees)."""

    rms_mm: float
    p99_mm: float
    angle_rms_degrees: float
    angle_median_degrees: float


def deviation(wall: Mesh, patient: Patient, *, every: int = 1) -> Deviation:
    """Compare a wall's faces, or every nth, with the analytic distance at their centres."""
    area = normals_mm2(wall)[::every]
    size = np.linalg.norm(area, axis=1)
    centre = wall.points[wall.faces[::every]].mean(axis=1)
    distance = airway_distance_mm(patient, centre)
    ends = [
        airway_distance_mm(patient, centre + s * e) for e in np.eye(3) for s in (STEP_MM, -STEP_MM)
    ]
    slope = np.stack([ends[2 * i] - ends[2 * i + 1] for i in range(3)], axis=1)
    slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12)
    cosine = (slope * area).sum(axis=1) / np.maximum(size, 1e-12)
    angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    near = (np.abs(distance) < FAR_MM) & (size > 0)
    d, a, w = distance[near], angle[near], size[near] / size[near].sum()
    return Deviation(
        float(np.sqrt((w * d**2).sum())),
        float(np.quantile(np.abs(d), 0.99)),
        float(np.sqrt((w * a**2).sum())),
        float(np.median(a)),
    )


def slot(width_mm: float, tilt: tuple[float, float, float]) -> tuple[Distance, np.ndarray]:
    """Return the distance to a slot 16 mm high and endless, and the normal of its flat walls."""
    normal = np.array(tilt) / np.linalg.norm(tilt)
    up = np.cross(normal, (0.0, 1.0, 0.0))
    up /= np.linalg.norm(up)

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        across = normal[0] * x + normal[1] * y + normal[2] * z
        along = np.maximum(np.abs(up[0] * x + up[1] * y + up[2] * z) - 8.0, 0.0)
        result: np.ndarray = np.hypot(across, along) - 0.5 * width_mm
        return result.astype(x.dtype)

    return distance, normal


def slot_width_mm(wall: Mesh, normal: np.ndarray) -> float:
    """Return the mean width of the slot's flat part."""
    up = np.cross(normal, (0.0, 1.0, 0.0))
    flat = np.abs(wall.points @ up / np.linalg.norm(up)) < 6.0
    return 2.0 * float(np.abs(wall.points[flat] @ normal).mean())


def slot_surface(width_mm: float, steps_mm: tuple[float, float, float], iterations: int) -> float:
    """Return the width at which the pipeline draws a slot."""
    distance, normal = slot(width_mm, (0.82, 0.31, 0.48))
    way = np.cross(normal, np.cross(normal, (0.0, 1.0, 0.0)))
    way /= np.linalg.norm(way)
    planes = {
        name: Plane(
            name, tuple(float(v) for v in s * 10.0 * way), tuple(float(v) for v in way), 12.0
        )
        for name, s in (("nostril-left", -1), ("pharynx", 1))
    }
    image = image_of(distance, (np.full(3, -19.0), np.full(3, 19.0)), steps_mm)
    surface = drawn(image, planes, smoothing_iterations=iterations)
    return slot_width_mm(surface.wall, normal)


def convergence_lines(patient: Patient) -> Iterator[str]:
    volume, area = true_measures(patient, (0.3, 0.21))
    yield f"Truth: {volume:.0f} mm3, wall {area:.0f} mm2. Voxels and the surface's grid have the same edge."
    yield "| voxel, mm | volume, % | order | wall area, % | order | distance RMS, mm |"
    yield "|---|---|---|---|---|---|"
    last: tuple[float, np.ndarray] | None = None
    for h in SPACINGS_MM:
        rows = []
        for phase in PHASES:
            surface = drawn(scanned(patient, (h, h, h), phase), true_planes(patient), spacing_mm=h)
            rms = deviation(surface.wall, patient).rms_mm
            rows.append((volume_mm3(surface.whole) / volume, area_mm2(surface.wall) / area, rms))
        v, a, rms = np.mean(rows, axis=0)
        error = np.array([v - 1.0, a - 1.0])
        order = ["", ""]
        if last is not None:
            order = [f"{o:.1f}" for o in np.log(last[1] / error) / np.log(last[0] / h)]
        last = (h, error)
        yield f"| {h} | {100 * error[0]:+.2f} | {order[0]} | {100 * error[1]:+.2f} | {order[1]} | {rms:.3f} |"


def smoothing_lines(patient: Patient) -> Iterator[str]:
    yield (
        "| voxel (x, y, z), mm | noise, HU | smoothing | volume change, % | distance RMS, mm "
        "| 99 %, mm | normal, RMS ° | median ° |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    rng = np.random.default_rng(0)
    for steps in ((0.5, 0.5, 0.5), (0.62, 0.62, 0.62), (1.5, 0.4, 0.4)):
        clean = scanned(patient, steps, PHASES[0])
        # In-plane correlated, as filtered back-projection leaves it.
        noise = ndimage.gaussian_filter(rng.normal(0.0, 1.0, clean.values.shape), (0, 0.6, 0.6))
        for hu in (0.0, 14.0):
            values = clean.values + np.float32(hu / noise.std()) * noise.astype(np.float32)
            for iterations, band in ((0, 0.2), (20, 0.2), (20, 0.05)):
                s = drawn(
                    Volume(values, clean.grid),
                    true_planes(patient),
                    smoothing_iterations=iterations,
                    smoothing_pass_band=band,
                )
                d = deviation(s.wall, patient)
                size = " x ".join(f"{v:g}" for v in steps[::-1])
                how = f"{iterations} x {band:g}" if iterations else "none"
                yield (
                    f"| {size} | {hu:g} | {how} | {s.volume_change_percent:+.3f} "
                    f"| {d.rms_mm:.4f} | {d.p99_mm:.3f} "
                    f"| {d.angle_rms_degrees:.2f} | {d.angle_median_degrees:.2f} |"
                )


def slot_lines() -> Iterator[str]:
    yield "| slot, mm | voxel, mm | drawn without smoothing, mm | with, mm |"
    yield "|---|---|---|---|"
    for width in (1.0, 1.5, 2.0):
        for h in (0.5, 0.7, 1.0):
            raw, smooth = (slot_surface(width, (h, h, h), n) for n in (0, 20))
            yield f"| {width} | {h} | {raw:.3f} | {smooth:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args()
    patient = patient_of(options.seed, "open")
    lines = []
    for part in (convergence_lines(patient), smoothing_lines(patient), slot_lines()):
        for line in part:
            print(line, flush=True)
            lines.append(line)
        lines.append("")
    options.output.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
