"""Time the extraction of the surface beside VTK's flying edges on the same grid.

    python benchmarks/surface_speed.py --seed 4

Our extraction calls vtkFlyingEdges3D: "bare" is that filter with the same options and nothing else, "as it
comes" with its default options (normals on). "Ours" is from a NumPy field to a NumPy mesh with outward
normals, everything included. scikit-image's marching cubes is the other peer. Least of the repeats.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from skimage import measure
from surface_convergence import drawn, everywhere, scanned
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

from stages.phantom.stage import patient_of
from stages.phantom.truth import true_planes
from stages.surface.field import compose_field
from stages.surface.isosurface import extract_surface, smooth_surface
from stages.surface.remeshing import remesh_patches


def flying_edges(values: np.ndarray, spacing_mm: float, *, defaults: bool) -> Callable[[], None]:
    image = vtkImageData()
    image.SetDimensions(*values.shape[::-1])
    image.SetSpacing(spacing_mm, spacing_mm, spacing_mm)
    image.GetPointData().SetScalars(numpy_to_vtk(values.ravel()))

    def run() -> None:
        edges = vtkFlyingEdges3D()
        edges.SetInputData(image)
        edges.SetValue(0, 0.0)
        if not defaults:
            edges.ComputeNormalsOff()
            edges.ComputeGradientsOff()
            edges.ComputeScalarsOff()
        edges.Update()

    return run


def least_seconds(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Time the actions in turn, so that a busy moment meets all of them."""
    found = dict.fromkeys(actions, np.inf)
    for _ in range(repeats):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            found[name] = min(found[name], time.perf_counter() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--spacings-mm", type=float, nargs="+", default=[0.5, 0.35])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    patient = patient_of(options.seed, "open")
    planes = true_planes(patient)
    image = scanned(patient, (0.8, 0.8, 0.8))
    print("| grid | ours, ms | over flying edges, bare | as it comes | over marching cubes |")
    print("|---|---|---|---|---|")
    for spacing in options.spacings_mm:
        field = compose_field(
            *(image, everywhere(image), planes), isolevel_hu=-480.0, spacing_mm=spacing, order=1
        )
        values = np.ascontiguousarray(field.values, dtype=np.float32)
        found = least_seconds(
            {
                "ours": lambda v=values, g=field.grid: extract_surface(v, g),
                "bare": flying_edges(values, spacing, defaults=False),
                "defaults": flying_edges(values, spacing, defaults=True),
                "cubes": lambda v=values: measure.marching_cubes(v, 0.0),
            },
            options.repeats,
        )
        ours = found.pop("ours")
        ratios = " | ".join(f"{ours / seconds:.2f}" for seconds in found.values())
        shape = " x ".join(map(str, values.shape))
        print(f"| {shape} | {1000 * ours:.0f} | {ratios} |", flush=True)
    _print_other_steps(image, planes)


def _print_other_steps(image: object, planes: dict[str, object]) -> None:
    """Time what follows the extraction at 0.5 mm: smoothing, and remeshing to 0.7 mm."""
    surface = drawn(image, planes)
    patches = {"wall": surface.wall, **surface.caps}
    remesh_patches(patches, 0.7)
    found = least_seconds(
        {
            "smoothing": lambda: smooth_surface(surface.whole, iterations=20, pass_band=0.2),
            "remeshing": lambda: remesh_patches(patches, 0.7),
        },
        3,
    )
    faces = len(surface.whole.faces)
    print(f"{faces} triangles: " + ", ".join(f"{n} {s:.2f} s" for n, s in found.items()))


if __name__ == "__main__":
    main()
