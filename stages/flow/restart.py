"""Run a flow to its end in spite of kills: from its checkpoint, a known field, or rest."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

from pipeline.core.artefacts import digest
from pipeline.core.errors import NumericalError
from pipeline.core.provenance import code_digest, library_versions
from stages.flow.checkpoint import Checkpoint, Keeper, spent_seconds, stopping_on_signals
from stages.flow.engines import engine_name
from stages.flow.openings import Opening
from stages.flow.result import FlowResult
from stages.flow.settings import FlowSettings
from stages.flow.simulation import Simulation
from stages.flow.start import FlowField
from stages.flow.voxels import SparseLattice

_LOG = logging.getLogger("ct2flow.flow")
_NO_INFLUENCE = frozenset({"threads", "checkpoint_minutes"})
"""Settings that change no number of the result."""
_LIBRARIES = ("numba", "numpy", "scipy")


def case_digest(
    surface_folder: Path,
    settings: FlowSettings,
    initial: Path | None,
    peak_ratio: float | None = None,
) -> str:
    """Return a digest of all that decides a run's result: surface, settings, start and code."""
    facts = {
        "surface": digest(surface_folder),
        "settings": settings.model_dump(mode="json", exclude=set(_NO_INFLUENCE)),
        "initial": None if initial is None else digest(initial),
        "peak_ratio": peak_ratio,
        "engine": engine_name(settings.engine),
        "code": code_digest("flow"),
        "libraries": library_versions(_LIBRARIES),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def run_to_end(
    lattice: SparseLattice,
    openings: tuple[Opening, ...],
    settings: FlowSettings,
    checkpoint: Checkpoint,
    *,
    begin: Callable[[], FlowField | None],
    peak_ratio: float | None = None,
) -> tuple[FlowResult, float]:
    """Run a flow, going on from its checkpoint if there is one.

    Parameters
    ----------
    lattice, openings, settings
        The case.
    checkpoint
        Where its state is kept.
    begin
        Returns the flow to begin with, None for rest; called only without a checkpoint.
    peak_ratio
        Peak velocity over the one set that is asked of a run with such a flow.

    Returns
    -------
    The flow and the wall-clock seconds that it took, those before an interruption included.

    Raises
    ------
    NumericalError
        If the flow diverges; its checkpoint is removed, for it would diverge again.
    KeyboardInterrupt
        If a signal ended the run; its state is kept.
    """
    keeps = settings.checkpoint_minutes > 0
    arrays = checkpoint.read() if keeps else None
    if arrays is None:
        simulation = Simulation(
            lattice, openings, settings, initial=begin(), peak_ratio=peak_ratio
        )
        spent_s = 0.0
    else:
        simulation = Simulation(lattice, openings, settings, resume=arrays)
        spent_s = spent_seconds(arrays)
        _LOG.info("going on from step %d of a run that was interrupted", simulation.step)
        arrays = None  # the populations are large
    keeper = Keeper(checkpoint, 60.0 * settings.checkpoint_minutes, spent_s)
    if not keeps:
        return simulation.run(), keeper.seconds
    try:
        with stopping_on_signals(keeper):
            return simulation.run(keeper), keeper.seconds
    except NumericalError:
        checkpoint.remove()
        raise
