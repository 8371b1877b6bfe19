"""Write a model as ONNX: HU in, HU out, any in-plane size, conventions in the metadata.

The graph holds normalisation, network and, for a box at a stride of the factor, the agreement with the
thick slice. What needs the whole stack stays outside, as numbers in the metadata: the baseline's weights
and the slice profile.

References
----------
ONNX: Open Neural Network Exchange, intermediate representation and operators, https://onnx.ai.
"""

from __future__ import annotations

import json
import logging
import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.core.errors import UsageError
from stages.super_resolution.consistency import baseline_operator
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, denormalise, normalise, predict_slices
from stages.super_resolution.networks.interface import ResidualNetwork

INPUT, MEAN, SIGMA = "input_hu", "restored_hu", "sigma_hu"
TOLERANCE_HU = 0.05
"""Largest difference from torch: float32 at some thousand HU through tens of layers, a tenth of the
rounding to whole HU."""
_EDGES = ((40, 48), (64, 24), (24, 72))
"""Rows and columns of the traced image and of those that are checked, before rounding up."""
_REACH = 12
"""Neighbouring thick slices whose weight in the histospline exceeds 1e-6: they fall by 0.27 a slice."""


class OnnxModel(nn.Module):
    """Map HU to HU as restoration does for one thick slice or plane.

    Parameters
    ----------
    model
        Model in evaluation mode, on the CPU.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = _Traceable(model.network)
        self.layout, self.normalisation = model.layout, model.normalisation

    def forward(
        self, input_hu: Float[Tensor, "batch channel y x"]
    ) -> tuple[Float[Tensor, "batch z y x"], ...]:
        """Return restored images and, where predicted, their standard deviation; HU."""
        layout = self.layout
        found = predict_slices(
            self.network,
            layout,
            normalise(input_hu, self.normalisation),
            consistent=agrees_within(layout),
        )
        mean = denormalise(found.mean, self.normalisation)
        if found.log_variance is None:
            return (mean,)
        return mean, (0.5 * found.log_variance).exp() * self.normalisation.scale_hu


class _Traceable(nn.Module):
    def __init__(self, network: ResidualNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch z y x"]:
        return self.network.forward_traceably(image)


def agrees_within(layout: Layout) -> bool:
    """Say whether one thick slice alone settles the agreement with the measurement."""
    return layout.is_consistent and layout.is_compact_box and not layout.is_upright


def export_onnx(model: Model, *, edge: int | None = None) -> tuple[bytes, float]:
    """Return the ONNX file of a model, and its largest difference from torch, HU.

    Parameters
    ----------
    model
        Model in evaluation mode, on the CPU.
    edge
        Rows and columns of the only in-plane size; None: any size.

    Raises
    ------
    UsageError
        If the packages are missing, the network cannot be exported so, or the edge does not fit it.
    """
    _check_packages()
    sizes = _sizes(model.network, edge)
    module = OnnxModel(model).eval()
    try:
        exported = _stripped(_traced(module, model, sizes[0], fixed=edge is not None), model, edge)
        difference = max(_difference_hu(exported, module, model, size) for size in sizes)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise _refusal(model, edge, type(error).__name__) from error
    if not difference <= TOLERANCE_HU:
        raise _refusal(model, edge, f"its ONNX form differs by {difference:.3g} HU")
    return exported, difference


def onnx_metadata(model: Model, edge: int | None) -> dict[str, str]:
    """Return the conventions that a program needs beside the graph, as strings."""
    layout, network = model.layout, model.network
    facts: dict[str, Any] = {
        "format": 1,
        "network": model.name,
        "use": "research only",
        "unit": "HU in and out; the graph normalises",
        "normalisation": {
            "centre_hu": model.normalisation.centre_hu,
            "scale_hu": model.normalisation.scale_hu,
        },
        "view": layout.view,
        "factor": layout.factor,
        "slices": layout.slices,
        "context": layout.context,
        "input_channels": _input_channels(layout),
        "output_channels": _output_channels(layout),
        "geometry": (
            "axes (batch, channel, y, x); z grows with the slice index; thick slice j is centred on "
            "thin slice slices * j + (slices - 1) / 2, so the first thin slice lies (slices - 1) / 2 "
            "thin spacings before the first thick one"
        ),
        "ends": "beyond the stack its outermost thick slice is repeated",
        "profile": layout.profile,
        "profile_taps": [round(float(tap), 9) for tap in layout.profile_taps],
        "baseline": (
            "thin slice slices * j + t = sum over k of baseline_weights[t][k] * thick slice "
            "j + k - (length - 1) / 2, far from the ends of the stack; there the not-a-knot cubic "
            "spline of the cumulative sum"
        ),
        "baseline_weights": _baseline_weights(layout),
        "agreement": _agreement(layout),
        "in_plane_size": f"{edge} x {edge}" if edge else "any",
        "in_plane_multiple": network.in_plane_multiple,
        "in_plane_minimum": network.in_plane_minimum,
        "reach_pixels": network.reach,
    }
    return {
        f"ct2flow.{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in facts.items()
    }


def _input_channels(layout: Layout) -> str:
    if layout.is_upright:
        return f"{layout.context} neighbouring sagittal or coronal planes (z, u) of the baseline"
    reach = layout.context // 2
    return (
        f"thick slices j - {reach} ... j + {reach}, then the baseline's thin slices "
        f"{layout.slices} * j ... {layout.slices} * j + {layout.slices - 1}"
    )


def _output_channels(layout: Layout) -> str:
    if layout.is_upright:
        return "the middle plane, restored; a volume is the mean over both in-plane axes"
    return f"thin slices {layout.slices} * j ... {layout.slices} * j + {layout.slices - 1}"


def _agreement(layout: Layout) -> str:
    if not layout.is_consistent:
        return "none"
    if agrees_within(layout):
        return "within the graph: restored slices average to the thick one"
    return (
        "outside the graph: with A the profile's mean, the restored volume x becomes "
        "x + A'(AA')^-1 (y - Ax), y the thick slices"
    )


def _baseline_weights(layout: Layout) -> list[list[float]]:
    rows = baseline_operator(4 * _REACH + 1, layout)[
        2 * _REACH * layout.slices : (2 * _REACH + 1) * layout.slices, _REACH : 3 * _REACH + 1
    ]
    return [[round(float(weight), 9) for weight in row] for row in rows]


def _check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"export-onnx: the package {error.name} is missing; install it with "
            "pip install 'ct2flow[onnx]'.",
            package=error.name,
        ) from error


def _sizes(network: ResidualNetwork, edge: int | None) -> list[tuple[int, int]]:
    """Return the size to trace and those to check."""
    multiple, least = network.in_plane_multiple, network.in_plane_minimum
    if edge is None:
        y, x = (
            [-(-max(n, least) // multiple) * multiple for n in axis]
            for axis in zip(*_EDGES, strict=True)
        )
        return list(zip(y, x, strict=True))
    if edge % multiple or edge < least:
        raise UsageError(
            f"--edge {edge}: the network needs a multiple of {multiple} pixels, {least} or more.",
            edge=edge,
        )
    return [(edge, edge)]


def _example(
    model: Model, size: tuple[int, int], batch: int
) -> Float[Tensor, "batch channel y x"]:
    generator = torch.Generator().manual_seed(0)
    unit = torch.randn(batch, model.layout.in_channels, *size, generator=generator)
    return denormalise(unit, model.normalisation)


def _traced(module: nn.Module, model: Model, size: tuple[int, int], *, fixed: bool) -> Any:
    names = [MEAN, *([SIGMA] if model.layout.predicts_variance else [])]
    dynamic = torch.export.Dim.DYNAMIC
    axes = {0: dynamic} if fixed else {0: dynamic, 2: dynamic, 3: dynamic}
    # Its registry speaks of torchvision's operators, which no network here has.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (_example(model, size, 2),),
            dynamo=True,
            dynamic_shapes=(axes,),
            input_names=[INPUT],
            output_names=names,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _stripped(found: Any, model: Model, edge: int | None) -> bytes:
    """Return the file without the places of our sources, and with the metadata."""
    import onnx

    for item in (*found.graph.node, *found.graph.value_info, *found.graph.initializer):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    found.graph.ClearField("metadata_props")
    found.graph.name = model.name
    found.ClearField("metadata_props")
    onnx.helper.set_model_props(found, onnx_metadata(model, edge))
    onnx.checker.check_model(found)
    serialised: bytes = found.SerializeToString(deterministic=True)
    return serialised


def _difference_hu(
    exported: bytes, module: nn.Module, model: Model, size: tuple[int, int]
) -> float:
    """Return the largest difference between onnxruntime and torch on noise, HU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    seen = _example(model, size, 1)
    with torch.inference_mode():
        expected = module(seen)
    try:
        found = session.run(None, {INPUT: seen.numpy()})
    except Exception as error:  # onnxruntime's errors share no other base
        raise RuntimeError(str(error)) from error
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(one - two.numpy()).max()) for one, two in pairs)


def _refusal(model: Model, edge: int | None, reason: str) -> UsageError:
    hint = "give --edge 256 for a model of one in-plane size" if edge is None else "use torch"
    kind = "for any in-plane size" if edge is None else f"at {edge} x {edge} pixels"
    return UsageError(
        f"export-onnx: {model.name} cannot be exported {kind} ({reason}); {hint}.",
        network=model.name,
    )
