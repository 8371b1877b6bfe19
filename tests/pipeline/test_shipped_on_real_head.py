"""The shipped network on a living person's head that it never saw, beside the best interpolation."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.manifests import Case
from pipeline.core.volume import read_volume
from pipeline.network_comparison.cases import PreparedCase, prepare_case
from pipeline.network_comparison.judging import judge_volume
from stages.comparison.images import psnr_db
from stages.ingest.settings import IngestSettings
from stages.ingest.stage import run as ingest
from stages.super_resolution.settings import RestorationSettings, TrainingSettings
from stages.super_resolution.stage import restore
from stages.triplets.settings import TripletsSettings
from stages.triplets.stage import run as make_triplets

SCAN = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "pcir-head-ct"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not SCAN.is_dir(), reason="needs the development scans, which are not in the repository"
    ),
]
HEAD = Case(case="head", patient="head", role="test", source="dicom", path="head")
ONE_PASS = RestorationSettings(symmetries=1)
LEAST_GAIN_DB = 0.5


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    volume = tmp_path_factory.mktemp("scan") / "volume.nii.gz"
    ingest(SCAN, volume, IngestSettings())
    return volume


@pytest.fixture(scope="module")
def nose(scan, tmp_path_factory) -> PreparedCase:
    """Return the head cut to its airway and 10 mm around it."""
    folder = tmp_path_factory.mktemp("nose")
    return prepare_case(HEAD, scan, folder, TrainingSettings(), margin_mm=10.0)


@pytest.fixture(scope="module")
def errors(nose, tmp_path_factory):
    """Return the errors of image and airway of each method in the nose."""
    found = {}
    for method in ("linear", "histospline", "shipped"):
        work = tmp_path_factory.mktemp(method)
        volume = work / f"{method}.nii.gz"
        restore(nose.lr, volume, ONE_PASS, model=method)
        found[method] = judge_volume(volume, nose, work)
    work = tmp_path_factory.mktemp("thick")
    return found | {"thick": judge_volume(nose.lr, nose, work, has_image=False)}


def test_it_beats_the_histospline_by_half_a_decibel_over_the_whole_head(scan, tmp_path):
    make_triplets(scan, tmp_path / "triplets", TripletsSettings())
    thin = read_volume(tmp_path / "triplets" / "hr.nii.gz").values
    found = {}
    for method in ("histospline", "shipped"):
        volume = tmp_path / f"{method}.nii.gz"
        restore(tmp_path / "triplets" / "lr.nii.gz", volume, ONE_PASS, model=method)
        found[method] = psnr_db(thin, read_volume(volume).values)
    assert found["shipped"] - found["histospline"] > LEAST_GAIN_DB


def test_it_beats_the_histospline_by_half_a_decibel_at_the_airway_wall(errors):
    own, spline = (
        errors[method]["image"]["psnr_airway_wall_db"] for method in ("shipped", "histospline")
    )
    assert own - spline > LEAST_GAIN_DB


@pytest.mark.parametrize("other", ["thick", "linear", "histospline"])
def test_its_airway_is_the_nearest_to_that_of_the_thin_slices(errors, other):
    distance = {name: entry["airway"]["mean_distance_mm"] for name, entry in errors.items()}
    assert distance["shipped"] < distance[other]
