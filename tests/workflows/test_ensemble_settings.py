"""An ensemble is chosen by its members, and by nothing else beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config import complete
from pipeline.core.errors import UsageError
from pipeline.run import _with_absolute_paths


def test_members_become_absolute_and_shipped_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/model.json").write_text("{}")
    config = complete({"model": {"members": ["shipped", "mine"]}})
    found = _with_absolute_paths(config).model.members
    assert found == ("shipped", str(tmp_path / "mine"))


def test_member_that_is_no_model_is_refused(tmp_path):
    config = complete({"model": {"members": ["shipped", str(tmp_path)]}})
    with pytest.raises(UsageError, match=r"model\.members .* is no MODEL_DIR.*one of shipped\.$"):
        _with_absolute_paths(config)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"members": ["a"]}, "two models or more"),
        ({"members": ["a", "b"], "source": "train"}, "members or source, not both"),
    ],
)
def test_members_that_mean_nothing_are_refused(model, sentence):
    with pytest.raises(ValidationError, match=sentence):
        complete({"model": model})
