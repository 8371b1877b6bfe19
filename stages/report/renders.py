"""Pictures of surfaces, drawn off-screen; equal cameras for every variant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyvista
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LightSource
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

VIEWS = {"from the front": (0.25, -1.0, 0.1), "from the left": (1.0, -0.15, 0.1)}
"""Directions from the airway to the camera, LPS."""
_SIZE = (560, 520)
_MAX_FACES = 12_000


def distances_to(
    surface: Float[np.ndarray, "face 3 3"], baseline: Float[np.ndarray, "face 3 3"]
) -> Float[np.ndarray, "face"]:
    """Return the distance of each triangle's centre to the baseline surface, mm."""
    mesh = _mesh(baseline)
    centres = surface.mean(axis=1)
    _, closest = mesh.find_closest_cell(centres, return_closest_point=True)
    distance: Float[np.ndarray, "face"] = np.linalg.norm(centres - closest, axis=1)
    return distance


def render(
    surfaces: Mapping[str, Float[np.ndarray, "face 3 3"]],
    colouring: Mapping[str, Float[np.ndarray, "face"]],
    limit_mm: float,
    colours: str,
) -> dict[str, list[UInt8[np.ndarray, "row column rgb"]]]:
    """Draw each surface from every view, coloured from 0 to the limit.

    Raises
    ------
    RuntimeError
        If this machine cannot draw off-screen.
    """
    points = np.concatenate([s.reshape(-1, 3) for s in surfaces.values()])
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    reach = float(np.linalg.norm(np.ptp(points, axis=0)))
    pictures = {}
    for name, triangles in surfaces.items():
        mesh = _mesh(triangles)
        mesh.cell_data["distance"] = colouring[name]
        pictures[name] = [
            _picture(mesh, centre, reach, np.array(view), limit_mm, colours)
            for view in VIEWS.values()
        ]
    return pictures


def _picture(
    mesh: pyvista.PolyData,
    centre: Float[np.ndarray, "3"],
    reach: float,
    view: Float[np.ndarray, "3"],
    limit_mm: float,
    colours: str,
) -> UInt8[np.ndarray, "row column rgb"]:
    plotter = pyvista.Plotter(off_screen=True, window_size=_SIZE)
    plotter.set_background("white")
    plotter.add_mesh(
        mesh,
        scalars="distance",
        clim=(0, limit_mm),
        cmap=colours,
        show_scalar_bar=False,
        smooth_shading=False,
    )
    direction = view / np.linalg.norm(view)
    plotter.camera_position = [tuple(centre + direction * 3 * reach), tuple(centre), (0, 0, 1)]
    plotter.enable_parallel_projection()
    plotter.camera.parallel_scale = 0.42 * reach
    picture = plotter.screenshot(return_img=True)
    plotter.close()
    if picture is None or picture.min() == picture.max():
        raise RuntimeError("nothing was drawn")
    return np.asarray(picture)[..., :3]


def render_plainly(
    surfaces: Mapping[str, Float[np.ndarray, "face 3 3"]],
    colouring: Mapping[str, Float[np.ndarray, "face"]],
    limit_mm: float,
    colours: str,
) -> dict[str, list[UInt8[np.ndarray, "row column rgb"]]]:
    """Draw the same with Matplotlib, for machines without OpenGL; fewer triangles are drawn."""
    points = np.concatenate([s.reshape(-1, 3) for s in surfaces.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    return {
        name: [
            _plain_picture(
                triangles, colouring[name], low, high, np.array(view), limit_mm, colours
            )
            for view in VIEWS.values()
        ]
        for name, triangles in surfaces.items()
    }


def _plain_picture(
    triangles: Float[np.ndarray, "face 3 3"],
    colouring: Float[np.ndarray, "face"],
    low: Float[np.ndarray, "3"],
    high: Float[np.ndarray, "3"],
    view: Float[np.ndarray, "3"],
    limit_mm: float,
    colours: str,
) -> UInt8[np.ndarray, "row column rgb"]:
    from matplotlib import colormaps

    step = max(1, len(triangles) // _MAX_FACES)
    shown, values = triangles[::step], colouring[::step]
    base = colormaps[colours](np.clip(values / limit_mm, 0, 1))
    normals = np.cross(shown[:, 1] - shown[:, 0], shown[:, 2] - shown[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    shade = LightSource(225, 45).shade_normals(normals, fraction=0.8)
    base[:, :3] *= (0.4 + 0.6 * shade)[:, None]
    figure = Figure(figsize=(_SIZE[0] / 100, _SIZE[1] / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="3d", proj_type="ortho")
    axes.add_collection3d(Poly3DCollection(shown, facecolors=base))
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(high - low)
    azimuth = float(np.degrees(np.arctan2(view[1], view[0])))
    axes.view_init(elev=float(np.degrees(np.arcsin(view[2] / np.linalg.norm(view)))), azim=azimuth)
    axes.set_axis_off()
    canvas.draw()
    picture: UInt8[np.ndarray, "row column rgb"] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return picture


def _mesh(triangles: Float[np.ndarray, "face 3 3"]) -> pyvista.PolyData:
    faces = np.arange(3 * len(triangles)).reshape(-1, 3)
    return pyvista.PolyData.from_regular_faces(triangles.reshape(-1, 3), faces)
