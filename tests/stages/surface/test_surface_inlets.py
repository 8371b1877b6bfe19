"""What lies before the nostrils: a pipe, or outside air that ends at the face."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from surface_oracles import crossing_edges, loose_edges
from surface_shapes import (
    ISOLEVEL_HU,
    grid_around,
    image_of,
    sphere,
    tube,
    y_planes,
    y_tube,
)

from pipeline.core.errors import InputError, UsageError
from pipeline.core.volume import Volume
from stages.surface.build import build_surface
from stages.surface.mesh import area_mm2, volume_mm3
from stages.surface.settings import SurfaceSettings

HEAD_MM, HEAD_AT = 30.0, np.array((0.0, 0.0, 13.0))
BALL_MM = 15.0
NASAL_FLOOR = tube((0, 0, 4), (5, 11, -10.5), 2.0)
"""A passage behind the nostrils that dips below the left one's plane, within the ball, inside the head."""


def planes():
    """Return planes 4 mm deeper than the shapes' own: the nasal floor lies below them."""
    found = y_planes()
    for side in ("left", "right"):
        plane = found[f"nostril-{side}"]
        x, y, z = np.array(plane.centre_mm) + 4.0 * np.array(plane.normal)
        found[f"nostril-{side}"] = replace(plane, centre_mm=(float(x), float(y), float(z)))
    return found


def nose(p):
    return np.minimum(y_tube(p), NASAL_FLOOR(p))


def face_and_nose(p):
    """Return the air: outside a round head, and a nose within it that opens at its surface."""
    return np.minimum(-sphere(HEAD_MM, HEAD_AT)(p), nose(p))


def head_image(distance=face_and_nose):
    return image_of(distance, grid_around(40.0, 0.8))


def region_of(image):
    """Return the nose with a margin and what continues it beyond the nostrils, as the airway stage does."""
    return Volume((image_of(nose, image.grid).values < 0.0).astype(np.uint8), image.grid)


def built(image, **settings):
    chosen = SurfaceSettings.model_validate({"isolevel_hu": ISOLEVEL_HU, **settings})
    return build_surface(image, region_of(image), planes(), chosen)


@pytest.fixture(scope="module")
def image():
    return head_image()


@pytest.fixture(scope="module")
def plain(image):
    return built(image, smoothing_iterations=0)


@pytest.fixture(scope="module")
def with_ball(image):
    return built(image, smoothing_iterations=0, outside_air_mm=BALL_MM)


def ball_centre():
    return np.mean([planes()[f"nostril-{side}"].centre_mm for side in ("left", "right")], axis=0)


def test_surface_with_outside_air_is_closed_and_does_not_cross_itself(with_ball):
    whole = with_ball.whole
    assert trimesh.Trimesh(whole.points, whole.faces, process=False).is_volume
    assert loose_edges(whole) == 0
    assert crossing_edges(whole) == 0
    assert set(with_ball.caps) == {"inlet", "outlet-pharynx"}


def test_inlet_is_the_part_of_the_ball_outside_the_head(with_ball):
    inlet = with_ball.caps["inlet"]
    away = np.linalg.norm(inlet.points - ball_centre(), axis=1)
    # The rim lies half a voxel of the surface's grid within the ball.
    assert away.max() < BALL_MM + 0.05
    assert away.min() > BALL_MM - 0.3
    # Points of the ball at angle phi to the head's centre are outside it where cos phi < share.
    d = np.linalg.norm(HEAD_AT - ball_centre())
    share = (BALL_MM**2 + d**2 - HEAD_MM**2) / (2 * BALL_MM * d)
    # The rim's strip of skin adds 0.25 mm to the sphere's edge: about 2 %.
    assert area_mm2(inlet) == pytest.approx(2 * np.pi * BALL_MM**2 * (1 + share), rel=0.03)


def test_nose_behind_the_nostrils_is_the_same_with_and_without_outside_air(plain, with_ball):
    def deep(surface):
        points = surface.wall.points
        ahead = [
            (points - np.array(planes()[f"nostril-{side}"].centre_mm))
            @ np.array(planes()[f"nostril-{side}"].normal)
            for side in ("left", "right")
        ]
        floor = (points[:, 1] > 5.0) & (points[:, 2] < 0.0)
        assert (ahead[0][floor] < -1.0).any()
        inside = (np.min(ahead, axis=0) > 4.0) | floor
        at_face = np.linalg.norm(points - HEAD_AT, axis=1) > HEAD_MM - 1.0
        return points[inside & ~at_face]

    one, two = deep(plain), deep(with_ball)
    assert (one[:, 1] > 8.0).sum() > 100
    assert len(one) == len(two)
    # Same nodes of the same grid; its origin differs, and with it float32's rounding of the points.
    away, _ = cKDTree(two).query(one)
    assert away.max() < 1e-5


def test_nostrils_planes_are_kept_where_they_are_no_inlets(plain, with_ball):
    assert plain.inner_planes == {}
    assert set(with_ball.inner_planes) == {"nostril-left", "nostril-right"}


def test_air_behind_the_lips_is_no_inlet():
    # A cleft through the ball's surface inside the head, open to outside air within the ball.
    cleft = tube((0.0, -12.0, -16.5), (0.0, -20.0, 4.0), 1.5)
    surface = built(
        head_image(lambda p: np.minimum(face_and_nose(p), cleft(p))), outside_air_mm=15
    )
    parts = trimesh.Trimesh(surface.caps["inlet"].points, surface.caps["inlet"].faces).split(
        only_watertight=False
    )
    assert len(parts) == 1
    within = np.linalg.norm(surface.wall.points - (0.0, -16.0, -5.0), axis=1) < 5.0
    assert within.any()


def test_air_that_bypasses_a_nostril_is_refused():
    hole = tube((3.0, 0.0, -4.0), (3.0, -9.0, -20.0), 1.5)
    image = head_image(lambda p: np.minimum(face_and_nose(p), hole(p)))
    with pytest.raises(InputError, match="beside a nostril"):
        built(image, outside_air_mm=BALL_MM)


def test_ball_that_does_not_hold_the_nostrils_is_refused(image):
    with pytest.raises(InputError, match="at least"):
        built(image, outside_air_mm=6.0)


def test_pipe_and_outside_air_together_are_refused(image):
    with pytest.raises(UsageError, match="both set"):
        built(image, outside_air_mm=BALL_MM, inlet_extension_mm=5.0)


@pytest.mark.parametrize("taper", [0.6, 1.0, 1.8])
def test_pipe_adds_the_volume_of_a_frustum_and_ends_in_the_wished_area(plain, image, taper):
    length = 6.0
    surface = built(image, smoothing_iterations=0, inlet_extension_mm=length, inlet_taper=taper)
    assert trimesh.Trimesh(surface.whole.points, surface.whole.faces, process=False).is_volume
    assert crossing_edges(surface.whole) == 0
    areas = {side: area_mm2(plain.caps[f"inlet-{side}"]) for side in ("left", "right")}
    for side, area in areas.items():
        # STL's float32 rounding: 4e-6 mm on rims of 3 mm.
        assert area_mm2(surface.caps[f"inlet-{side}"]) == pytest.approx(taper * area, rel=1e-5)
    added = volume_mm3(surface.whole) - volume_mm3(plain.whole)
    # The area grows linearly; facets between rings lie a little inside where it bulges.
    assert added == pytest.approx(sum(areas.values()) * length * (1 + taper) / 2, rel=2e-3)
    assert set(surface.inner_planes) == {"nostril-left", "nostril-right"}


def test_far_end_lies_on_the_shifted_plane(image):
    surface = built(image, inlet_extension_mm=6.0)
    plane = planes()["nostril-left"]
    height = (surface.caps["inlet-left"].points - np.array(plane.centre_mm)) @ plane.normal
    np.testing.assert_allclose(height, -6.0, rtol=0, atol=1e-5)


def test_remeshing_goes_with_outside_air(image):
    surface = built(image, outside_air_mm=BALL_MM, target_edge_mm=1.0)
    assert trimesh.Trimesh(surface.whole.points, surface.whole.faces, process=False).is_volume
    away = np.linalg.norm(surface.caps["inlet"].points - ball_centre(), axis=1)
    assert away.max() < BALL_MM + 0.05
    assert away.min() > BALL_MM - 0.35
