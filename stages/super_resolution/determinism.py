"""Algorithms that give the same bits in every run, for the time of a training."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.core.errors import UsageError

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_CUBLAS_VALUES = (":4096:8", ":16:8")
"""The two that NVIDIA's cuBLAS documents as deterministic; the first costs 24 MiB of GPU memory."""


@contextmanager
def deterministic_algorithms(device: str, *, wanted: bool) -> Iterator[None]:
    """Use only algorithms that repeat themselves bit by bit, and switch back afterwards.

    Lightning Fabric has no such switch (its Trainer does), so that torch's own are set.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``; for CUDA, cuBLAS is given the workspace that makes it deterministic.
        It reads that once per process: at its first multiplication.
    wanted
        False: nothing is changed.

    Raises
    ------
    UsageError
        If a step needs an operation that has no deterministic form.
    """
    if not wanted:
        yield
        return
    level, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    workspace = os.environ.get(CUBLAS)
    try:
        if device == "cuda" and workspace not in _CUBLAS_VALUES:
            os.environ[CUBLAS] = _CUBLAS_VALUES[0]
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(mode=True)
        yield
    except RuntimeError as error:
        _refuse(error)
        raise
    finally:
        torch.set_deterministic_debug_mode(level)
        torch.backends.cudnn.benchmark = benchmark
        os.environ.pop(CUBLAS, None)
        if workspace is not None:
            os.environ[CUBLAS] = workspace


def _refuse(error: RuntimeError) -> None:
    found = re.match(r"(\S+) does not have a deterministic implementation", str(error))
    if found:
        raise UsageError(
            f"--deterministic: {found[1]} has no deterministic form on this device; leave "
            "--deterministic out, choose another network or loss, or train with --device cpu.",
            operation=found[1],
        ) from None
