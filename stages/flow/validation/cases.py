"""The table of cases: name, title, and what computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.core.errors import UsageError
from stages.flow.validation import conservation, nozzle, passages, pipes, throat
from stages.flow.validation.flows import Bench
from stages.flow.validation.rows import Outcome


@dataclass(frozen=True)
class Case:
    """Name what computes a case and say what it shows.

    Parameters
    ----------
    title
        What it shows.
    compute
        Computes it.
    brief
        Whether a quick run shows anything: the nozzle's jet needs minutes to be steady.
    """

    title: str
    compute: Callable[[Bench], Outcome]
    brief: bool = True


CASES: dict[str, Case] = {
    "pipe-aligned": Case("Pipe along an axis of the lattice", pipes.pipe_aligned),
    "pipe-oblique": Case("Pipe oblique to the lattice", pipes.pipe_oblique),
    "duct-square": Case("Square duct", pipes.duct_square),
    "duct-two-to-one": Case("Duct twice as wide as high", pipes.duct_two_to_one),
    "slits": Case("Oblique slits of few cells", pipes.slits),
    "entrance": Case("Developing pipe flow", passages.entrance),
    "curved-pipe": Case("Curved pipe", passages.curved_pipe),
    "throat": Case("Throat oblique to the lattice", throat.throat),
    "orifice": Case("Orifice in creeping flow", passages.orifice),
    "branching": Case("Branching pipe", passages.branching),
    "fda-nozzle": Case("FDA nozzle at throat Reynolds number 500", nozzle.fda_nozzle, brief=False),
    "closed-box": Case("Mass in a closed vessel", conservation.closed_box),
    "mirror": Case("Mirror symmetry", conservation.mirror),
    "mach": Case("Independence of the Mach number", conservation.mach),
}


def chosen(names: str, *, quick: bool = False) -> dict[str, Case]:
    """Return the cases named between commas, or every one; a quick run leaves out the long ones.

    Raises
    ------
    UsageError
        If a name is unknown.
    """
    if names == "all":
        return {name: case for name, case in CASES.items() if case.brief or not quick}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in CASES]
    if unknown or not wanted:
        found = ", ".join(unknown) or "none"
        raise UsageError(
            f"cases: {found} unknown; needed are some of {', '.join(CASES)}; correct --cases.",
            unknown=unknown,
        )
    return {name: CASES[name] for name in wanted}
