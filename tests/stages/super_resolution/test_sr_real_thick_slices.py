"""A scanner's own thick slices: the profile matters, and a simulation does not show it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import exit_code
from pipeline.core.volume import read_volume
from stages.super_resolution.baselines import restore_baseline
from stages.super_resolution.cases import read_taps
from stages.super_resolution.consistency import make_consistent
from stages.super_resolution.degradation import degrade, profile_taps
from stages.super_resolution.layout import Layout
from stages.super_resolution.validation import psnr_db

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
IN_PLANE = (slice(None), slice(130, 400), slice(130, 400))

pytestmark = pytest.mark.skipif(
    not (DATA / "philips-skull-phantom-5mm").is_dir(),
    reason="needs the development scans, which are not in the repository",
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Thin and thick slices of one scan, and the profile fitted to them."""
    folder = tmp_path_factory.mktemp("pair")
    for mm in (1, 5):
        scan = str(DATA / f"philips-skull-phantom-{mm}mm")
        assert exit_code(["ingest", scan, "--output", str(folder / f"{mm}.nii.gz")]) == 0
    words = ["--thin", str(folder / "1.nii.gz"), "--thick", str(folder / "5.nii.gz")]
    fitted = folder / "fitted.json"
    assert exit_code(["triplets", "fit-profile", *words, "--output", str(fitted)]) == 0
    thin, thick = (read_volume(folder / f"{mm}.nii.gz").values[IN_PLANE] for mm in (1, 5))
    return thin.astype(np.float32), thick.astype(np.float32), read_taps(str(fitted))


def gain_db(thin, thick, layout):
    """Return what agreement under a profile adds to the spline's PSNR, far from the ends."""
    base = restore_baseline(thick, "spline", factor=5)
    inner = slice(10, -10)
    before, after = (
        psnr_db(float(np.square(x[inner] - thin[inner], dtype=np.float64).mean()))
        for x in (base, make_consistent(base, thick, layout))
    )
    return after - before


def test_agreement_under_the_fitted_profile_gains_more_than_under_the_box(pair):
    thin, thick, taps = pair
    fitted = gain_db(thin, thick, Layout(5, 3, "fitted", taps=taps, consistent=True))
    box = gain_db(thin, thick, Layout(5, 3, "box"))
    assert fitted > 0.5
    assert fitted > box + 0.3


def test_on_simulated_thick_slices_the_box_would_have_seemed_right(pair):
    """Means of thin slices agree best under the box: who tests on them learns nothing of it."""
    thin, _, taps = pair
    simulated = degrade(thin, profile_taps("box", 5), 5)
    fitted = gain_db(thin, simulated, Layout(5, 3, "fitted", taps=taps, consistent=True))
    assert gain_db(thin, simulated, Layout(5, 3, "box")) > fitted
