"""Say whether a volume shows a face: a head's front surface that lies free in the image."""

from __future__ import annotations

import numpy as np

from pipeline.core.volume import Volume

BIN_MM = 4.0
FREE_MM = 4.0
"""Air in front of the skin, so that it is the skin and not the border of the image."""
HALF_WIDTH_MM = 35.0
"""Half the width of eyes, nose and mouth, which is what is recognised."""
LEAST_HEIGHT_MM = 60.0
"""From brow to upper lip; less shows no face."""
FREE_SHARE = 0.9
HEAD_WIDTHS_MM = (80.0, 220.0)
"""Width of the front half: an infant's head, and less than an adult's chest (250 and more)."""


def shows_face(volume: Volume, isolevel_hu: float = -400.0) -> bool:
    """Say whether the skin between brow and lip is in the image, seen from the front.

    Parameters
    ----------
    volume
        CT, HU, on any grid.
    isolevel_hu
        What is above is tissue.

    Notes
    -----
    Seen along y (LPS: from the front), the first tissue of each place (x, z) is taken in bins of
    `BIN_MM`. A height counts if the front half of what lies there is as wide as a head and its
    middle is free of the image's border. It needs numpy only and looks at one voxel in some 20.
    """
    steps = [max(int(BIN_MM / (1.5 * s)), 1) for s in volume.grid.spacing_mm]
    tissue = volume.values[:: steps[0], :: steps[1], :: steps[2]] > isolevel_hu
    if not tissue.any():
        return False
    points = volume.grid.to_world_mm(np.argwhere(tissue) * steps)
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.maximum(BIN_MM, np.max(np.multiply(steps, volume.grid.spacing_mm)))
    counts = ((high - low) / size).astype(int) + 1
    rows, columns = (((points[:, i] - low[i]) / size).astype(int) for i in (2, 0))
    first = np.full((counts[2], counts[0]), np.inf)
    np.minimum.at(first, (rows, columns), points[:, 1])
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in volume.grid.shape])).reshape(3, -1).T
    border_mm = float(volume.grid.to_world_mm(corners)[:, 1].min())
    middle_mm = float(np.median(points[:, 1]))
    centre = float(np.median(points[:, 0]) - low[0]) / size
    near = np.abs(np.arange(counts[0]) + 0.5 - centre) * size <= HALF_WIDTH_MM
    front = first < middle_mm
    width_mm = front.sum(axis=1) * size
    free = ((first - border_mm > FREE_MM) & front)[:, near].mean(axis=1) >= FREE_SHARE
    is_head = (width_mm >= HEAD_WIDTHS_MM[0]) & (width_mm <= HEAD_WIDTHS_MM[1])
    return bool((free & is_head).sum() * size >= LEAST_HEIGHT_MM)
