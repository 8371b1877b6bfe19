"""What the comparison needs from a flow.json, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.errors import InputError

INLET, OUTLET = "inlet", "outlet"


class _Lenient(BaseModel):
    """Ignore what later versions add; refuse NaN and infinities."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class OpeningRecord(_Lenient):
    """Hold the flux, ml/s, and the flux-weighted total pressure, Pa, of an opening."""

    flow_rate_ml_s: float
    total_pressure_pa: float


class LossRecord(_Lenient):
    """Hold the flux-weighted pressure losses and the total one's standard deviation in time, Pa."""

    static_pa: float
    total_pa: float
    standard_deviation_in_time_pa: float | None = None


class LatticeRecord(_Lenient):
    """Hold the edge of a lattice cell, mm."""

    spacing_mm: float = Field(gt=0)


_NO_CHANGE_YET = 1e9
"""What stands for the change of a run that ended before it had one."""


class NumbersRecord(_Lenient):
    """Hold the greatest speed in the field, m/s."""

    peak_velocity_m_s: float | None = None


class ConvergenceRecord(_Lenient):
    """Say whether the run converged, to one state or to a steady mean of an unsteady flow.

    `pressure_loss_change` is the relative change within the last averaging windows, `time_mean_error` the
    relative standard error of the mean over time of an unsteady flow.
    """

    reached: bool
    statistically_steady: bool | None = None
    pressure_loss_change: float | None = None
    time_mean_error: float | None = None

    @property
    def settled(self) -> bool:
        """Whether the flow became steady, or an unsteady one has a steady mean."""
        return self.reached or bool(self.statistically_steady)

    @property
    def unsettled_percent(self) -> float | None:
        """What the state in time leaves open, percent of the loss; 0 if it converged or nothing is told.

        Of an unsteady flow two standard errors of its mean, of one that had not settled its last change;
        None if the run ended before it had one.
        """
        if self.reached:
            return 0.0
        if self.statistically_steady and self.time_mean_error is not None:
            return 200.0 * self.time_mean_error
        change = self.pressure_loss_change or 0.0
        return 100.0 * change if change < _NO_CHANGE_YET else None


class FlowRecord(_Lenient):
    """Hold the part of a flow.json that is compared."""

    openings: dict[str, OpeningRecord]
    pressure_loss: LossRecord
    lattice: LatticeRecord
    numbers: NumbersRecord = NumbersRecord()
    convergence: ConvergenceRecord

    @property
    def inlets(self) -> dict[str, OpeningRecord]:
        """Return the inlets by side: `inlet-left` is `left`; a lone `inlet` keeps its name."""
        return {
            name.removeprefix(INLET).lstrip("-") or name: opening
            for name, opening in self.openings.items()
            if name.startswith(INLET)
        }

    @property
    def outlet_total_pressure_pa(self) -> float:
        """Return the flux-weighted total pressure of the outlets, Pa."""
        outlets = [o for name, o in self.openings.items() if name.startswith(OUTLET)]
        flux = sum(o.flow_rate_ml_s for o in outlets)
        if flux == 0:
            return sum(o.total_pressure_pa for o in outlets) / max(len(outlets), 1)
        return sum(o.flow_rate_ml_s * o.total_pressure_pa for o in outlets) / flux


def parse_flow(name: str, content: Mapping[str, Any]) -> FlowRecord:
    """Check the content of a flow.json.

    Raises
    ------
    InputError
        If a field is missing or no finite number.
    """
    try:
        return FlowRecord.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{name}/flow.json: {field}: {first['msg'].lower()}; run 'ct2flow simulate' again.",
            flow=name,
            field=field,
        ) from error
