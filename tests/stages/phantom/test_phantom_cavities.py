"""Air beside the airway: where it joins, where it does not, and that the truth leaves it out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from stages.phantom.airway import NOSTRIL_PLANE_MM, PHARYNX_PLANE_MM, nostril_height, spur
from stages.phantom.anatomy import mirrored
from stages.phantom.cavities import build_cavities, chain_distance
from stages.phantom.head import build_head

STEP_MM = 0.6


def anatomical_grid(low, high):
    return np.meshgrid(
        *(np.arange(a, b, STEP_MM, dtype=np.float32) for a, b in zip(low, high, strict=True)),
        indexing="ij",
    )


def cavity_air(patient, points, names=""):
    """Return where cavities whose names hold `names` are air."""
    air = np.zeros(points[0].shape, dtype=bool)
    for cavity in build_cavities(patient.airway):
        if names in cavity.name:
            air |= cavity.distance(*points) < 0
    return air


def sinus_air(patient, points):
    scanner = np.stack(points, axis=-1).astype(np.float64) @ patient.frame.rotation.T
    scanner = scanner * patient.frame.scale + patient.frame.shift_mm
    x, y, z = (np.ascontiguousarray(scanner[..., i], dtype=np.float32) for i in range(3))
    air = np.zeros(x.shape, dtype=bool)
    for tissue in patient.tissues:
        if ("sinus" in tissue.name or "ethmoid" in tissue.name) and "wall" not in tissue.name:
            air |= tissue.distance(x, y, z) < 0
    return air


def joined(first, second, air):
    labels, _ = ndimage.label(air)
    return bool(np.intersect1d(labels[first & air], labels[second & air]).any())


NOSE = ((-46.0, -70.0, -8.0), (46.0, 26.0, 62.0))
MAXILLARY = (30.0, -24.0, 12.0)


@pytest.mark.parametrize("seed", [1, 4, 7])
@pytest.mark.parametrize("ostium_mm", [0.0, 2.6])
def test_sinuses_join_the_airway_through_their_ostia_alone(make_patient, seed, ostium_mm):
    patient = make_patient(seed, ostium_mm=ostium_mm)
    points = anatomical_grid(*NOSE)
    airway = patient.airway.distance(*points) < 0
    air = airway | sinus_air(patient, points) | cavity_air(patient, points, "ostium")
    for side in (1.0, -1.0):
        x, y, z = MAXILLARY
        centre = chain_distance(*points, ((side * x, y, z), (side * x, y + 1, z))) < 3
        assert joined(centre, airway, air) == (ostium_mm > 0)


@pytest.mark.parametrize("seed", [5, 9, 12])
def test_an_open_mouth_joins_outside_and_pharynx_below_the_plane_only(make_patient, seed):
    patient = make_patient(seed)
    assert patient.anatomy.lips_mm > 0
    points = anatomical_grid((-30.0, -84.0, -48.0), (30.0, 30.0, 0.0))
    mouth = cavity_air(patient, points, "mouth")
    outside = build_head(patient.anatomy, patient.airway).distance(*points) > 1.0
    pharynx = (patient.airway.distance(*points) < 0) & (points[1] > 0)
    assert joined(mouth, outside & (points[1] < -60), mouth | outside)
    assert joined(mouth, pharynx & (points[2] < -26), mouth | pharynx)
    above = pharynx & (points[2] > PHARYNX_PLANE_MM[2])
    assert not joined(mouth & (points[2] > -24), above, (mouth & (points[2] > -24)) | above)


def test_air_in_a_closed_mouth_meets_nothing(make_patient):
    patient = make_patient(6)
    assert patient.anatomy.mouth_mm > 0 == patient.anatomy.lips_mm
    points = anatomical_grid((-30.0, -84.0, -48.0), (30.0, 30.0, 0.0))
    mouth = cavity_air(patient, points, "mouth")
    outside = build_head(patient.anatomy, patient.airway).distance(*points) > -1.0
    airway = patient.airway.distance(*points) < 1.0
    assert mouth.any()
    assert not (mouth & ndimage.binary_dilation(outside | airway)).any()


@pytest.mark.parametrize("seed", [2, 5, 9])
def test_no_cavity_lies_in_the_lumen_between_the_planes(make_patient, seed):
    patient = make_patient(seed)
    points = anatomical_grid((-30.0, -90.0, -22.0), (30.0, 30.0, 50.0))
    inside = patient.airway.distance(*points) < -0.3
    inside &= nostril_height(points[1], points[2], patient.anatomy) > NOSTRIL_PLANE_MM
    share = (inside & cavity_air(patient, points)).sum() / inside.sum()
    assert share < 1e-3


def test_a_spur_narrows_its_own_side_only(make_patient):
    bare, spurred = make_patient(3, spur_mm=0.0), make_patient(3, spur_mm=2.5)
    points = anatomical_grid((-20.0, -50.0, -4.0), (20.0, -15.0, 16.0))
    before, after = (p.airway.distance(*points) < 0 for p in (bare, spurred))
    lost = before & ~after
    where = bare.airway.locate(*points)
    assert lost[where.side > 0].sum() * STEP_MM**3 > 20
    # On the other side only the rounding of edges by the fillet.
    assert lost[where.side < 0].sum() * STEP_MM**3 < 2
    assert not (after & ~before).any()
    turned = mirrored(spurred.anatomy)
    assert turned.spur_mm == -2.5
    assert spur(where, spurred.anatomy).min() < 0
