"""What VTK says of a mesh, independent of the room's own checks."""

from __future__ import annotations

import numpy as np
import pyvista as pv
from vtkmodules.vtkCommonCore import mutable, vtkIdList
from vtkmodules.vtkCommonDataModel import vtkStaticCellLocator


def data_of(mesh):
    faces = np.column_stack([np.full(len(mesh.faces), 3), mesh.faces])
    return pv.PolyData(mesh.points, faces.ravel())


def loose_edges(mesh):
    """Return the number of border and non-manifold edges."""
    found = data_of(mesh).extract_feature_edges(
        boundary_edges=True, non_manifold_edges=True, feature_edges=False, manifold_edges=False
    )
    return found.n_cells


def crossing_edges(mesh):
    """Return the number of edges that pass through a triangle without a vertex of theirs."""
    data = data_of(mesh)
    locator = vtkStaticCellLocator()
    locator.SetDataSet(data)
    locator.BuildLocator()
    edges = np.unique(np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    near, count = vtkIdList(), 0
    t, sub, at, local = mutable(0.0), mutable(0), [0.0] * 3, [0.0] * 3
    cell = data.GetCell(0).NewInstance()
    for a, b in edges:
        start, end = mesh.points[a], mesh.points[b]
        locator.FindCellsAlongLine(start, end, 0.0, near)
        for i in range(near.GetNumberOfIds()):
            face = near.GetId(i)
            if a in mesh.faces[face] or b in mesh.faces[face]:
                continue
            cell.DeepCopy(data.GetCell(face))
            count += cell.IntersectWithLine(start, end, 0.0, t, at, local, sub)
    return count
