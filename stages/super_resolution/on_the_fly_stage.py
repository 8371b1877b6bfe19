"""Read a patient's thick slices and thin-slice region, fit a network, and write both results."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.core.artefacts import Pending, check_writable, digest, publish, read_json
from pipeline.core.provenance import code_digest
from pipeline.core.volume import Volume, read_volume
from stages.super_resolution.baselines import thin_grid
from stages.super_resolution.cases import check_finite
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.description import MACHINE_SETTINGS, STAGE
from stages.super_resolution.history import with_history
from stages.super_resolution.model import Model
from stages.super_resolution.model_choice import model_folder
from stages.super_resolution.model_io import (
    DESCRIPTION,
    load_model,
    network_settings_of,
    save_model,
)
from stages.super_resolution.on_the_fly import (
    REGION,
    check_view,
    fitted_layout,
    freeze_statistics,
    held_out_case,
    make_sampler,
    split_cells,
    takes_measured,
    training_settings,
)
from stages.super_resolution.processes import refuse_several
from stages.super_resolution.region import Agreement, Region, judge_agreement, place_region
from stages.super_resolution.settings import (
    OnTheFlySettings,
    RestorationSettings,
    TrainingSettings,
)
from stages.super_resolution.stage import restore
from stages.super_resolution.training import Judgement, TrainingResult
from stages.super_resolution.training_stage import (
    TOLERANCE,
    Machine,
    Preparation,
    check_patch,
    chosen_machine,
    run_training,
    use_threads,
    working_folder,
)
from stages.super_resolution.validation import Score

_LOG = logging.getLogger("ct2flow.train")
_TILE = 768


@dataclass(frozen=True)
class Fit:
    """Hold what a fit needs: base model, region, pairs, settings, and what it begins with."""

    base: Path
    region: Region
    agreement: Agreement
    measured: bool
    learning: int
    settings: TrainingSettings
    ready: Preparation
    before: Score


def train_on_the_fly(
    thick: Path,
    output: Path,
    settings: OnTheFlySettings,
    *,
    region: Path,
    model: str,
    restored: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Fit a model to a patient's thin-slice region; write its MODEL_DIR and the restored whole.

    Parameters
    ----------
    thick
        Thick slices of the whole along z, HU.
    output
        MODEL_DIR to write. The state for resuming lies beside it until the fit is done.
    settings
        Pairs and schedule.
    region
        Thin slices of a part, in the same frame of reference, HU.
    model
        MODEL_DIR that the fit starts from, or ``shipped``.
    restored
        Volume to write of the thick slices restored by the fitted model; None: none.
    overwrite
        Replace existing outputs.

    Raises
    ------
    InputError
        If a volume or the model is unusable, or the region does not lie within the thick slices.
    UsageError
        If several processes were started, an output exists, the patch does not suit the network,
        or the model sees upright planes.
    NumericalError
        If the training diverges.
    """
    refuse_several("train on-the-fly")
    use_threads(settings.threads)
    base, machine = model_folder(model), chosen_machine(settings)
    for path in (output, *([restored] if restored else [])):
        check_writable(path, overwrite=overwrite)
    whole, part = _read(thick), _read(region)
    inputs = {"thick": digest(thick), "region": digest(region), "model": digest(base)}
    with publish(
        output,
        kind="model",
        stage=STAGE,
        settings=settings,
        inputs=inputs,
        seed=settings.seed,
        device=machine.device,
        tolerance=TOLERANCE,
        overwrite=overwrite,
        folder=True,
    ) as pending:
        fit = _prepare(whole, part, base, settings, machine)
        mark = _fingerprint(inputs, settings, machine)
        store = CheckpointFolder(working_folder(output), mark)
        result = run_training(fit.ready, fit.settings, store, machine)
        _write(pending, fit, result, settings, inputs)
        (pending.path / "metrics.jsonl").write_text(store.metrics())
    store.remove()
    if restored is not None:
        chosen = RestorationSettings(
            factor=fit.ready.model.layout.factor,
            precision=settings.precision,
            device=settings.device,
            threads=settings.threads,
        )
        restore(thick, restored, chosen, model=str(output), overwrite=overwrite)


def _read(path: Path) -> Volume:
    volume = read_volume(path)
    check_finite(volume, path)
    return volume


def _prepare(
    whole: Volume, part: Volume, base: Path, settings: OnTheFlySettings, machine: Machine
) -> Fit:
    """Place the region, choose the pairs, and judge the model as it is."""
    model = load_model(base)
    check_view(model.layout)
    freeze_statistics(model.network)
    slices = model.layout.slices
    grid = whole.grid if slices == 1 else thin_grid(whole.grid, slices)
    region = place_region(whole, grid, part, slices)
    agreement = judge_agreement(region, model.layout)
    measured = takes_measured(settings, agreement)
    training = training_settings(model, _trained(base), region, settings)
    check_patch(training.patch, model)
    learning, _ = split_cells(region, model.layout, settings.held_out)
    case = held_out_case(region, model, learning, measured=agreement.is_good)
    before = Judgement(_placed(model, machine), [case], machine.precision, machine.device).scores()
    fitted = replace(model, layout=fitted_layout(model.layout, measured=measured))
    sampler = make_sampler(region, fitted, training, learning, measured=measured)
    ready = Preparation(fitted, sampler, [case])
    return Fit(base, region, agreement, measured, learning, training, ready, before[REGION])


def _placed(model: Model, machine: Machine) -> Model:
    return replace(model, network=model.network.to(machine.device))


def _trained(base: Path) -> dict[str, Any]:
    return dict(read_json(base / DESCRIPTION).get("training", {}))


def _write(
    pending: Pending,
    fit: Fit,
    result: TrainingResult,
    settings: OnTheFlySettings,
    inputs: dict[str, str],
) -> None:
    """Write the fitted model, or the one before where the held-out slices say so."""
    after, kept, which = result.scores[REGION], result.model, "fitted"
    _LOG.info("held-out slices: %.2f dB before, %.2f dB after", fit.before.psnr_db, after.psnr_db)
    if after.psnr_db <= fit.before.psnr_db:
        kept, which = load_model(fit.base), "before"
        pending.warnings.append(
            f"The fit did not help: held-out slices at {after.psnr_db:.2f} dB after it and "
            f"{fit.before.psnr_db:.2f} dB before; the model before was kept."
        )
    record = _description(fit, result, after, settings)
    record["metrics"]["kept"] = which
    record["provenance"]["inputs_sha256"] = inputs
    record["provenance"]["cases"] = with_history(record["provenance"]["cases"], fit.base)
    save_model(pending.path, kept, network_settings_of(fit.base), record)
    pending.properties |= record["metrics"]
    pending.warnings += _caveats(fit)


def _caveats(fit: Fit) -> list[str]:
    found = []
    if not fit.agreement.is_good:
        found.append(
            f"The region explains {fit.agreement.explained:.0%} of the thick slices and lies "
            f"{fit.agreement.displaced} voxels (z, y, x) beside where it agrees better: the patient "
            "may have moved; simulated thick slices were learnt from and judged."
        )
    if fit.region.outside_mm > fit.region.spacing_mm[0]:
        found.append(
            f"{fit.region.outside_mm:.1f} mm of the region lie beyond the thick slices and were "
            "not used."
        )
    return found


def _description(
    fit: Fit, result: TrainingResult, after: Score, settings: OnTheFlySettings
) -> dict[str, Any]:
    """Return the sections training, metrics and provenance of model.json."""
    case = fit.ready.judged[0]
    scores = {"": after, "before_": fit.before, "histospline_": case.histospline}
    numbers = {
        f"{prefix}{name}": round(value, 4)
        for prefix, score in scores.items()
        for name, value in asdict(score).items()
        if value is not None
    }
    pairs = "measured" if fit.measured else "simulated"
    return {
        "training": fit.settings.model_dump(mode="json") | {"pairs": pairs},
        "metrics": {
            "step": result.step,
            "validation": {REGION: numbers},
            "pairs": pairs,
            "learnt_thick_slices": fit.learning,
            "held_out_thick_slices": len(case.true),
            "agreement_rms_hu": round(fit.agreement.rms_hu, 2),
            "agreement_explained": round(fit.agreement.explained, 4),
        },
        "provenance": {
            "cases": [{"case": REGION, "role": "train", "licence": "the patient's own"}],
            "code": code_digest(STAGE),
            "command": "ct2flow train on-the-fly THICK --region THIN --output MODEL_DIR "
            f"--pairs {pairs} --steps {settings.steps} --seed {settings.seed}",
        },
    }


def _fingerprint(inputs: dict[str, str], settings: OnTheFlySettings, machine: Machine) -> str:
    """Digest everything that shapes a fit: a state of another one is not resumed."""
    facts = {
        "settings": settings.model_dump(mode="json", exclude=MACHINE_SETTINGS),
        "precision": machine.precision,
        "inputs": inputs,
        "code": code_digest(STAGE),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
