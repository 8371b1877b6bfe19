"""Commands of the comparison stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.comparison.settings import ComparisonSettings

Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]

app = App(name="compare", help="Compare flows, images or surfaces of one case with a baseline.")


@app.default
def flows(
    flow_dirs: Annotated[tuple[Path, ...], Parameter(name="FLOW_DIR")],
    /,
    *,
    baseline: Path,
    output: Path,
    coarse: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    members: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    ensemble: str = "sr",
    names: Names = (),
    overwrite: bool = False,
) -> None:
    """Compare pressure losses with a baseline; variants are named by their folders.

    Parameters
    ----------
    flow_dirs
        Flow folders.
    baseline
        Flow folder of the baseline, such as the HR one.
    output
        JSON file to write.
    coarse
        Flow folders of the same folder names on coarser lattices; they give the discretisation
        error: two lattices by assuming first order, three by the observed order.
    members
        Flow folders of single networks whose mean is the variant `ensemble`; the standard
        deviation of their losses is its model_std_pa.
    ensemble
        Name of the variant that the members belong to.
    names
        Names for the flows instead of their folders', in their order.
    overwrite
        Replace an existing output.
    """
    from stages.comparison.stage import run_flows

    run_flows(
        flow_dirs,
        output,
        baseline=baseline,
        coarse=coarse,
        members=members,
        ensemble=ensemble,
        names=names,
        overwrite=overwrite,
    )


@app.command
def images(
    restored: tuple[Path, ...],
    /,
    *,
    reference: Path,
    output: Path,
    airway: Path | None = None,
    region: Path | None = None,
    settings: Annotated[ComparisonSettings, Parameter(name="*")] = ComparisonSettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Compare restored volumes with the thin-slice one: PSNR (range 4095 HU), SSIM, wall band.

    Parameters
    ----------
    restored
        Volumes; methods are named by their files.
    reference
        Thin-slice volume.
    output
        JSON file to write.
    airway
        Airway folder of the reference; its wall makes the band. Without it every wall between
        air and tissue inside the head does.
    region
        Mask that says where air belongs to the airway, instead of the airway folder's.
    settings
        Where the wall is.
    overwrite
        Replace an existing output.
    """
    from stages.comparison.stage import run_images

    run_images(
        restored,
        output,
        settings,
        reference=reference,
        airway=airway,
        region=region,
        overwrite=overwrite,
    )


@app.command
def surfaces(
    surface_dirs: tuple[Path, ...],
    /,
    *,
    reference: Path,
    output: Path,
    names: Names = (),
    overwrite: bool = False,
) -> None:
    """Compare surfaces with the thin-slice one: mean and 95 % Hausdorff distance, volume.

    Parameters
    ----------
    surface_dirs
        Surface folders; variants are named by them.
    reference
        Surface folder of the thin-slice scan.
    output
        JSON file to write.
    names
        Names for the surfaces instead of their folders', in their order.
    overwrite
        Replace an existing output.
    """
    from stages.comparison.stage import run_surfaces

    run_surfaces(surface_dirs, output, reference=reference, names=names, overwrite=overwrite)
