"""Fields on the wall and lines along the flow, as files that ParaView opens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
from vtkmodules.vtkCommonCore import vtkPoints, vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkDataSetAttributes, vtkPolyData
from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

from stages.flow.mesh import merged_vertices
from stages.flow.streamlines import Streamlines
from stages.flow.wall_shear import WallFields


def wall_data(fields: WallFields) -> bytes:
    """Return a VTP file of the wall's triangles, LPS, mm.

    Each triangle has ``pressure``, Pa relative to the outlets, ``wall_shear_stress``, Pa, the force of the
    fluid on the wall per area as a vector, its magnitude, and ``heat_flux``, W/m2 into the fluid, if there
    is a temperature; all NaN without fluid in front.
    """
    triangles = fields.faces.triangles_mm
    corner = merged_vertices(triangles)
    points = np.empty((int(corner.max()) + 1, 3), dtype=np.float32)
    points[corner.ravel()] = triangles.reshape(-1, 3)
    data = vtkPolyData()
    data.SetPoints(_points(points))
    data.SetPolys(_cells(np.arange(len(triangles) + 1) * 3, corner.ravel()))
    values = {
        "pressure": fields.pressure_pa,
        "wall_shear_stress": fields.shear_pa,
        "wall_shear_stress_magnitude": fields.shear_magnitude_pa,
    }
    if fields.heat_flux_w_m2 is not None:
        values["heat_flux"] = fields.heat_flux_w_m2
    _add(data.GetCellData(), values)
    data.GetCellData().SetActiveScalars("wall_shear_stress_magnitude")
    return _as_bytes(data)


def line_data(lines: Streamlines) -> bytes:
    """Return a VTP file of lines, LPS, mm.

    Each point has ``velocity``, m/s, ``pressure``, Pa relative to the outlets, ``time``, s since the inlet,
    and ``temperature``, degrees C, if there is one; each line its ``inlet``, a number into the field data
    ``inlet_names``, and ``reached_outlet``, 1 or 0.
    """
    data = vtkPolyData()
    data.SetPoints(_points(lines.points_mm.astype(np.float32)))
    data.SetLines(_cells(lines.first, np.arange(len(lines.points_mm))))
    values = {
        "velocity": lines.velocity_m_s,
        "pressure": lines.pressure_pa,
        "time": lines.time_s,
    }
    if lines.temperature_c is not None:
        values["temperature"] = lines.temperature_c
    _add(data.GetPointData(), values)
    data.GetPointData().SetActiveVectors("velocity")
    for name, numbers in {"inlet": lines.inlet, "reached_outlet": lines.reached}.items():
        array = numpy_to_vtk(numbers.astype(np.int32), deep=True)
        array.SetName(name)
        data.GetCellData().AddArray(array)
    names = vtkStringArray()
    names.SetName("inlet_names")
    for name in lines.inlets:
        names.InsertNextValue(name)
    data.GetFieldData().AddArray(names)
    return _as_bytes(data)


def _points(points: Float[np.ndarray, "point 3"]) -> vtkPoints:
    found = vtkPoints()
    found.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=True))
    return found


def _cells(first: Int[np.ndarray, "end"], corners: Int[np.ndarray, "corner"]) -> vtkCellArray:
    found = vtkCellArray()
    found.SetData(
        numpy_to_vtkIdTypeArray(first.astype(np.int64), deep=True),
        numpy_to_vtkIdTypeArray(corners.astype(np.int64), deep=True),
    )
    return found


def _add(attributes: vtkDataSetAttributes, values: Mapping[str, Float[np.ndarray, "..."]]) -> None:
    for name, field in values.items():
        array = numpy_to_vtk(np.ascontiguousarray(field, dtype=np.float32), deep=True)
        array.SetName(name)
        attributes.AddArray(array)


def _as_bytes(data: vtkPolyData) -> bytes:
    writer = vtkXMLPolyDataWriter()
    writer.SetInputData(data)
    writer.SetDataModeToAppended()
    writer.EncodeAppendedDataOff()
    writer.SetCompressorTypeToZLib()
    writer.WriteToOutputStringOn()
    writer.Write()
    content = writer.GetOutputString()
    return content.encode("latin-1") if isinstance(content, str) else content
