"""Several models as one: their mean, and how far they and their noise make it uncertain.

With means m_k, predicted standard deviations s_k and weights w_k of sum 1 the members give

    m = sum w_k m_k,   sigma^2 = sum w_k s_k^2 + sum w_k (m_k - m)^2,

the noise in the data (aleatoric) and what the models do not know (epistemic). Members that predict
no s_k give the second part alone.

References
----------
Egele et al., AutoDEUQ: automated deep ensemble with uncertainty quantification, ICPR (2022),
arXiv:2110.13511 (the law of total variance).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from stages.super_resolution.restoration import Restored


def combine(members: Iterable[Restored], weights: Sequence[float]) -> Restored:
    """Return mean and standard deviation of restored slices, HU.

    Parameters
    ----------
    members
        Restored slices of each model; taken one by one, three volumes are held at most.
    weights
        Weight of each member, of sum 1.

    Notes
    -----
    Mean and variance are updated member by member (West 1979, doi:10.1145/359146.359153): the
    difference of two large sums would lose float32's last digits.
    """
    total, mean, between, within = 0.0, None, None, None
    for member, weight in zip(members, weights, strict=True):
        values = member.values.astype(np.float32)
        if mean is None or between is None:
            mean, between, within = np.zeros_like(values), np.zeros_like(values), None
        total += weight
        change = values - mean
        mean += np.float32(weight / total) * change
        between += np.float32(weight) * change * (values - mean)
        if member.sigma is not None:
            noise = np.float32(weight) * np.square(member.sigma)
            within = noise if within is None else within + noise
    if mean is None or between is None:
        raise ValueError("An ensemble needs one member or more.")
    variance = between if within is None else between + within
    return Restored(mean, np.sqrt(np.maximum(variance, 0.0, out=variance)))
