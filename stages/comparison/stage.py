"""Read the artefacts of one case, compare them and write JSON."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Shaped

from pipeline.core.artefacts import digest, publish, read_json, write_json
from pipeline.core.errors import InputError, UsageError
from pipeline.core.progress import track
from pipeline.core.volume import Volume, read_volume
from stages.comparison.flow_record import FlowRecord, parse_flow
from stages.comparison.flows import (
    COMPARISON_FORMAT,
    compare_flows,
    deviation_percent,
    flow_comparison,
    flow_warnings,
    members_spread,
)
from stages.comparison.images import (
    FULL_RANGE_HU,
    MS_SSIM_DEFINITION,
    SOFT_TISSUE_HU,
    SSIM_DEFINITION,
    image_errors,
    ms_ssim,
)
from stages.comparison.settings import ComparisonSettings
from stages.comparison.surfaces import DEFINITION, enclosed_ml, surface_distance
from stages.comparison.walls import wall_band

_LOG = logging.getLogger("ct2flow.comparison")


def run_flows(
    flows: Sequence[Path],
    output: Path,
    *,
    baseline: Path,
    coarse: Sequence[Path] = (),
    members: Sequence[Path] = (),
    ensemble: str = "sr",
    names: Sequence[str] = (),
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
        Flow folders of the same folder names on one or more coarser lattices.
    members
        Flow folders of single networks whose mean is one of the variants.
    ensemble
        Name of that variant.
    names
        Names for the flows instead of their folders', in their order.
    overwrite
        Replace an existing output.

    Raises
    ------
    UsageError
        If two flows have one name, or the ensemble is not among them.
    InputError
        If a folder holds no usable flow.json, or a coarse lattice is not coarser.
    """
    folders = named_folders(flows, names, baseline)
    fine = {name: _read_flow(folder) for name, folder in folders.items()}
    rough = _read_coarse(coarse, folders, fine)
    single = {folder.name: _read_flow(folder) for folder in members}
    if single and ensemble not in fine:
        raise UsageError(
            f"--members: the variant {ensemble} is not compared; give its flow or --ensemble NAME."
        )
    with publish(
        output,
        kind="flow-comparison",
        stage="comparison",
        settings={"baseline": _name_of(baseline, folders)},
        inputs=_flow_digests(folders, coarse)
        | {f"member/{folder.name}": digest(folder) for folder in members},
        overwrite=overwrite,
    ) as pending:
        entries = compare_flows(fine, _name_of(baseline, folders), rough)
        if single:
            entries[ensemble] |= members_spread(single)
        pending.warnings += flow_warnings(entries)
        for warning in pending.warnings:
            _LOG.warning("%s", warning)
        write_json(pending.path, flow_comparison(entries, _name_of(baseline, folders)))


def named_folders(
    paths: Sequence[Path], names: Sequence[str], first: Path | None
) -> dict[str, Path]:
    """Name artefacts by their folders or as told; `first` leads, wherever it stands.

    Raises
    ------
    UsageError
        If names and artefacts differ in number, or two artefacts have one name.
    """
    if names and len(names) != len(paths):
        raise UsageError(
            f"--names: {len(names)} names for {len(paths)} inputs; give one for each."
        )
    own = dict(zip(paths, names or [path.name for path in paths], strict=True))
    found = {} if first is None else {own.get(first, first.name): first}
    for path, name in own.items():
        if found.setdefault(name, path) != path:
            raise UsageError(f"{name}: two inputs have this name; rename one.", name=name)
    return found


def _name_of(folder: Path, folders: Mapping[str, Path]) -> str:
    return next(name for name, path in folders.items() if path == folder)


def _read_flow(folder: Path) -> FlowRecord:
    return parse_flow(folder.name, read_json(folder / "flow.json"))


def _read_coarse(
    coarse: Sequence[Path], folders: Mapping[str, Path], fine: Mapping[str, FlowRecord]
) -> dict[str, list[FlowRecord]]:
    by_folder = {folder.name: name for name, folder in folders.items()}
    found: dict[str, list[FlowRecord]] = {}
    for folder in coarse:
        if folder.name not in by_folder:
            raise UsageError(
                f"--coarse {folder.name}: no flow of this folder name is compared; give the same "
                "cases on both lattices."
            )
        found.setdefault(by_folder[folder.name], []).append(_read_flow(folder))
    for name, rough in found.items():
        rough.sort(key=lambda flow: flow.lattice.spacing_mm)
        spacings = [flow.lattice.spacing_mm for flow in (fine[name], *rough)]
        if any(b <= a for a, b in pairwise(spacings)):
            raise InputError(
                f"{name}: its lattices of {spacings} mm do not become coarser; give the finest "
                "run as FLOW_DIR and the others with --coarse.",
                spacings_mm=spacings,
            )
    return found


def _flow_digests(folders: Mapping[str, Path], coarse: Sequence[Path]) -> dict[str, str]:
    fine = {name: digest(folder) for name, folder in folders.items()}
    return fine | {f"coarse-{i}/{f.name}": digest(f) for i, f in enumerate(coarse, start=1)}


def run_images(
    restored: Sequence[Path],
    output: Path,
    settings: ComparisonSettings,
    *,
    reference: Path,
    airway: Path | None = None,
    region: Path | None = None,
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
        Airway folder, whose region says which air's wall makes the band; without it, or if the
        airway is not patent, every wall between air and tissue inside the head counts.
    region
        Mask used instead of the airway folder's.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If a volume is unusable or lies on another grid.
    """
    truth = read_volume(reference)
    mask = _mask_file(airway, region)
    inside = None if mask is None else _mask_on(read_volume(mask), truth)
    if inside is not None and not inside.any():
        inside = None
    band = wall_band(
        truth.values,
        truth.grid.spacing_mm,
        isolevel_hu=settings.isolevel_hu,
        width_mm=settings.wall_band_mm,
        region=inside,
    )
    methods = named_folders(restored, [path.name.split(".")[0] for path in restored], None)
    inputs = {"reference": reference, **methods, "mask": mask}
    with publish(
        output,
        kind="image-comparison",
        stage="comparison",
        settings=settings,
        inputs={name: digest(path) for name, path in inputs.items() if path is not None},
        overwrite=overwrite,
    ) as pending:
        errors = {
            name: image_errors(truth.values, _restored(path, truth), band)
            for name, path in track(list(methods.items()), "compare images")
        }
        if settings.ms_ssim:
            for name, path in track(list(methods.items()), "compare scales"):
                errors[name]["ms_ssim"] = ms_ssim(truth.values, _restored(path, truth))
        definition = {
            "psnr_range_hu": list(FULL_RANGE_HU),
            "psnr_peak_hu": FULL_RANGE_HU[1] - FULL_RANGE_HU[0],
            "psnr_pooling": "error pooled over all voxels of the volume",
            "psnr_soft_tissue_window_hu": list(SOFT_TISSUE_HU),
            "ssim": SSIM_DEFINITION,
            **({"ms_ssim": MS_SSIM_DEFINITION} if settings.ms_ssim else {}),
            "airway_wall_band_mm": settings.wall_band_mm,
            "airway_wall": "every air-tissue wall inside the head" if inside is None else "airway",
            "airway_wall_voxels": int(band.sum()),
        }
        write_json(
            pending.path,
            {"format": COMPARISON_FORMAT, "definition": definition, "methods": errors},
        )


def _mask_file(airway: Path | None, region: Path | None) -> Path | None:
    """Return the mask that says where the airway is: its region reaches over the wall."""
    if region is not None:
        return region
    known = () if airway is None else (airway / "region.nii.gz", airway / "lumen.nii.gz")
    return next((path for path in known if path.is_file()), None)


def _mask_on(mask: Volume, volume: Volume) -> Bool[np.ndarray, "z y x"]:
    """Return the mask on the volume's grid, the nearest voxel's value."""
    if mask.grid.matches(volume.grid):
        same: Bool[np.ndarray, "z y x"] = mask.values > 0
        return same
    return _nearest(mask, volume)


def _nearest(mask: Volume, volume: Volume) -> Bool[np.ndarray, "z y x"]:
    """Sample a mask at the voxel centres of another grid (both grids share their axes)."""
    corner = mask.grid.to_index(volume.grid.to_world_mm(np.zeros(3)))
    sampled = np.zeros(volume.grid.shape, dtype=bool)
    index = []
    for axis, size in enumerate(volume.grid.shape):
        unit = np.zeros(3)
        unit[axis] = 1.0
        step = mask.grid.to_index(volume.grid.to_world_mm(unit)) - corner
        index.append(np.rint(corner[axis] + step[axis] * np.arange(size)).astype(int))
    valid = [(i >= 0) & (i < n) for i, n in zip(index, mask.grid.shape, strict=True)]
    target = np.ix_(*(np.flatnonzero(v) for v in valid))
    source = np.ix_(*(i[v] for i, v in zip(index, valid, strict=True)))
    sampled[target] = mask.values[source] > 0
    return sampled


def _restored(path: Path, truth: Volume) -> Shaped[np.ndarray, "z y x"]:
    volume = read_volume(path)
    if not volume.grid.matches(truth.grid, tolerance_mm=0.01):
        raise InputError(
            f"{path.name}: its grid of {volume.grid.shape} voxels is not the reference's of "
            f"{truth.grid.shape} voxels at the same place; restore it from slices of that volume."
        )
    return volume.values


def run_surfaces(
    surfaces: Sequence[Path],
    output: Path,
    *,
    reference: Path,
    names: Sequence[str] = (),
    overwrite: bool = False,
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
    names
        Names for the surfaces instead of their folders', in their order.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If a folder lacks its wall or a patch is unreadable.
    """
    folders = named_folders(surfaces, names, reference)
    with publish(
        output,
        kind="surface-comparison",
        stage="comparison",
        settings={"reference": _name_of(reference, folders)},
        inputs={name: digest(folder) for name, folder in folders.items()},
        overwrite=overwrite,
    ) as pending:
        truth = read_triangles(reference / "wall.stl")
        entries = {
            name: _compare_surface(folders[name], truth, own=folders[name] == reference)
            for name in track(list(folders), "compare surfaces")
        }
        reference_ml = entries[_name_of(reference, folders)]["volume_ml"]
        for entry in entries.values():
            entry["volume_deviation_percent"] = deviation_percent(entry["volume_ml"], reference_ml)
        content = {"format": COMPARISON_FORMAT, "reference": _name_of(reference, folders)}
        write_json(pending.path, content | {"definition": DEFINITION, "surfaces": entries})


def _compare_surface(
    folder: Path, truth: Float[np.ndarray, "face 3 3"], *, own: bool
) -> dict[str, Any]:
    record = read_json(folder / "surface.json") if (folder / "surface.json").is_file() else {}
    entry: dict[str, Any] = {
        "volume_ml": record["volume_ml"] if "volume_ml" in record else _volume_ml(folder),
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


def _volume_ml(folder: Path) -> float:
    return enclosed_ml(np.concatenate([read_triangles(path) for path in _patches(folder)]))


def _patches(folder: Path) -> list[Path]:
    openings = sorted(p for p in folder.glob("*.stl") if p.stem.startswith(("inlet", "outlet")))
    # Read even where it is missing, so that a folder without it is refused by name.
    return [folder / "wall.stl", *openings]


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
