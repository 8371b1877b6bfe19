"""One complete tiny run through Snakemake, from DICOM to report, and what a second run does."""

import json
import re

import pytest

from pipeline.cli import exit_code
from pipeline.core.artefacts import read_sidecar
from pipeline.core.planes import read_planes

pytestmark = pytest.mark.slow

SCAN = ["--matrix", "256", "--pixel-mm", "0.8", "--slice-spacing-mm", "1.2"]
QUICK = [
    "model.source=histospline",
    "surface.spacing_mm=0.9",
    "flow.spacing_mm=1.2",
    "lattices=2",
    "flow.max_steps=150",
]
VARIANTS = {"hr", "lr", "interpolated", "sr"}


def run(scan, output, *, extra=(), dry_run=False):
    settings = [word for pair in [*QUICK, *extra] for word in ("--set", pair)]
    flag = ["--dry-run"] if dry_run else []
    return exit_code(
        ["run", str(scan), "--output", str(output), "--case", "tiny", *settings, *flag]
    )


def planned(scan, output, capfd, *extra):
    capfd.readouterr()
    assert run(scan, output, extra=extra, dry_run=True) == 0
    text = capfd.readouterr().err
    table = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\ntotal", text, re.DOTALL)
    return set() if table is None else {line.split()[0] for line in table[1].splitlines()}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan") / "dicom"
    assert exit_code(["phantom", "dicom", "--seed", "3", "--output", str(folder), *SCAN]) == 0
    return folder


@pytest.fixture(scope="module")
def finished(scan, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    assert run(scan, output) == 0
    return output


def test_the_run_delivers_report_and_results(finished):
    results = json.loads((finished / "results.json").read_text())
    assert results["format"] == 1
    assert results["airway"]["patent"] is True
    assert set(results["pressure_loss"]) == VARIANTS
    assert set(results["image"]) == {"linear", "spline", "histospline", "sr"}
    for entry in results["pressure_loss"].values():
        assert {"static_pa", "total_pa", "deviation_from_hr_percent"} <= entry.keys()
        assert {"discretisation_percent", "model_std_pa"} <= entry.keys()
    assert (finished / "report.html").stat().st_size > 100_000
    assert (finished / "report.pdf").read_bytes().startswith(b"%PDF")


def test_every_variant_is_cut_in_the_same_planes(finished):
    airways = finished / "results" / "airway" / "tiny"
    baseline = read_planes(airways / "hr" / "planes.json")
    for variant in VARIANTS - {"hr"}:
        for name, plane in read_planes(airways / variant / "planes.json").items():
            assert plane.centre_mm == pytest.approx(baseline[name].centre_mm, abs=1e-6)
            assert plane.normal == pytest.approx(baseline[name].normal, abs=1e-6)


def test_every_artefact_has_its_record(finished):
    results = finished / "results"
    folders = [
        p for kind in ("airway", "surface", "flow") for p in (results / kind / "tiny").iterdir()
    ]
    volumes = [*(results / "restored" / "tiny").glob("*.nii.gz")]
    assert len(folders) == 12
    for path in [*folders, *volumes]:
        assert {"kind", "sha256", "settings", "inputs", "code"} <= read_sidecar(path).keys()


def test_the_unconverged_flow_says_so(finished):
    flow = json.loads((finished / "results" / "flow" / "tiny" / "hr" / "flow.json").read_text())
    assert flow["convergence"]["reached"] is False
    assert "not converged" in (finished / "report.html").read_text()


def test_nothing_of_the_input_s_path_is_in_the_results(finished, scan):
    for path in [finished / "report.html", finished / "results.json"]:
        assert str(scan.parent) not in path.read_text()


def test_a_second_run_finds_nothing_to_do(finished, scan, capfd):
    assert planned(scan, finished, capfd) == set()


def test_a_changed_setting_runs_its_stage_again_and_what_follows_and_nothing_else(
    finished, scan, capfd
):
    jobs = planned(scan, finished, capfd, "report.margin_mm=10")
    assert jobs - {"all"} == {"report"}
    jobs = planned(scan, finished, capfd, "flow.tolerance=0.001")
    assert jobs - {"all"} == {"flow", "compare_flows", "report"}
    for lattices in (1, 3):
        jobs = planned(scan, finished, capfd, f"lattices={lattices}")
        assert jobs - {"all"} == {"flow", "compare_flows", "report"}


def test_a_lost_report_is_made_again_with_the_same_bytes(finished, scan, capfd):
    path = finished / "results" / "report" / "tiny" / "report.html"
    kept = path.read_bytes()
    path.unlink()
    assert planned(scan, finished, capfd) - {"all"} == {"report"}
    assert run(scan, finished) == 0
    assert path.read_bytes() == kept
