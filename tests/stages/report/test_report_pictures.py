"""Pictures show the right place, at one scale, with the right sign."""

import numpy as np
import pytest
import report_artefacts as artefacts
import trimesh

from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume
from stages.report.figures import crop_white, shared_range
from stages.report.renders import VIEWS, can_draw, render, render_plainly, signed_distances
from stages.report.sections import FlowField, common_places, cut_sections
from stages.report.slices import VIEWS as SLICES
from stages.report.slices import cut, differences, frame_around, shown_range


def sphere(radius):
    return np.array(trimesh.creation.icosphere(subdivisions=3, radius=radius).triangles)


def numbered_volume(shape=(12, 20, 16), spacing=(2.0, 1.0, 1.0), origin=(-7.0, -30.0, 50.0)):
    grid = VoxelGrid(shape, spacing, origin)
    world = grid.to_world_mm(np.stack(np.indices(shape), axis=-1))
    return Volume(world.astype(np.float32)[..., 2], grid)


@pytest.mark.parametrize(("radius", "sign"), [(10.6, 1), (9.4, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_a_wider_surface_lies_outside_and_a_narrower_one_inside(radius, sign, order):
    found = signed_distances(sphere(radius), sphere(10.0)[:, order])
    # Centres of triangles lie up to edge^2 / 3 / (2 r) = 0.1 mm inside their sphere.
    np.testing.assert_allclose(found, sign * 0.6, atol=0.12)


def test_an_open_tube_that_became_narrower_lies_inside():
    found = signed_distances(artefacts.tube_mesh(2.7), artefacts.tube_mesh(3.0))
    np.testing.assert_allclose(found, -0.3, atol=0.05)


def test_slices_show_patient_coordinates():
    volume = numbered_volume()
    mask = volume.with_values((volume.values > 0).astype(np.uint8))
    frame = frame_around(mask, 50.0)
    for view in ("coronal", "sagittal"):
        shown = cut(volume, volume.grid, frame, view)
        bottom, top = shown.extent_mm[2:]
        # The values are z: the upper edge of the picture is the head.
        np.testing.assert_allclose(shown.values[0], top - 1.0)
        np.testing.assert_allclose(shown.values[-1], bottom + 1.0)


def test_every_panel_of_a_view_shows_the_same_range():
    fine = numbered_volume()
    coarse = Volume(
        fine.values.reshape(4, 3, 20, 16).mean(axis=1),
        VoxelGrid((4, 20, 16), (6.0, 1.0, 1.0), (-7.0, -30.0, 52.0)),
    )
    mask = np.zeros(fine.grid.shape, np.uint8)
    mask[4:8, 5:15, 4:12] = 1
    frame = frame_around(fine.with_values(mask), 2.0)
    for view in SLICES:
        limits = shown_range(fine.grid, frame, view)
        shown = cut(coarse, fine.grid, frame, view)
        left, right, bottom, top = shown.extent_mm
        assert left <= min(limits[:2])
        assert right >= max(limits[:2])
        assert min(bottom, top) <= min(limits[2:])
        assert max(bottom, top) >= max(limits[2:])


def test_the_difference_of_a_coarser_volume_repeats_its_slices():
    fine = numbered_volume()
    thick = artefacts.thick_slices(fine)
    found = differences({"lr": thick}, fine)["lr"].values
    # Of three slices of z the mean is the middle one: +2, 0 and -2 mm remain.
    np.testing.assert_allclose(found[:3, 0, 0], [2, 0, -2], atol=1e-5)


def test_flow_sections_cut_the_field_where_they_say():
    speed = np.full((8, 10, 12), np.nan)
    speed[2:6, 1:9, 1:11] = 1.0
    field = FlowField(speed, speed * 2, np.array([10.0, 20.0, 30.0]), 0.5)
    places = common_places(field)
    for section, (title, place) in zip(cut_sections(field, places), places.items(), strict=True):
        assert section.title.startswith(title)
        assert f"{place:.0f} mm" in section.title
        assert np.nanmax(section.pressure) == 2.0
    low, high = shared_range({"hr": cut_sections(field, places)}, "speed")
    assert low == 0.0
    assert high >= 1.0


def test_cropping_keeps_the_scale_of_all_pictures():
    first = np.full((60, 80, 3), 255, np.uint8)
    second = first.copy()
    first[20:30, 30:40] = 0
    second[25:50, 10:20] = 0
    cropped = crop_white([first, second])
    assert cropped[0].shape == cropped[1].shape == (30, 30, 3)


@pytest.mark.parametrize("draw", [render, render_plainly])
def test_surfaces_of_one_size_fill_the_picture_and_smaller_ones_less(draw):
    if draw is render and not can_draw():
        pytest.skip("VTK cannot draw off-screen on this machine")
    surfaces = {"hr": sphere(10.0), "lr": sphere(5.0)}
    distance = {"lr": signed_distances(surfaces["lr"], surfaces["hr"])}
    pictures = draw(surfaces, distance, 5.0, "PuOr")
    for view in range(len(VIEWS)):
        large, small = ((pictures[n][view] < 250).any(axis=2).sum() for n in ("hr", "lr"))
        # Projected area grows with the square of the radius; shading may lose the white edge.
        np.testing.assert_allclose(small / large, 0.25, atol=0.04)
