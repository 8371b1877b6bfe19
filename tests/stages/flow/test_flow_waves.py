"""Waves of sound leave a pipe through its outlet: nothing else takes a pressure wave out of a run."""

from __future__ import annotations

import numpy as np
import pytest
from flow_meshes import circle, tube

from stages.flow import openings as flow_openings
from stages.flow.collision import Collision
from stages.flow.engines import engine_name, make_engine
from stages.flow.lattice import SOUND_SPEED_SQUARED_LU
from stages.flow.mesh import WALL, assemble
from stages.flow.openings import OpeningState, make_openings, opening_links, outlet_control
from stages.flow.voxels import build_lattice
from stages.flow.wall_links import wall_links

SOUND = float(np.sqrt(SOUND_SPEED_SQUARED_LU))
LENGTH, WIDTH, TAU = 100, 8.0, 0.505
"""A pipe of 8 cells at the viscosity of a nose; lengths in cells."""


def pulse_history(
    start: float, heading: int, steps: int, *, given_velocity: bool = False
) -> np.ndarray:
    """Return the pressure (step, place) of a pulse on its way, over the height that it began with.

    The pulse is a Gaussian of 8 cells' standard deviation that travels along +z or -z in fluid at rest,
    with u = p / (rho c); the openings aim at no flow.
    """
    surface = assemble(tube(circle(WIDTH), float(LENGTH)))
    lattice = build_lattice(surface, 1.0)
    openings, size = make_openings(surface, lattice), len(lattice.cells)
    links, _ = opening_links(openings, lattice, developed=False)
    links = links.with_surface(wall_links(lattice, links.link, np.zeros(size), TAU))
    solid = np.setdiff1d(lattice.links_of(WALL), links.link)
    walls = wall_links(lattice, solid, np.ones(size), TAU)
    parts = {"collision": Collision(1 / TAU), "precision": np.float64, "threads": 1}
    engine = make_engine(engine_name("auto"), lattice, walls, links, **parts)
    place = lattice.centres_mm[:, 2]
    height = 1e-4
    fields = np.zeros((4, len(place)))
    fields[0] = height * np.exp(-0.5 * ((place - start) / 8.0) ** 2)
    fields[3] = heading * SOUND * fields[0]
    engine.restart(fields, walls, links, parts["collision"])
    control = outlet_control(openings, 1.0, integrate=not given_velocity)
    state = OpeningState(given_velocity, np.zeros(2), np.zeros(2), np.zeros(2), control)
    layers = [np.abs(place - z - 0.5) < 0.5 for z in range(LENGTH)]
    history = []
    for _ in range(steps):
        engine.advance(1, state)
        density = engine.macroscopic()[0]
        history.append([density[layer].mean() for layer in layers])
    return np.array(history) / height


def reflected_at_the_outlet() -> float:
    """Return the largest pressure that comes back to the middle from a pulse sent to the outlet."""
    start, middle = 0.7 * LENGTH, LENGTH // 2
    there_and_back = (LENGTH - start + LENGTH - middle) / SOUND
    history = pulse_history(start, 1, round(there_and_back + 24 / SOUND))
    return float(np.abs(history[round((LENGTH - start) / SOUND) :, middle]).max())


def test_an_outlet_returns_less_than_a_fifth_of_a_pressure_wave(monkeypatch):
    """An impedance z times that of sound returns (1 - z) / (1 + z), 0.11 for 0.8; the flux is a step late."""
    assert reflected_at_the_outlet() < 0.2
    # What it is for: an outlet of constant pressure returns all but what friction takes on the way.
    monkeypatch.setattr(flow_openings, "_IMPEDANCE_SHARE", 0.0)
    assert reflected_at_the_outlet() > 0.6


@pytest.mark.parametrize(("given_velocity", "sign"), [(False, -1.0), (True, 1.0)])
def test_a_wave_sent_to_an_inlet_comes_back_and_leaves_through_the_outlet(given_velocity, sign):
    """A total pressure returns a wave upside down, a velocity upright: inlets absorb none."""
    start = 0.3 * LENGTH
    leaves = (start + LENGTH) / SOUND
    steps = round(leaves + 60 / SOUND)
    history = pulse_history(start, -1, steps, given_velocity=given_velocity)
    back = history[: round(leaves - 24 / SOUND), LENGTH // 2]
    assert sign * (back[np.abs(back).argmax()]) > 0.6
    assert np.abs(history[round(leaves + 40 / SOUND) :]).max() < 0.2
