"""A stage's code digest follows its own sources and the core's, and nothing else."""

import pytest

from pipeline.core import provenance


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for folder in ("pipeline/core", "stages/airway", "stages/flow"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "code.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    provenance.code_digest.cache_clear()
    yield tmp_path
    provenance.code_digest.cache_clear()


def digests():
    provenance.code_digest.cache_clear()
    return provenance.code_digest("airway"), provenance.code_digest("flow")


def test_editing_one_stage_changes_its_digest_alone(tree):
    before = digests()
    (tree / "stages" / "airway" / "code.py").write_text("x = 2\n")
    after = digests()
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_editing_the_core_changes_every_digest(tree):
    before = digests()
    (tree / "pipeline" / "core" / "code.py").write_text("x = 2\n")
    assert all(a != b for a, b in zip(before, digests(), strict=True))


def test_compiled_files_do_not_count(tree):
    before = digests()
    cache = tree / "stages" / "flow" / "__pycache__"
    cache.mkdir()
    (cache / "code.pyc").write_bytes(b"1")
    assert digests() == before


def test_a_renamed_file_counts(tree):
    before = digests()
    (tree / "stages" / "flow" / "code.py").rename(tree / "stages" / "flow" / "other.py")
    assert digests()[1] != before[1]


def test_a_folder_without_git_has_no_commit(tree):
    provenance.commit.cache_clear()
    assert provenance.commit() == "unknown"
    provenance.commit.cache_clear()
