"""Start one process for each device of this machine, as `torchrun` would."""

from __future__ import annotations

import logging
import os
import sys
import uuid

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pipeline.core.command import command_words
from pipeline.core.errors import NumericalError, UsageError
from stages.super_resolution.model import chosen_device
from stages.super_resolution.processes import check_batch, check_devices
from stages.super_resolution.settings import TrainingSettings

_HERE = "127.0.0.1"


def is_started_by_launcher(devices: int) -> bool:
    """Say whether this process is one of several, or of one, that a launcher started.

    Raises
    ------
    UsageError
        If the launcher started another number of processes on this machine than is asked for.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    found = int(os.environ["LOCAL_WORLD_SIZE"])
    if devices not in (1, found):
        raise UsageError(
            f"--devices {devices}: torchrun started {found} processes on this machine; leave "
            "--devices out.",
            found=found,
        )
    return True


def start_processes(devices: int, settings: TrainingSettings) -> None:
    """Run this command again in one process for each device and wait for them.

    Parameters
    ----------
    devices
        Number of processes.
    settings
        Settings of the training, checked before anything is started.

    Raises
    ------
    UsageError
        If there are not as many devices, or the batch cannot be shared out.
    NumericalError
        If a process was ended from outside.
    SystemExit
        If a process failed, with its exit code: it has said why.
    """
    check_devices(devices, chosen_device(settings.device))
    check_batch(settings.batch_size, devices)
    _silence_launcher()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=f"{_HERE}:0",
        local_addr=_HERE,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )
    # -P: a folder named like a package of ours beside the user's files is not taken for it.
    words = ("-P", "-m", "pipeline.cli", *command_words.get())
    try:
        elastic_launch(config, sys.executable)(*words)
    except SignalException as error:
        raise SystemExit(128 + int(error.sigval)) from None
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        if max(codes) > 0:
            raise SystemExit(max(codes)) from None
        raise NumericalError(
            f"One of {devices} processes was ended by signal {-min(codes)}, as the system does "
            "when memory runs out; run the same command again to go on.",
            signal=-min(codes),
        ) from None


def _silence_launcher() -> None:
    """Keep back the launcher's own reports, which repeat at length what the processes say."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
