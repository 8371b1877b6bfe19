from __future__ import annotations

import sys
from pathlib import Path

# The benchmarks are scripts and lie in no package.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
