"""Pictures of surfaces, drawn off-screen; equal cameras for every variant."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import numpy as np
import pyvista
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LightSource
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from vtkmodules.vtkCommonCore import vtkLogger

Triangles = Float[np.ndarray, "face 3 3"]
Picture = UInt8[np.ndarray, "row column rgb"]

VIEWS = {"from the front": (0.25, -1.0, 0.1), "from the left": (1.0, -0.15, 0.1)}
"""Directions from the airway to the camera, LPS."""
_SIZE = (620, 620)
_MARGIN = 1.04
_MAX_FACES = 12_000
_TRIAL_S = 120.0
"""Longest wait for a trial drawing; a busy machine needs seconds for the imports alone."""
_PLAIN_COLOUR = "#c9d1db"


def signed_distances(surface: Triangles, baseline: Triangles) -> Float[np.ndarray, "face"]:
    """Return how far each triangle's centre lies from the baseline surface, mm.

    Positive outside it, where the airway became wider, negative inside: the side of the nearest
    baseline triangle.
    """
    mesh = _mesh(baseline)
    centres = surface.mean(axis=1)
    cell, closest = mesh.find_closest_cell(centres, return_closest_point=True)
    offset = centres - closest
    normal = _outward_normals(baseline)[cell]
    side = np.where(np.einsum("fi,fi->f", offset, normal) < 0, -1.0, 1.0)
    distance: Float[np.ndarray, "face"] = side * np.linalg.norm(offset, axis=1)
    return distance


def _outward_normals(surface: Triangles) -> Float[np.ndarray, "face 3"]:
    """Return area-weighted normals that point away from the middle on the whole.

    A wall is open at the nostrils and the pharynx, so that no volume tells its orientation; the flux of the
    position through it does unless the openings are larger than the wall.
    """
    normal = np.cross(surface[:, 1] - surface[:, 0], surface[:, 2] - surface[:, 0])
    centres = surface.mean(axis=1)
    flux = np.einsum("fi,fi->", centres - centres.mean(axis=0), normal)
    outward: Float[np.ndarray, "face 3"] = normal if flux >= 0 else -normal
    return outward


def render(
    surfaces: Mapping[str, Triangles],
    colouring: Mapping[str, Float[np.ndarray, "face"]],
    limit_mm: float,
    colours: str,
) -> dict[str, list[Picture]]:
    """Draw each surface from every view.

    Parameters
    ----------
    surfaces
        Triangles, mm, by variant.
    colouring
        Signed distance of each triangle, mm; a variant without it is drawn grey.
    limit_mm
        End of the symmetric colour scale.
    colours
        Name of a diverging colour map.

    Raises
    ------
    RuntimeError
        If this machine cannot draw off-screen.
    """
    if not can_draw():
        raise RuntimeError("VTK cannot draw off-screen here")
    points = np.concatenate([s.reshape(-1, 3) for s in surfaces.values()])
    pictures = {}
    with _quiet_vtk():
        for name, triangles in surfaces.items():
            mesh = _mesh(triangles)
            if name in colouring:
                mesh.cell_data["distance"] = colouring[name]
            pictures[name] = [
                _picture(mesh, points, np.array(view), limit_mm, colours)
                for view in VIEWS.values()
            ]
    return pictures


@cache
def can_draw() -> bool:
    """Say whether VTK can draw off-screen, tried in a process of its own.

    Where no OpenGL library is installed VTK does not raise, it takes the process down.
    """
    trial = [sys.executable, "-c", f"from {__name__} import try_to_draw; try_to_draw()"]
    try:
        done = subprocess.run(trial, check=False, capture_output=True, timeout=_TRIAL_S)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def try_to_draw() -> None:
    """Draw one triangle.

    Raises
    ------
    RuntimeError
        If nothing appears.
    """
    triangle = np.array([[[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [0.0, 0.0, 10.0]]])
    view = np.array(VIEWS["from the front"])
    _picture(_mesh(triangle), triangle.reshape(-1, 3), view, 1.0, "PuOr")


@contextmanager
def _quiet_vtk() -> Iterator[None]:
    """Keep VTK from reporting on the display that it does without."""
    before = vtkLogger.GetCurrentVerbosityCutoff()
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    try:
        yield
    finally:
        vtkLogger.SetStderrVerbosity(before)


def _picture(
    mesh: pyvista.PolyData,
    points: Float[np.ndarray, "point 3"],
    view: Float[np.ndarray, "3"],
    limit_mm: float,
    colours: str,
) -> Picture:
    plotter = pyvista.Plotter(off_screen=True, window_size=_SIZE)
    plotter.set_background("white")
    look = {"scalars": "distance", "clim": (-limit_mm, limit_mm), "cmap": colours}
    chosen = look if "distance" in mesh.cell_data else {"color": _PLAIN_COLOUR}
    plotter.add_mesh(mesh, show_scalar_bar=False, smooth_shading=False, ambient=0.25, **chosen)
    centre, reach, scale = _camera(points, view)
    direction = view / np.linalg.norm(view)
    plotter.camera_position = [tuple(centre + direction * 3 * reach), tuple(centre), (0, 0, 1)]
    plotter.enable_parallel_projection()
    plotter.camera.parallel_scale = scale
    plotter.reset_camera_clipping_range()
    picture = plotter.screenshot(return_img=True)
    plotter.close()
    if picture is None or picture.min() == picture.max():
        raise RuntimeError("nothing was drawn")
    return np.asarray(picture)[..., :3]


def _camera(
    points: Float[np.ndarray, "point 3"], view: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "3"], float, float]:
    """Return centre, reach and half height, mm, of the smallest square picture of all points."""
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    right = np.cross((0.0, 0.0, 1.0), view)
    up = np.cross(view, right)
    frame = np.stack([v / np.linalg.norm(v) for v in (right, up)])
    across = np.abs((points - centre) @ frame.T).max()
    reach = float(np.linalg.norm(np.ptp(points, axis=0)))
    return centre, max(reach, 1e-6), float(max(across, 1e-6) * _MARGIN)


def render_plainly(
    surfaces: Mapping[str, Triangles],
    colouring: Mapping[str, Float[np.ndarray, "face"]],
    limit_mm: float,
    colours: str,
) -> dict[str, list[Picture]]:
    """Draw the same with Matplotlib, for machines without OpenGL; fewer triangles are drawn."""
    points = np.concatenate([s.reshape(-1, 3) for s in surfaces.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    pictures = {}
    for name, triangles in surfaces.items():
        base = _face_colours(len(triangles), colouring.get(name), limit_mm, colours)
        pictures[name] = [
            _plain_picture(triangles, base, low, high, np.array(view)) for view in VIEWS.values()
        ]
    return pictures


def _face_colours(
    count: int, distance: Float[np.ndarray, "face"] | None, limit_mm: float, colours: str
) -> Float[np.ndarray, "face 4"]:
    if distance is None:
        return np.tile([0.79, 0.82, 0.86, 1.0], (count, 1))
    return np.asarray(colormaps[colours](np.clip(0.5 + distance / (2 * limit_mm), 0, 1)))


def _plain_picture(
    triangles: Triangles,
    colours: Float[np.ndarray, "face 4"],
    low: Float[np.ndarray, "3"],
    high: Float[np.ndarray, "3"],
    view: Float[np.ndarray, "3"],
) -> Picture:
    step = max(1, len(triangles) // _MAX_FACES)
    shown, base = triangles[::step], colours[::step].copy()
    normals = np.cross(shown[:, 1] - shown[:, 0], shown[:, 2] - shown[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    shade = LightSource(225, 45).shade_normals(normals, fraction=0.8)
    base[:, :3] *= (0.4 + 0.6 * shade)[:, None]
    figure = Figure(figsize=(_SIZE[0] / 100, _SIZE[1] / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="3d", proj_type="ortho")
    axes.add_collection3d(Poly3DCollection(shown, facecolors=base))
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(np.maximum(high - low, 1e-6))
    azimuth = float(np.degrees(np.arctan2(view[1], view[0])))
    axes.view_init(elev=float(np.degrees(np.arcsin(view[2] / np.linalg.norm(view)))), azim=azimuth)
    axes.set_axis_off()
    canvas.draw()
    picture: Picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return picture


def _mesh(triangles: Triangles) -> pyvista.PolyData:
    faces = np.arange(3 * len(triangles)).reshape(-1, 3)
    return pyvista.PolyData.from_regular_faces(triangles.reshape(-1, 3), faces)
