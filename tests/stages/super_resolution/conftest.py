"""Fixtures of the tests of super-resolution."""

from __future__ import annotations

import pytest
from sr_volumes import write_manifest


@pytest.fixture
def manifest(tmp_path):
    """Return a manifest of two training heads, a validation head and a test head."""
    return write_manifest(tmp_path)
