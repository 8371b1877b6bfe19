"""The D3Q19 velocity set: directions, weights and opposites.

References
----------
.. [1] Qian, d'Humieres & Lallemand (1992), Europhys. Lett. 17, 479, doi:10.1209/0295-5075/17/6/001.
"""

from __future__ import annotations

import numpy as np

Q = 19
SOUND_SPEED_SQUARED_LU = 1.0 / 3.0

VELOCITIES = np.array(
    [
        (0, 0, 0),
        (1, 0, 0),
        (-1, 0, 0),
        (0, 1, 0),
        (0, -1, 0),
        (0, 0, 1),
        (0, 0, -1),
        (1, 1, 0),
        (-1, -1, 0),
        (1, -1, 0),
        (-1, 1, 0),
        (1, 0, 1),
        (-1, 0, -1),
        (1, 0, -1),
        (-1, 0, 1),
        (0, 1, 1),
        (0, -1, -1),
        (0, 1, -1),
        (0, -1, 1),
    ],
    dtype=np.int64,
)
"""Directions (x, y, z); each odd index is followed by its opposite."""

OPPOSITE = np.array([0, *(q + 1 if q % 2 else q - 1 for q in range(1, Q))], dtype=np.int64)

WEIGHTS = np.array([1.0 / 3.0, *[1.0 / 18.0] * 6, *[1.0 / 36.0] * 12])
