from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
# The benchmark's bodies and measures are the tests' too.
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "benchmarks")]
