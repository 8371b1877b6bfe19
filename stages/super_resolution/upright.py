"""Sagittal and coronal planes: the network removes the blur along z from planes of the baseline.

A plane is (z, u), u one of the in-plane axes; the network sees it between its neighbours, all from
the baseline, and gives the residual of the middle one. A volume is restored plane by plane along both
in-plane axes, and the mean of the two is taken.

References
----------
Zhao et al., IEEE Trans. Med. Imaging 40 (2021) 805-817, doi:10.1109/TMI.2020.3037187: through-plane
restoration by in-plane networks.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Shaped

from pipeline.core.progress import track
from stages.super_resolution.baselines import apply_operator
from stages.super_resolution.channels import plane_inputs
from stages.super_resolution.consistency import baseline_operator
from stages.super_resolution.model import Model
from stages.super_resolution.restoration import Arithmetic, Restored, restore_images


def restore_upright(
    model: Model,
    thick: Shaped[np.ndarray, "thick y x"],
    arithmetic: Arithmetic,
    *,
    device: str = "cpu",
) -> Restored:
    """Restore a volume by its coronal and its sagittal planes, float32, HU.

    Parameters
    ----------
    model
        Network with its layout and normalisation, on the device.
    thick
        Thick slices, HU.
    arithmetic
        Tiles, precision and symmetries.
    device
        Where the network is.
    """
    base = apply_operator(baseline_operator(len(thick), model.layout), thick)
    values = np.zeros_like(base)
    variance = np.zeros_like(base) if model.layout.predicts_variance else None
    planes = ((axis, index) for axis in (1, 2) for index in range(base.shape[axis]))
    for axis, index in track(planes, "restore", total=base.shape[1] + base.shape[2]):
        (inputs,) = plane_inputs(base, axis, [index], model.layout)
        batch = torch.from_numpy(np.ascontiguousarray(inputs))[None].to(device)
        mean, sigma = restore_images(model, batch, arithmetic)
        np.moveaxis(values, axis, 0)[index] += 0.5 * mean[0, 0].cpu().numpy()
        if variance is not None and sigma is not None:
            np.moveaxis(variance, axis, 0)[index] += 0.5 * sigma[0, 0].cpu().numpy() ** 2
    return Restored(values, None if variance is None else np.sqrt(variance))
