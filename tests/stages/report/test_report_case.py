"""The report says what results.json says, needs nothing else, and names nobody."""

import json
import re

import numpy as np
import pytest
import report_artefacts as artefacts
import yaml

from pipeline.config import WorkflowConfig
from pipeline.core.artefacts import digest, read_json
from pipeline.core.errors import InputError, UsageError
from stages.report import pdf, renders
from stages.report.settings import ReportSettings
from stages.report.stage import run
from stages.report.tables import NOT_RESOLVED, Table, number

MAX_HTML_BYTES = 8_000_000


def report(results, output):
    run(results, output, ReportSettings(), case=artefacts.CASE)
    return output


@pytest.fixture(scope="module")
def results_folder(tmp_path_factory):
    return artefacts.write_case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def written(results_folder, tmp_path_factory):
    return report(results_folder, tmp_path_factory.mktemp("out") / "report")


@pytest.fixture(scope="module")
def page(written):
    return (written / "report.html").read_text()


@pytest.fixture(scope="module")
def results(written):
    return read_json(written / "results.json")


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    folder = artefacts.write_case(tmp_path_factory.mktemp("closed"), patent=False)
    return report(folder, tmp_path_factory.mktemp("closed-out") / "report")


def test_results_have_the_fields_of_the_contract(results):
    assert {"format", "case", "input", "image", "surface", "pressure_loss", "airway", "warnings",
            "provenance"} <= results.keys()  # fmt: skip
    assert results["format"] == 1
    assert {"sha256", "geometry"} <= results["input"].keys()
    assert set(results["image"]) == {"linear", "spline", "histospline", "sr"}
    for entry in results["image"].values():
        assert {"psnr_db", "psnr_airway_wall_db", "ssim"} <= entry.keys()
    for name in ("lr", "interpolated", "sr"):
        assert {"mean_distance_mm", "hausdorff95_mm", "volume_ml", "minimal_area_mm2"} <= results[
            "surface"
        ][name].keys()
    assert set(results["pressure_loss"]) == {"hr", "lr", "interpolated", "sr"}
    for entry in results["pressure_loss"].values():
        assert {"static_pa", "total_pa", "deviation_from_hr_percent", "discretisation_percent",
                "model_std_pa"} <= entry.keys()  # fmt: skip
        assert entry["model_std_pa"] is None


def test_the_published_deviation_arrives_in_the_results(results):
    found = results["pressure_loss"]["lr"]["deviation_from_hr_percent"]
    np.testing.assert_allclose(found, -7.53, atol=0.005)


def test_the_lattice_error_arrives_in_the_results(results):
    # A loss of L (1 + 0.1 (h - 0.5)) at h = 0.5 and 0.7 mm: 2 % change over r - 1 = 0.4.
    found = results["pressure_loss"]["hr"]["discretisation_percent"]
    np.testing.assert_allclose(found, 5.0, rtol=1e-6)


def test_every_pressure_loss_is_in_the_page(page, results):
    for entry in results["pressure_loss"].values():
        assert number(entry["total_pa"]) in page
        assert number(entry["static_pa"]) in page
        assert number(entry["discretisation_percent"], 1) in page
        if entry["deviation_from_hr_percent"]:
            assert number(entry["deviation_from_hr_percent"], 1, sign=True) in page


def test_a_deviation_within_its_error_is_called_not_resolved(page, results):
    assert results["pressure_loss"]["sr"]["resolved"] is False
    assert NOT_RESOLVED in page
    assert "Not resolved, smaller than the error they carry: SR +1.6 %." in page
    assert (
        "Resolved deviations of the total loss from HR: LR −7.5 %, interpolated −20.5 %." in page
    )


def test_the_page_loads_nothing_from_elsewhere(page):
    references = re.findall(r"""(?:src|href|data|poster|action)\s*=\s*["']([^"']*)["']""", page)
    assert references
    assert all(reference.startswith("data:") for reference in references)
    assert not re.search(r"<(?:script|link|iframe|object|embed)\b", page)
    assert not re.search(r"@import|url\(|file://|https?://", page)
    assert len(page.encode()) < MAX_HTML_BYTES


def test_nothing_identifies_the_machine_or_the_user(page, written, results_folder):
    for text in (page, (written / "results.json").read_text()):
        assert str(results_folder) not in text
        assert str(written) not in text
        assert "/tmp/" not in text


def test_figures_and_tables_are_numbered_and_captioned_with_n(page):
    tables = re.findall(r"<b>Table (\d+)\.</b>", page)
    figures = re.findall(r"<b>Figure (\d+)\.</b>", page)
    assert tables == [str(i + 1) for i in range(5)]
    assert figures == [str(i + 1) for i in range(5)]
    assert page.count("<img") == len(figures)
    assert "n = 1 case" in page


def test_a_warning_is_shown_once_with_all_its_sources(results, page):
    found = [text for text in results["warnings"] if artefacts.WARNING in text]
    assert found == [f"volumes/hr, triplets: {artefacts.WARNING}"]
    assert artefacts.WARNING in page


def test_methods_cite_what_they_use_in_order(page):
    methods = page[page.index("<h2>Methods</h2>") : page.index("<h2>Provenance</h2>")]
    text, references = methods.split('<ol class="references">')
    cited = [int(n) for n in re.findall(r"\[(\d+)\]", text)]
    assert sorted(set(cited)) == list(range(1, references.count("<li>") + 1))
    assert list(dict.fromkeys(cited)) == sorted(set(cited))
    assert "[@" not in text


def test_the_settings_file_repeats_the_run(written, page):
    content = yaml.safe_load((written / "settings.yaml").read_text())
    config = WorkflowConfig.model_validate(content)
    assert config.flow.spacing_mm == artefacts.SETTINGS["flow"]["spacing_mm"]
    np.testing.assert_allclose(config.coarse_ratio, 1.4)
    assert "ct2flow run INPUT --output DIR --case tubes --experiment settings.yaml" in page


def test_the_pdf_opens_and_has_pages(written):
    data = (written / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 3


def test_the_pdf_breaks_no_word_of_a_header():
    header = ("flow", "spacing, mm", "fluid cells", "in gaps under two cells, %", "simulated, ms",
              "Reynolds", "relaxation time", "mass imbalance, %", "converged", "steps", "Mach, max",
              "change of loss, %")  # fmt: skip
    rows = (("HR, lattice 2", "0.35", *["1.0"] * 6, "unsteady, mean ± 0.2 %", *["9"] * 3),)
    widths = pdf._widths(Table(header, rows, "", words=(0, 8)))
    assert sum(widths) == pytest.approx(pdf._WIDTH)
    for width, title in zip(widths, header, strict=True):
        assert width >= max(map(pdf._length, title.split())) + 2 * pdf._PADDING


def test_a_second_report_has_the_same_bytes(written, results_folder, tmp_path):
    again = report(results_folder, tmp_path / "again")
    for name in ("report.html", "report.pdf", "results.json", "settings.yaml"):
        assert digest(again / name) == digest(written / name), name


def test_an_existing_report_is_not_overwritten(written, results_folder):
    with pytest.raises(UsageError, match="exists"):
        report(results_folder, written)


def test_a_closed_airway_gets_a_report_with_reason_and_place(closed):
    content = read_json(closed / "results.json")
    assert content["airway"]["patent"] is False
    for entry in content["pressure_loss"].values():
        assert entry["total_pa"] is None
        assert entry["deviation_from_hr_percent"] is None
    assert content["surface"] == {}
    assert len(content["image"]) == 4
    page = (closed / "report.html").read_text()
    assert "No open airway from nostril to pharynx: no air connects nostril and pharynx." in page
    assert "8.0, −50.0, 116.0 mm" in page
    assert "<h2>Images</h2>" in page
    assert (closed / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_a_variant_without_flow_is_named_and_the_others_are_shown(tmp_path):
    folder = artefacts.write_case(tmp_path / "case", closed=("lr",))
    output = report(folder, tmp_path / "report")
    content = read_json(output / "results.json")
    assert content["pressure_loss"]["lr"]["total_pa"] is None
    assert content["pressure_loss"]["lr"]["reason"] == "no air connects nostril and pharynx."
    assert content["airway"]["closed_variants"].keys() == {"lr"}
    page = (output / "report.html").read_text()
    assert "No flow: LR" in page
    assert number(content["pressure_loss"]["sr"]["total_pa"]) in page


def test_a_machine_without_opengl_gets_its_pictures_from_matplotlib(
    results_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(renders, "can_draw", lambda: False)
    output = report(results_folder, tmp_path / "plain")
    assert any("OpenGL" in text for text in read_json(output / "results.json")["warnings"])
    assert (output / "report.html").read_text().count("<img") == 5


def test_a_library_that_takes_the_process_down_counts_as_no_opengl(monkeypatch):
    monkeypatch.setattr(renders, "__name__", "os; os.kill(os.getpid(), 11); from os")
    renders.can_draw.cache_clear()
    try:
        assert renders.can_draw() is False
    finally:
        renders.can_draw.cache_clear()


def test_a_missing_comparison_is_named(results_folder, tmp_path):
    copy = artefacts.write_case(tmp_path / "case", patent=False)
    (copy / "comparison" / artefacts.CASE / "images.json").unlink()
    with pytest.raises(InputError, match=r"images\.json"):
        report(copy, tmp_path / "report")


@pytest.mark.parametrize(
    ("kind", "record"), [("flow", "flows"), ("surface", "surfaces"), ("restored", "images")]
)
def test_a_comparison_of_data_that_were_replaced_since_is_refused(kind, record, tmp_path):
    folder = artefacts.write_case(tmp_path / "case")
    place = folder / kind / artefacts.CASE
    sidecar = place / ("sr.nii.gz.json" if kind == "restored" else "sr/artefact.json")
    content = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(content | {"sha256": "0" * 64}))
    with pytest.raises(InputError, match=f"comparison/{record}: made from another {kind}/sr"):
        report(folder, tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("unsteady", "answer", "verdict"),
    [
        (False, "Not converged: SR.", "flow not converged"),
        (
            True,
            "Unsteady flow: SR. These losses are means over time, known within 0.7 %",
            "unsteady, mean",
        ),
    ],
)
def test_a_flow_that_is_not_one_steady_state_is_named_in_the_answer(
    unsteady, answer, verdict, tmp_path
):
    folder = artefacts.write_case(tmp_path / "case")
    path = folder / "comparison" / artefacts.CASE / "flows.json"
    content = json.loads(path.read_text())
    content["pressure_loss"]["sr"] |= {
        "converged": False,
        "statistically_steady": unsteady,
        "unsettled_percent": 0.7,
    }
    path.write_text(json.dumps(content))
    page = (report(folder, tmp_path / "report") / "report.html").read_text()
    assert answer in page
    assert f"not resolved: smaller than its error; {verdict}" in page


def test_a_run_that_was_too_short_says_so_instead_of_a_number(tmp_path):
    folder = artefacts.write_case(tmp_path / "case")
    path = folder / "comparison" / artefacts.CASE / "flows.json"
    content = json.loads(path.read_text())
    content["pressure_loss"]["sr"] |= {"converged": False, "unsettled_percent": None}
    path.write_text(json.dumps(content))
    page = (report(folder, tmp_path / "report") / "report.html").read_text()
    assert "Not converged: SR. These runs ended before it can be told" in page


def test_the_table_of_runs_tells_which_losses_are_means_over_time(tmp_path):
    page = (
        report(artefacts.write_case(tmp_path / "case"), tmp_path / "report") / "report.html"
    ).read_text()
    table = page[page.index("in gaps under two cells") :]
    assert table.count("unsteady, mean ± 0.4 %") == page.count("<td>0.7") > 0
