"""Each defect of a disc: read at the right places, read and told, or refused with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ct_series import hu_at
from defects import DEFECTS

from pipeline.core.errors import InputError
from stages.ingest.settings import IngestSettings
from stages.ingest.stage import read_scan

DEFAULTS = IngestSettings()
TABLE = Path(__file__).parents[3] / "docs" / "dicom_defects.md"


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_is_put_right_and_told_or_refused(tmp_path, defect):
    scan = defect.make(tmp_path)
    if defect.outcome == "refused":
        with pytest.raises(InputError, match=re.escape(defect.words)):
            read_scan(scan, DEFAULTS)
        return
    reading = read_scan(scan, DEFAULTS)
    volume = reading.volume
    truth = hu_at(volume.grid.to_world_mm(np.stack(np.indices(volume.grid.shape), axis=-1)))
    measured = volume.values != -1024
    for axis in (1, 2):  # beside padding a straightened slice is interpolated with it
        measured &= np.roll(measured, 1, axis) & np.roll(measured, -1, axis)
    assert measured.mean() > 0.6
    assert np.abs(volume.values - truth)[measured].max() <= defect.tolerance_hu
    assert volume.grid.shape[0] == defect.slices
    told = [warning for warning in reading.warnings if defect.words in warning]
    assert bool(told) or defect.outcome == "read"


def test_the_table_in_the_documentation_has_every_defect():
    text = TABLE.read_text()
    for defect in DEFECTS:
        assert f"| {defect.name} | {defect.does} |" in text
