"""The flow as an image that ParaView opens, and the way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkIOXML import vtkXMLImageDataReader, vtkXMLImageDataWriter

from pipeline.core.errors import InputError
from stages.flow.result import FlowResult
from stages.flow.start import FieldImage
from stages.flow.voxels import SparseLattice


def image_data(
    lattice: SparseLattice,
    result: FlowResult,
    *,
    temperature_c: Float[np.ndarray, "cell"] | None = None,
) -> bytes:
    """Return a VTI file with one point per cell of the fluid's bounding box.

    Parameters
    ----------
    lattice
        Geometry of the cells; the image has its axes, LPS, mm.
    result
        ``velocity``, m/s, and ``pressure``, Pa relative to the outlets, both NaN outside the fluid.
    temperature_c
        ``temperature``, degrees C, if there is one; NaN outside the fluid.
    """
    low = lattice.cells.min(axis=0)
    shape = lattice.cells.max(axis=0) - low + 1
    i, j, k = (lattice.cells - low).T
    place = (k * shape[1] + j) * shape[0] + i
    image = vtkImageData()
    image.SetDimensions(*(int(n) for n in shape))
    image.SetSpacing(*(lattice.spacing_mm,) * 3)
    image.SetOrigin(*(float(v) for v in lattice.origin_mm + low * lattice.spacing_mm))
    fields = {"velocity": result.velocity_m_s.T, "pressure": result.pressure_pa}
    if temperature_c is not None:
        fields["temperature"] = temperature_c
    for name, values in fields.items():
        whole = np.full((int(np.prod(shape)), *values.shape[1:]), np.nan, dtype=np.float32)
        whole[place] = values
        array = numpy_to_vtk(whole, deep=True)
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


def read_image_data(path: Path) -> FieldImage:
    """Read what `image_data` wrote.

    Raises
    ------
    InputError
        If the file is missing, no image or without velocity and pressure.
    """
    if not path.is_file():
        raise InputError(f"{path.name}: no such file; give the field.vti of a flow.", path=path)
    reader = vtkXMLImageDataReader()
    if not reader.CanReadFile(str(path)):
        raise InputError(f"{path.name}: is no VTK image (.vti); give the field.vti of a flow.")
    reader.SetFileName(str(path))
    reader.Update()
    image = reader.GetOutput()
    spacing = np.array(image.GetSpacing())
    shape = image.GetDimensions()[::-1]
    pressure = _point_array(image, "pressure", 1)
    velocity = _point_array(image, "velocity", 3)
    values = np.stack([pressure[:, 0], *velocity.T]).reshape(4, *shape)
    if np.ptp(spacing) > 1e-6 * spacing.max() or not np.isfinite(values).all(axis=0).any():
        raise InputError(
            f"{path.name}: needed is an image of one spacing that holds a flow (found spacings of "
            f"{spacing[0]:g}, {spacing[1]:g}, {spacing[2]:g} mm); give the field.vti of a flow.",
            path=path,
        )
    return FieldImage(np.array(image.GetOrigin()), float(spacing[0]), values)


def _point_array(image: vtkImageData, name: str, components: int) -> Float[np.ndarray, "point c"]:
    array = image.GetPointData().GetArray(name)
    if array is None or array.GetNumberOfComponents() != components:
        raise InputError(
            f"initial field: holds no point data {name} of {components} component(s); give the field.vti "
            "of a flow.",
            name=name,
        )
    return np.asarray(vtk_to_numpy(array)).reshape(-1, components)
