"""Which models restore: a baseline, a MODEL_DIR, several, or a MODEL_DIR that holds several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.artefacts import digest, read_json
from pipeline.core.errors import InputError, UsageError
from stages.super_resolution.baselines import BASELINES
from stages.super_resolution.model import Model
from stages.super_resolution.model_io import DESCRIPTION, MODEL_FORMAT, load_model
from stages.super_resolution.training_stage import SHIPPED, SHIPPED_FOLDER

NETWORK, ENSEMBLE = "network", "ensemble"


@dataclass(frozen=True)
class ModelChoice:
    """Hold what restores.

    Parameters
    ----------
    name
        ``linear``, ``spline``, ``histospline``, ``network`` or ``ensemble``.
    models
        Networks; empty for a baseline.
    weights
        Weight of each network, of sum 1.
    digests
        sha256 of each given MODEL_DIR by its name.
    """

    name: str
    models: tuple[Model, ...] = ()
    weights: tuple[float, ...] = ()
    digests: tuple[tuple[str, str], ...] = ()

    @property
    def gives_sigma(self) -> bool:
        """Say whether there is a standard deviation: of several models, or one that predicts it."""
        return len(self.models) > 1 or any(m.layout.predicts_variance for m in self.models)


def choose_models(names: Sequence[str], factor: int) -> ModelChoice:
    """Read the models that are named.

    Parameters
    ----------
    names
        One of ``linear``, ``spline`` and ``histospline``; or one or more of ``shipped`` and
        MODEL_DIRs, of which each may hold several members.
    factor
        Thin slices per thick slice.

    Raises
    ------
    InputError
        If a model is unusable.
    UsageError
        If a model's factor is another, models do not make the same slices, or a baseline is among
        several.
    """
    baselines = [name for name in names if name in BASELINES]
    if baselines and len(names) > 1:
        raise UsageError(
            f"--model {baselines[0]}: is no network and cannot be averaged with others; give it "
            "alone.",
            model=baselines[0],
        )
    if baselines:
        return ModelChoice(baselines[0])
    folders = [model_folder(name) for name in names]
    if not folders:
        raise UsageError("--model: none is given; give a MODEL_DIR, 'shipped' or a baseline.")
    found = [
        (member, weight / len(folders)) for folder in folders for member, weight in members(folder)
    ]
    models = tuple(_checked(load_model(member), member, factor) for member, _ in found)
    made = {model.layout.slices for model in models}
    if len(made) > 1:
        raise UsageError(
            f"--model: the models make {', '.join(map(str, sorted(made)))} thin slices per thick "
            "one; needed is the same number from each."
        )
    return ModelChoice(
        NETWORK if len(models) == 1 else ENSEMBLE,
        models,
        tuple(weight for _, weight in found),
        _digests(folders),
    )


def model_folder(model: str) -> Path:
    """Return the folder of a model: the shipped one's, or a MODEL_DIR.

    Raises
    ------
    InputError
        If it is no MODEL_DIR.
    """
    folder = SHIPPED_FOLDER if model == SHIPPED else Path(model)
    if not (folder / DESCRIPTION).is_file():
        raise InputError(
            f"{model}: is no MODEL_DIR ({DESCRIPTION} is missing); give one made by 'ct2flow "
            f"train', '{SHIPPED}' or one of {', '.join(BASELINES)}.",
            model=model,
        )
    return folder


def members(folder: Path) -> list[tuple[Path, float]]:
    """Return the MODEL_DIRs that a MODEL_DIR holds, with weights of sum 1; itself if none.

    An ensemble's description is ``{"format": 1, "members": [{"folder": NAME, "weight": W}, ...]}``,
    the weights all given or all left out.

    Raises
    ------
    InputError
        If the description of an ensemble is unusable.
    """
    found = read_json(folder / DESCRIPTION)
    if "members" not in found:
        return [(folder, 1.0)]
    try:
        names = [str(entry["folder"]) for entry in found["members"]]
        weights = [float(entry.get("weight", 1.0)) for entry in found["members"]]
        usable = found["format"] == MODEL_FORMAT and bool(names) and min(weights) > 0
        usable = usable and all(Path(name).name == name for name in names)
    except (KeyError, TypeError, ValueError, AttributeError):
        usable = False
    if not usable:
        raise InputError(
            f"{folder.name}/{DESCRIPTION}: is no usable ensemble; needed is "
            f'{{"format": {MODEL_FORMAT}, "members": [{{"folder": NAME, "weight": above 0}}, ...]}} '
            "with the folders inside it.",
            path=folder,
        )
    total = sum(weights)
    return [(folder / n, w / total) for n, w in zip(names, weights, strict=True)]


def _checked(model: Model, folder: Path, factor: int) -> Model:
    own = model.layout.factor
    if own != factor:
        raise UsageError(
            f"--factor {factor}: the model {folder.name} restores {own} slices from one; give "
            f"--factor {own} or another model.",
            factor=factor,
        )
    return model


def _digests(folders: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    """Return the digest of each folder; of equal names all but the first are numbered."""
    found: dict[str, str] = {}
    for folder in folders:
        number = sum(name.split("#")[0] == folder.name for name in found)
        found[f"{folder.name}#{number + 1}" if number else folder.name] = digest(folder)
    return tuple(found.items())
