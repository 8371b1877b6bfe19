"""Patients for the phantom's tests."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from stages.phantom.anatomy import Anatomy, draw_anatomy, with_variant
from stages.phantom.tissues import Patient, build_patient


@pytest.fixture(scope="session")
def make_patient() -> Callable[..., Patient]:
    """Return a factory: the average patient without a seed, else the seed's."""

    def make(seed: int | None = None, variant: str = "open", **measures: object) -> Patient:
        if seed is None:
            anatomy = with_variant(Anatomy(), variant)
        else:
            anatomy = draw_anatomy(np.random.default_rng(seed), variant)
        return build_patient(replace(anatomy, **measures))

    return make
