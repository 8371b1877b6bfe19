"""Close a planar opening with triangles whose boundary is exactly the opening's."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkIdTypeArray, vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
from vtkmodules.vtkFiltersGeneral import vtkContourTriangulator

from pipeline.core.errors import InputError
from stages.surface.cutting import Opening, plane_frame
from stages.surface.mesh import Mesh


def cap(opening: Opening, *, outward_ahead: bool) -> Mesh:
    """Triangulate an opening.

    Parameters
    ----------
    opening
        Loops on a plane.
    outward_ahead
        The outward normal is the plane's normal (pharynx) or its opposite (nostrils).

    Raises
    ------
    InputError
        If the loops cross one another.
    """
    normal, frame = plane_frame(opening.plane)
    points = np.concatenate(opening.loops_mm)
    flat = (points - np.array(opening.plane.centre_mm)) @ frame.T
    faces = _triangulate(flat, [len(loop) for loop in opening.loops_mm])
    if len(faces) == 0:
        raise InputError(
            f"The opening at plane '{opening.plane.name}' cannot be closed: its outline crosses itself.",
            plane=opening.plane.name,
        )
    a, b, c = (points[faces[:, i]] for i in range(3))
    ahead = float((np.cross(b - a, c - a) @ normal).sum()) > 0
    return Mesh(points, faces if ahead == outward_ahead else faces[:, ::-1])


def _triangulate(
    flat: Float[np.ndarray, "point 2"], lengths: list[int]
) -> Int[np.ndarray, "face 3"]:
    points = vtkPoints()
    points.SetDataTypeToDouble()
    spatial = np.column_stack([flat, np.zeros(len(flat))])
    points.SetData(numpy_to_vtk(spatial, deep=True))
    lines = vtkCellArray()
    start = 0
    for length in lengths:
        lines.InsertNextCell(length + 1)
        for i in [*range(start, start + length), start]:
            lines.InsertCellPoint(i)
        start += length
    data = vtkPolyData()
    data.SetPoints(points)
    data.SetLines(lines)
    triangulator = vtkContourTriangulator()
    triangulator.SetInputData(data)
    triangulator.Update()
    cells: vtkIdTypeArray = triangulator.GetOutput().GetPolys().GetConnectivityArray()
    if cells.GetNumberOfTuples() == 0:
        return np.zeros((0, 3), dtype=np.int64)
    faces: Int[np.ndarray, "face 3"] = vtk_to_numpy(cells).astype(np.int64).reshape(-1, 3)
    return faces
