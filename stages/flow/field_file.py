"""The flow as an image that ParaView opens."""

from __future__ import annotations

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkIOXML import vtkXMLImageDataWriter

from stages.flow.simulation import FlowResult
from stages.flow.voxels import SparseLattice


def image_data(lattice: SparseLattice, result: FlowResult) -> bytes:
    """Return a VTI file with one point per cell of the fluid's bounding box.

    Parameters
    ----------
    lattice
        Geometry of the cells; the image has its axes, LPS, mm.
    result
        ``velocity``, m/s, and ``pressure``, Pa relative to the outlets, both NaN outside the fluid.
    """
    low = lattice.cells.min(axis=0)
    shape = lattice.cells.max(axis=0) - low + 1
    i, j, k = (lattice.cells - low).T
    place = (k * shape[1] + j) * shape[0] + i
    image = vtkImageData()
    image.SetDimensions(*(int(n) for n in shape))
    image.SetSpacing(*(lattice.spacing_mm,) * 3)
    image.SetOrigin(*(float(v) for v in lattice.origin_mm + low * lattice.spacing_mm))
    velocity = np.full((int(np.prod(shape)), 3), np.nan, dtype=np.float32)
    pressure = np.full(len(velocity), np.nan, dtype=np.float32)
    velocity[place] = result.velocity_m_s.T
    pressure[place] = result.pressure_pa
    for name, values in {"velocity": velocity, "pressure": pressure}.items():
        array = numpy_to_vtk(values, deep=True)
        array.SetName(name)
        image.GetPointData().AddArray(array)
    image.GetPointData().SetActiveVectors("velocity")
    image.GetPointData().SetActiveScalars("pressure")
    return _as_bytes(image)


def _as_bytes(image: vtkImageData) -> bytes:
    writer = vtkXMLImageDataWriter()
    writer.SetInputData(image)
    writer.SetDataModeToAppended()
    writer.EncodeAppendedDataOff()
    writer.SetCompressorTypeToZLib()
    writer.WriteToOutputStringOn()
    writer.Write()
    content = writer.GetOutputString()
    return content.encode("latin-1") if isinstance(content, str) else content
