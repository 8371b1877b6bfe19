"""Show the metrics of a training in TensorBoard: its event file, made of the lines of metrics.jsonl.

metrics.jsonl is the record; the event file is a view of it that can be made again at any time.

References
----------
TensorBoard, https://github.com/tensorflow/tensorboard: event files are protocol buffers
(event.proto, summary.proto) in TensorFlow's record format.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import InputError, UsageError

EVENTS = "events.out.tfevents.0.ct2flow"
"""TensorBoard reads files whose name holds `tfevents`; the number would be a time, which is not kept."""
_STEP = "step"


@dataclass(frozen=True)
class Scalar:
    """Hold one number of a training: after which step, and what it is, such as ``loss``."""

    step: int
    name: str
    value: float


def read_metrics(text: str, name: str) -> list[Scalar]:
    """Return every number in the lines of a metrics.jsonl, in their order.

    Parameters
    ----------
    text
        Its content. A last line that is torn, as a training that runs may leave it, is left out.
    name
        Its name, for messages.

    Raises
    ------
    InputError
        If another line is no record of a step, or there is no line.
    """
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        lines.pop()
    records = [_record(line, f"{name}, line {number}") for number, line in enumerate(lines, 1)]
    if not records:
        raise InputError(f"{name}: holds no step yet; wait for the training's first report.")
    return [
        Scalar(record[_STEP], tag, value)
        for record in records
        for tag, value in _numbers(record)
        if tag != _STEP
    ]


def _record(line: str, place: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get(_STEP), int):
        raise InputError(
            f"{place}: is no JSON record with a step; give a folder that 'ct2flow train' wrote."
        )
    return found


def _numbers(record: Mapping[str, Any], above: Sequence[str] = ()) -> Iterator[tuple[str, float]]:
    """Yield names and numbers; a number in a section, such as that of a case, is ``section/case``."""
    for key, value in record.items():
        names = (*above, str(key))
        if isinstance(value, Mapping):
            yield from _numbers(value, names)
        elif isinstance(value, (int, float)):
            yield "/".join(names), float(value)


def event_file(scalars: Iterable[Scalar]) -> bytes:
    """Return TensorBoard's event file of numbers; equal numbers give equal bytes.

    Its times are the steps: when a step was taken is not in the metrics.

    Raises
    ------
    UsageError
        If the package tensorboard is missing.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise UsageError(
            f"train tensorboard: the package {error.name} is missing; install it with "
            "pip install 'ct2flow[tensorboard]'.",
            package=error.name,
        ) from error

    file = io.BytesIO()
    writer = RecordWriter(file)
    writer.write(Event(file_version="brain.Event:2").SerializeToString())
    for scalar in scalars:
        value = Summary.Value(tag=scalar.name, simple_value=scalar.value)
        event = Event(wall_time=scalar.step, step=scalar.step, summary=Summary(value=[value]))
        writer.write(event.SerializeToString(deterministic=True))
    return file.getvalue()
