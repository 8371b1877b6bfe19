"""Gaps that a lattice does not resolve, and passages that it closes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flow_meshes import blocks, circle, rectangle, rotation, tube, write_folder

from stages.flow.gaps import Gaps, find_gaps
from stages.flow.mesh import assemble
from stages.flow.settings import FlowSettings
from stages.flow.stage import run
from stages.flow.voxels import build_lattice

SPACING = 0.5
WIDTH, LENGTH = 8.0, 20.0


def gaps_of(patches, spacing: float = SPACING) -> Gaps:
    surface = assemble(patches)
    return find_gaps(surface, build_lattice(surface, spacing))


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (40.0, 25.0, 15.0)])
def test_a_slit_under_two_cells_is_told_with_its_width_and_a_place_in_it(angles):
    turn = rotation(*angles)
    height = 1.5 * SPACING * np.abs(turn[:, 1]).max()
    gaps = gaps_of(tube(rectangle(WIDTH, height), LENGTH, turn=turn))
    assert gaps.width_mm is not None
    assert gaps.place_mm is not None
    assert gaps.width_mm == pytest.approx(1.5 * SPACING, rel=0.25)
    x, y, z = np.array(gaps.place_mm) @ turn
    assert abs(x) < WIDTH / 2
    assert abs(y) < height / 2
    assert 0.0 < z < LENGTH
    (said,) = gaps.caveats()
    assert "under two cells wide" in said
    assert f"near ({gaps.place_mm[0]:.1f}, " in said


def test_an_aligned_slit_chokes_both_its_openings():
    gaps = gaps_of(tube(rectangle(WIDTH, 0.75), LENGTH))
    assert gaps.choked == ("inlet", "outlet")
    assert gaps.thin_cells == gaps.cells
    assert gaps.caveats()[0].startswith("100 % of the fluid cells")
    assert "all flow through inlet, outlet passes them" in gaps.caveats()[0]


def test_a_slit_of_many_cells_and_a_round_pipe_have_no_gaps():
    for patches in (
        tube(rectangle(WIDTH, 3.0), LENGTH, turn=rotation(40.0, 25.0, 15.0)),
        tube(circle(6.0), LENGTH, turn=rotation(30.0, 20.0, 10.0)),
    ):
        gaps = gaps_of(patches)
        assert gaps.caveats() == []
        assert gaps.width_mm is None
        assert gaps.lost_wall_mm2 == 0.0
        assert gaps.fluid_volume_mm3 == pytest.approx(gaps.surface_volume_mm3, rel=0.02)


def with_side_slit(height: float):
    """Return a duct 12 long with a slit of 6 by 6 at one side, in its upper half."""
    size = np.array([4.0, 4.0, 12.0, 6.0])
    x = [0.0, size[0], size[0] + size[3]]
    y = [0.0, size[1]]
    z = [0.0, 6.0, 6.0 + height, size[2]]

    def name(_, normal):
        return {(0, 0, -1): "inlet", (0, 0, 1): "outlet"}.get(normal, "wall")

    occupied = np.zeros((2, 1, 3), dtype=bool)
    occupied[0] = True
    occupied[1, 0, 1] = True
    grid = [np.array(v) for v in (x, y, z)]
    patches = blocks(occupied, 1.0, name)
    placed = {
        key: np.stack([grid[d][faces[..., d].round().astype(int)] for d in range(3)], axis=-1)
        for key, faces in patches.items()
    }
    # the slit's own floor and ceiling are wall, not openings
    wall = [placed["wall"]]
    for key in ("inlet", "outlet"):
        outer = placed[key][..., 0].max(axis=1) <= size[0]
        wall.append(placed[key][~outer])
        placed[key] = placed[key][outer]
    return {**placed, "wall": np.concatenate(wall)}


def test_a_side_slit_of_a_quarter_of_a_cell_is_told_though_no_cell_lies_in_it():
    height = SPACING / 4
    gaps = gaps_of(with_side_slit(height))
    assert gaps.thin_cells == 0
    assert gaps.lost_place_mm is not None
    x, y, z = gaps.lost_place_mm
    assert 4.0 < x <= 10.0
    assert 0.0 <= y <= 4.0
    assert 6.0 <= z <= 6.0 + height
    # floor and ceiling, 6 by 4 each, but for what lies within a cell and a half of the duct's own wall
    floors = 2 * 4.0 * 6.0
    assert 0.7 * floors < gaps.lost_wall_mm2 < floors + 2 * height * 10.0
    (said,) = gaps.caveats()
    assert f"{gaps.lost_wall_mm2:.3g} mm2 of the wall" in said


def test_the_same_slit_five_cells_wide_is_not_lost():
    gaps = gaps_of(with_side_slit(5 * SPACING))
    assert gaps.lost_wall_mm2 == 0.0
    assert gaps.caveats() == []


def test_flow_json_tells_gaps_and_their_warnings(tmp_path):
    folder = write_folder(tmp_path / "surface", with_side_slit(SPACING / 4))
    settings = FlowSettings(
        flow_rate_ml_s=5.0,
        spacing_mm=SPACING,
        max_steps=20,
        threads=1,
        streamlines=0,
        temperature=False,
    )
    run(folder, tmp_path / "flow", settings)
    record = json.loads((tmp_path / "flow" / "flow.json").read_text())
    gaps = gaps_of(with_side_slit(SPACING / 4))
    assert record["lattice"]["thin_gap_cells"] == 0
    assert record["lattice"]["lost_wall_area_mm2"] == pytest.approx(gaps.lost_wall_mm2, rel=1e-4)
    assert record["lattice"]["lost_wall_place_mm"] == pytest.approx(gaps.lost_place_mm, abs=1e-2)
    assert record["lattice"]["surface_volume_mm3"] == pytest.approx(4 * 4 * 12 + 3.0, rel=1e-5)
    assert any("no fluid before them" in said for said in record["warnings"])
