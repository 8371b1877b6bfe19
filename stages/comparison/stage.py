"""Read the artefacts of one case, compare them and write JSON."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Bool, Float

from pipeline.core.artefacts import digest, publish, read_json, write_json
from pipeline.core.errors import InputError
from pipeline.core.units import MM3_PER_ML
from pipeline.core.volume import Volume, read_volume
from stages.comparison.flows import compare_flows
from stages.comparison.images import FULL_RANGE_HU, SSIM_WINDOW, image_errors, wall_band
from stages.comparison.settings import ComparisonSettings
from stages.comparison.surfaces import surface_distance

_LOG = logging.getLogger("ct2flow.comparison")
COMPARISON_FORMAT = 1


def run_flows(
    flows: Sequence[Path],
    output: Path,
    *,
    baseline: Path,
    coarse: Sequence[Path] = (),
    overwrite: bool = False,
) -> None:
    """Compare flow folders with a baseline and write JSON.

    Parameters
    ----------
    flows
        Flow folders; each variant is named by its folder.
    output
        JSON file to write.
    baseline
        Flow folder of the baseline; it may be among the flows.
    coarse
        Flow folders of the same names on a coarser lattice.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If a folder holds no flow.json, or a coarse lattice is not coarser.
    """
    folders = list(dict.fromkeys([baseline, *flows]))
    read = {folder.name: _read_flow(folder) for folder in folders}
    rough = {folder.name: _read_flow(folder) for folder in coarse}
    for name in read.keys() & rough.keys():
        fine_mm, rough_mm = (f[name]["lattice"]["spacing_mm"] for f in (read, rough))
        if rough_mm <= fine_mm:
            raise InputError(
                f"{name}: the coarse lattice of {rough_mm} mm is not coarser than {fine_mm} mm; "
                "give the finer run as FLOW_DIR and the coarser one with --coarse."
            )
    with publish(
        output,
        kind="flow-comparison",
        stage="comparison",
        settings={"baseline": baseline.name},
        inputs={f"{f.parent.name}/{f.name}": digest(f) for f in [*folders, *coarse]},
        overwrite=overwrite,
    ) as pending:
        entries = compare_flows(read, baseline.name, rough)
        pending.warnings += _flow_warnings(entries)
        for warning in pending.warnings:
            _LOG.warning("%s", warning)
        write_json(
            pending.path,
            {"format": COMPARISON_FORMAT, "baseline": baseline.name, "pressure_loss": entries},
        )


def _read_flow(folder: Path) -> dict[str, Any]:
    content = read_json(folder / "flow.json")
    needed = {"openings", "pressure_loss", "lattice", "numbers", "convergence"}
    missing = sorted(needed - content.keys())
    if missing:
        raise InputError(
            f"{folder.name}/flow.json: lacks {', '.join(missing)}; run 'ct2flow simulate' again."
        )
    return content


def _flow_warnings(entries: dict[str, dict[str, Any]]) -> list[str]:
    found = []
    for name, entry in entries.items():
        if not entry["converged"]:
            found.append(f"{name}: the flow has not converged; its mean over time is compared.")
        if entry["resolved"] is False:
            found.append(
                f"{name}: the deviation of {entry['deviation_from_hr_percent']:+.1f} % is smaller "
                f"than the discretisation error of {entry['discretisation_percent']:.1f} %; it is "
                "not resolved."
            )
    return found


def run_images(
    restored: Sequence[Path],
    output: Path,
    settings: ComparisonSettings,
    *,
    reference: Path,
    airway: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Compare restored volumes with the thin-slice one and write JSON.

    Parameters
    ----------
    restored
        Volumes on the reference's grid; each method is named by its file.
    output
        JSON file to write.
    settings
        Where the wall is.
    reference
        Thin-slice volume.
    airway
        Airway folder, whose lumen's wall makes the band; without it, or if the airway is not
        patent, every wall between air and tissue counts.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If a volume is unusable or lies on another grid.
    """
    truth = read_volume(reference)
    lumen = None if airway is None else _lumen_on(airway, truth)
    band = wall_band(
        truth.values,
        truth.grid.spacing_mm,
        isolevel_hu=settings.isolevel_hu,
        width_mm=settings.wall_band_mm,
        lumen=lumen,
    )
    inputs = [reference, *restored, *([airway] if airway is not None else [])]
    with publish(
        output,
        kind="image-comparison",
        stage="comparison",
        settings=settings,
        inputs=inputs,
        overwrite=overwrite,
    ) as pending:
        methods = {}
        for path in restored:
            volume = read_volume(path)
            _check_grid(path, volume, truth)
            methods[path.name.split(".")[0]] = image_errors(truth.values, volume.values, band)
        definition = {
            "psnr_range_hu": list(FULL_RANGE_HU),
            "psnr_pooling": "error pooled over all voxels of the volume",
            "ssim_window": SSIM_WINDOW,
            "airway_wall_band_mm": settings.wall_band_mm,
            "airway_wall": "lumen of the airway" if lumen is not None else "every air-tissue wall",
            "airway_wall_voxels": int(band.sum()),
        }
        write_json(
            pending.path,
            {"format": COMPARISON_FORMAT, "definition": definition, "methods": methods},
        )


def _lumen_on(airway: Path, volume: Volume) -> Bool[np.ndarray, "z y x"] | None:
    """Return the lumen on the volume's grid, or None if the airway has none."""
    path = airway / "lumen.nii.gz"
    if not path.is_file():
        return None
    lumen = read_volume(path)
    if not lumen.values.any():
        return None
    if lumen.grid.matches(volume.grid):
        mask: Bool[np.ndarray, "z y x"] = lumen.values > 0
        return mask
    return _nearest(lumen, volume)


def _nearest(lumen: Volume, volume: Volume) -> Bool[np.ndarray, "z y x"]:
    """Sample a mask at the voxel centres of another grid (both grids share their axes)."""
    corner = lumen.grid.to_index(volume.grid.to_world_mm(np.zeros(3)))
    mask = np.zeros(volume.grid.shape, dtype=bool)
    index = []
    for axis, size in enumerate(volume.grid.shape):
        unit = np.zeros(3)
        unit[axis] = 1.0
        step = lumen.grid.to_index(volume.grid.to_world_mm(unit)) - corner
        index.append(np.rint(corner[axis] + step[axis] * np.arange(size)).astype(int))
    valid = [(i >= 0) & (i < n) for i, n in zip(index, lumen.grid.shape, strict=True)]
    target = np.ix_(*(np.flatnonzero(v) for v in valid))
    source = np.ix_(*(i[v] for i, v in zip(index, valid, strict=True)))
    mask[target] = lumen.values[source] > 0
    return mask


def _check_grid(path: Path, volume: Volume, truth: Volume) -> None:
    if not volume.grid.matches(truth.grid, tolerance_mm=0.01):
        raise InputError(
            f"{path.name}: its grid of {volume.grid.shape} voxels is not the reference's of "
            f"{truth.grid.shape} voxels at the same place; restore it from slices of that volume."
        )


def run_surfaces(
    surfaces: Sequence[Path], output: Path, *, reference: Path, overwrite: bool = False
) -> None:
    """Compare surface folders with the thin-slice one and write JSON.

    Parameters
    ----------
    surfaces
        Surface folders; each variant is named by its folder.
    output
        JSON file to write.
    reference
        Surface folder of the thin-slice scan; it may be among the surfaces.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If a folder lacks its wall or a patch is unreadable.
    """
    folders = list(dict.fromkeys([reference, *surfaces]))
    with publish(
        output,
        kind="surface-comparison",
        stage="comparison",
        settings={"reference": reference.name},
        inputs=folders,
        overwrite=overwrite,
    ) as pending:
        truth = read_triangles(reference / "wall.stl")
        entries = {f.name: _compare_surface(f, truth, own=f == reference) for f in folders}
        write_json(
            pending.path,
            {"format": COMPARISON_FORMAT, "reference": reference.name, "surfaces": entries},
        )


def _compare_surface(
    folder: Path, truth: Float[np.ndarray, "face 3 3"], *, own: bool
) -> dict[str, Any]:
    record = read_json(folder / "surface.json") if (folder / "surface.json").is_file() else {}
    entry: dict[str, Any] = {
        "volume_ml": record.get("volume_ml", _enclosed_ml(folder)),
        "minimal_area_mm2": record.get("minimal_area_mm2"),
        "mean_distance_mm": 0.0,
        "hausdorff95_mm": 0.0,
        "largest_distance_mm": 0.0,
        "largest_distance_place_mm": None,
    }
    if own:
        return entry
    distance = surface_distance(truth, read_triangles(folder / "wall.stl"))
    return entry | {
        "mean_distance_mm": distance.mean_mm,
        "hausdorff95_mm": distance.hausdorff95_mm,
        "largest_distance_mm": distance.largest_mm,
        "largest_distance_place_mm": list(distance.largest_place_mm),
    }


def _enclosed_ml(folder: Path) -> float:
    triangles = np.concatenate([read_triangles(p) for p in _patches(folder)])
    centred = triangles - triangles.mean(axis=(0, 1))
    crossed = np.cross(centred[:, 1], centred[:, 2])
    return abs(float(np.einsum("fi,fi->", centred[:, 0], crossed))) / 6.0 / MM3_PER_ML


def _patches(folder: Path) -> list[Path]:
    names = ("wall", "inlet", "outlet")
    return sorted(p for p in folder.glob("*.stl") if p.stem.startswith(names))


def read_triangles(path: Path) -> Float[np.ndarray, "face 3 3"]:
    """Read an STL file.

    Raises
    ------
    InputError
        If it is missing or no STL.
    """
    try:
        mesh = trimesh.load_mesh(path, file_type="stl", process=False)
        return np.asarray(mesh.triangles, dtype=np.float64)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path.parent.name}/{path.name}: is missing or no readable STL; run "
            "'ct2flow surface' again."
        ) from error
