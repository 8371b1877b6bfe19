"""Training volumes read from disk give the patches of those in memory, and are prepared once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sr_volumes import TINY, make_head, write_manifest

from pipeline.core.errors import InputError
from pipeline.core.volume import read_volume, write_volume
from stages.super_resolution import stored_volumes
from stages.super_resolution.cases import find_cases, read_case
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.layout import Layout
from stages.super_resolution.patches import PatchSampler
from stages.super_resolution.stored_volumes import VolumeStore
from stages.super_resolution.training_stage import train
from stages.super_resolution.training_volumes import measure_normalisation, prepare_volume


@pytest.fixture
def case(tmp_path):
    return find_cases(write_manifest(tmp_path), tmp_path)[0]


def prepared(case, folder, settings=TINY):
    return VolumeStore(folder).prepare(case, settings, np.random.default_rng(0))


@pytest.mark.parametrize("view", ["axial", "upright"])
def test_patches_from_disk_are_those_from_memory(case, tmp_path, view):
    stored = prepared(case, tmp_path / "store")
    held = prepare_volume("head-0", read_case(case, TINY), np.random.default_rng(0))
    normalisation = measure_normalisation([held])
    assert measure_normalisation([stored]) == normalisation
    layout = Layout(3, 3, "box", view=view)
    batches = [
        PatchSampler([volume], layout, normalisation, TINY).batch(np.random.default_rng(5))
        for volume in (stored, held)
    ]
    for from_disk, from_memory in zip(*batches, strict=True):
        assert torch.equal(from_disk, from_memory)


def test_no_file_stays_mapped_once_a_patch_is_cut(case, tmp_path):
    """What patches touched would else stay in memory until every volume lies there."""
    volume = prepared(case, tmp_path / "store")
    sampler = PatchSampler([volume], Layout(3, 3, "box"), measure_normalisation([volume]), TINY)
    sampler.batch(np.random.default_rng(0))
    maps = Path(f"/proc/{os.getpid()}/maps").read_text().splitlines()
    assert not [line for line in maps if str(tmp_path / "store") in line]


def test_interrupted_training_finds_its_volumes_prepared(tmp_path, monkeypatch):
    manifest = write_manifest(tmp_path)
    reads = []
    read = stored_volumes.read_case
    monkeypatch.setattr(
        stored_volumes, "read_case", lambda *a: reads.append(a[0].case.case) or read(*a)
    )
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "save_best", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(manifest, tmp_path / "model", TINY)
    assert reads == ["head-0", "head-1"]
    train(manifest, tmp_path / "model", TINY)
    assert reads == ["head-0", "head-1"]
    assert not (tmp_path / "model.training").exists()


def _interrupt(*_):
    raise KeyboardInterrupt


def test_changed_volume_is_prepared_again(case, tmp_path):
    prepared(case, tmp_path / "store")
    volume = read_volume(case.path)
    write_volume(case.path, volume.with_values(volume.values + np.int16(100)))
    changed = find_cases(tmp_path / "manifest.csv", tmp_path)[0]
    found = prepared(changed, tmp_path / "store")
    assert np.array_equal(found.values, volume.values + 100)


def test_torn_record_is_written_again(case, tmp_path):
    first = np.array(prepared(case, tmp_path / "store").edges)
    record = tmp_path / "store" / "head-0" / "volume.json"
    record.write_text(record.read_text()[:20])
    assert np.array_equal(prepared(case, tmp_path / "store").edges, first)
    assert record.read_text().endswith("}\n")


def test_normalisation_is_that_of_all_bodies_together():
    volumes = [
        prepare_volume(f"head-{seed}", make_head(seed), np.random.default_rng(0))
        for seed in range(3)
    ]
    bodies = np.concatenate([v.values[tuple(v.body.T)].astype(float) for v in volumes])
    found = measure_normalisation(volumes)
    assert found.centre_hu == np.round(bodies.mean())
    assert found.scale_hu == np.round(bodies.std())


def test_volumes_of_air_have_no_normalisation():
    air = make_head().with_values(np.full((30, 48, 48), -1000, np.int16))
    with pytest.raises(InputError, match="nothing above -400 HU"):
        measure_normalisation([prepare_volume("air", air, np.random.default_rng(0))])


def test_patient_who_is_learnt_from_and_judged_is_refused(tmp_path):
    manifest = write_manifest(tmp_path)
    manifest.write_text(manifest.read_text().replace("patient-2", "patient-0"))
    with pytest.raises(InputError, match="one patient has one role"):
        train(manifest, tmp_path / "model", TINY)
