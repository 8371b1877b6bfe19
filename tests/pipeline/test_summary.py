"""What a run prints at its end says of every deviation whether it is resolved, as the report does."""

from __future__ import annotations

import pytest

from pipeline.summary import summary_lines


@pytest.mark.parametrize(
    ("resolved", "end"),
    [
        (True, "+40.4 %"),
        (False, "(not resolved: smaller than an error that it carries)"),
        (None, "(its error is unknown)"),
    ],
)
def test_a_deviation_is_printed_with_the_verdict_of_the_results(resolved, end):
    """A deviation of 40 % above its own loss's error of 37 % can be below HR's of 46 %."""
    losses = {
        "hr": {"total_pa": 12.47, "discretisation_percent": 46.1},
        "lr": {
            "total_pa": 17.52,
            "discretisation_percent": 36.8,
            "deviation_from_hr_percent": 40.4,
            "resolved": resolved,
        },
    }
    lines = summary_lines({"airway": {"patent": True}, "pressure_loss": losses})
    assert lines[-1].endswith(end)
    assert ("resolved" in lines[-1]) == (resolved is False)
    assert "deviation" not in lines[1]
