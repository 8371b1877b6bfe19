"""The configuration is defined once; what is made from it is not stale."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config import (
    WorkflowConfig,
    commented_defaults,
    complete,
    flags,
    json_schema,
    load_experiment,
    merge,
    parse_assignments,
    share_folder,
)
from pipeline.core.errors import UsageError

WORKFLOWS = share_folder("workflows")
EXPERIMENTS = sorted(p.stem for p in (WORKFLOWS / "config" / "experiments").glob("*.yaml"))
TREES = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.sampled_from("abcd"), TREES, max_size=4)


def test_schema_file_is_what_the_settings_say():
    assert (WORKFLOWS / "schemas" / "config.schema.json").read_text() == json_schema(), (
        "run: ct2flow config schema > workflows/schemas/config.schema.json"
    )


def test_commented_defaults_file_is_what_the_settings_say():
    assert (WORKFLOWS / "config" / "config.yaml").read_text() == commented_defaults(), (
        "run: ct2flow config show > workflows/config/config.yaml"
    )


def test_commented_defaults_read_back_as_the_defaults():
    assert WorkflowConfig.model_validate(yaml.safe_load(commented_defaults())) == WorkflowConfig()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_valid_and_lists_only_differences(name):
    changes = load_experiment(name)
    defaults = WorkflowConfig().model_dump(mode="json")
    assert WorkflowConfig.model_validate(changes)
    assert merge(defaults, changes) != defaults


def test_every_setting_is_described():
    schema = json.loads(json_schema())
    for model in [schema, *schema["$defs"].values()]:
        for name, field in model.get("properties", {}).items():
            assert field.get("description") or "$ref" in field, f"{model['title']}.{name}"


@given(MAPPINGS)
def test_merging_nothing_changes_nothing(settings):
    assert merge(settings, {}) == settings
    assert merge({}, settings) == settings
    assert merge(settings, settings) == settings


@given(MAPPINGS, MAPPINGS)
def test_merged_changes_win_and_applying_them_twice_changes_nothing(settings, changes):
    merged = merge(settings, changes)
    assert merge(merged, changes) == merged
    leaves = {k: v for k, v in changes.items() if not isinstance(v, dict)}
    assert {k: merged[k] for k in leaves} == leaves
    assert set(merged) == set(settings) | set(changes)


def test_assignments_reach_nested_settings_as_typed_values():
    pairs = ["flow.spacing_mm=0.4", "triplets.factor=5", "model.source=train"]
    config = WorkflowConfig.model_validate(parse_assignments(pairs))
    assert config.flow.spacing_mm == 0.4
    assert config.triplets.factor == 5
    assert config.model.source == "train"


@pytest.mark.parametrize("pair", ["spacing", "=1", "flow.spacing_mm=[", ""])
def test_a_malformed_assignment_is_refused(pair):
    with pytest.raises(UsageError, match="--set"):
        parse_assignments([pair])


def test_changing_one_setting_of_a_stage_keeps_the_workflow_s_own_defaults_of_the_others():
    changed = complete(parse_assignments(["flow.spacing_mm=0.3"])).flow
    assert changed == WorkflowConfig().flow.model_copy(update={"spacing_mm": 0.3})


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValidationError, match="spacing"):
        WorkflowConfig.model_validate(parse_assignments(["flow.spacing=1"]))


def test_an_unknown_experiment_names_the_known_ones():
    with pytest.raises(UsageError, match="demo"):
        load_experiment("no-such")


def test_flags_repeat_the_settings():
    settings = {"spacing_mm": 0.5, "quick": True, "slow": False, "none": None, "names": ["a", "b"]}
    assert flags(settings) == "--spacing-mm 0.5 --quick --no-slow --names a --names b"
