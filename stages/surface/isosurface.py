"""Draw the zero level of a field as triangles and smooth it without shrinking."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from vtkmodules.util.numpy_support import (
    numpy_to_vtk,
    numpy_to_vtkIdTypeArray,
    vtk_to_numpy,
)
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkImageData, vtkPolyData
from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D, vtkWindowedSincPolyDataFilter

from pipeline.core.geometry import VoxelGrid
from stages.surface.mesh import Mesh


def extract_surface(values: Float[np.ndarray, "z y x"], grid: VoxelGrid) -> Mesh:
    """Return the zero level of a field that is negative inside, normals outward.

    Parameters
    ----------
    values
        Field; no node may be exactly 0 and the border must be positive.
    grid
        Grid along the patient axes.
    """
    image = vtkImageData()
    image.SetDimensions(*grid.shape[::-1])
    image.SetSpacing(*grid.spacing_mm[::-1])
    # The field is drawn at the origin: float32 points keep 1e-5 mm there.
    array = numpy_to_vtk(np.ascontiguousarray(values, dtype=np.float32).ravel())
    image.GetPointData().SetScalars(array)
    edges = vtkFlyingEdges3D()
    edges.SetInputData(image)
    edges.SetValue(0, 0.0)
    edges.ComputeNormalsOff()
    edges.ComputeGradientsOff()
    edges.ComputeScalarsOff()
    edges.Update()
    output = edges.GetOutput()
    if output.GetNumberOfCells() == 0:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))
    points = vtk_to_numpy(output.GetPoints().GetData()) + np.array(grid.origin_mm)
    faces = vtk_to_numpy(output.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    # Flying edges turns its triangles towards lower values, which here are inside.
    return Mesh(points, faces[:, ::-1])


def smooth_surface(mesh: Mesh, *, iterations: int, pass_band: float) -> Mesh:
    """Return a mesh smoothed by a windowed sinc filter (Taubin), which keeps the volume.

    References
    ----------
    Taubin, Zhang & Golub, ECCV 1996, doi:10.1007/BFb0015544.
    """
    if iterations == 0:
        return mesh
    centre = mesh.points.mean(axis=0)
    smoother = vtkWindowedSincPolyDataFilter()
    smoother.SetInputData(_to_vtk(Mesh(mesh.points - centre, mesh.faces)))
    smoother.SetNumberOfIterations(iterations)
    smoother.SetPassBand(pass_band)
    smoother.BoundarySmoothingOff()
    smoother.FeatureEdgeSmoothingOff()
    smoother.NonManifoldSmoothingOn()
    smoother.NormalizeCoordinatesOn()
    smoother.Update()
    points = vtk_to_numpy(smoother.GetOutput().GetPoints().GetData()).astype(np.float64)
    return Mesh(points + centre, mesh.faces)


def _to_vtk(mesh: Mesh) -> vtkPolyData:
    points = vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(mesh.points), deep=True))
    cells = vtkCellArray()
    offsets = np.arange(0, 3 * len(mesh.faces) + 1, 3, dtype=np.int64)
    cells.SetData(
        numpy_to_vtkIdTypeArray(offsets, deep=True),
        numpy_to_vtkIdTypeArray(
            np.ascontiguousarray(mesh.faces.ravel(), dtype=np.int64), deep=True
        ),
    )
    data = vtkPolyData()
    data.SetPoints(points)
    data.SetPolys(cells)
    return data
