"""The processes that train one network together: how they meet, share a batch, agree and end.

`torchrun` starts them and tells each its place; without it there is one process, for which nothing
here does anything. The first process is the leader: it alone reads cases, judges and writes.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from datetime import timedelta
from functools import cache
from types import TracebackType
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed, nn

from pipeline.core.errors import Ct2FlowError, NumericalError, UsageError
from pipeline.core.progress import progress_file

_PATIENCE = timedelta(days=7)
"""While the leader prepares volumes or judges, the others wait. A process that dies needs no limit
here: the launcher ends the others."""
_STORE_PATIENCE = timedelta(seconds=5)
_GRACE_S = 5.0
_INTERRUPTED = 130
"""Exit code of the command line for an interrupt."""


class UnwrappedStrategy(DDPStrategy):
    """Connect processes as DDP does, but leave modules as they are: `average_gradients` averages.

    DDP lays its buckets out anew after the first step, so that three processes or more that resume
    would add gradients in another order than those that were not interrupted. It also wants to
    know every use of a module, and a discriminator is used twice in a step.
    """

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        """Return the module."""
        return module


def processes_started() -> int:
    """Return how many processes `torchrun` started on all nodes; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if distributed.is_torchelastic_launched() else 1


def connect(device: str, precision: str) -> Fabric:
    """Return the fabric of the processes that were started; all but the leader fall silent.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    precision
        ``bfloat16`` or ``float32``.

    Raises
    ------
    UsageError
        If there are fewer GPUs than processes on this machine, or the nodes started unlike many.
    """
    arithmetic: Any = "bf16-mixed" if precision == "bfloat16" else "32-true"
    if processes_started() == 1:
        return Fabric(accelerator=device, devices=1, precision=arithmetic)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = int(os.environ["GROUP_WORLD_SIZE"])
    check_devices(here, device)
    if here * nodes != processes_started():
        raise UsageError(
            f"{nodes} nodes started {processes_started()} processes, {here} of them here; give "
            "torchrun the same --nproc-per-node on each."
        )
    _launcher()
    # Fabric's own greeting is no news to a user of one command.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if os.environ["RANK"] != "0":
        logging.getLogger("ct2flow").setLevel(logging.ERROR)
        progress_file.set(None)
    fabric = Fabric(
        accelerator=device,
        devices=here,
        num_nodes=nodes,
        precision=arithmetic,
        strategy=UnwrappedStrategy(
            cluster_environment=TorchElasticEnvironment(), timeout=_PATIENCE
        ),
    )
    fabric.launch()
    return fabric


def check_devices(devices: int, device: str) -> None:
    """Refuse processes that would have no device of their own.

    Raises
    ------
    UsageError
        If there are none, or more than GPUs.
    """
    if devices < 1:
        raise UsageError(f"--devices {devices}: needed is 1 or more; correct it.")
    found = torch.cuda.device_count()
    if device == "cuda" and devices > found:
        raise UsageError(
            f"--devices {devices}: this machine shows {found} GPU{'s' * (found != 1)}; give "
            f"--devices {found} or fewer, or --device cpu.",
            found=found,
        )


def check_batch(batch_size: int, processes: int) -> None:
    """Refuse a batch that cannot be shared out evenly.

    Raises
    ------
    UsageError
        If the batch is no multiple of the processes.
    """
    if batch_size % processes:
        nearest = max(processes, round(batch_size / processes) * processes)
        raise UsageError(
            f"--batch-size {batch_size}: is shared by {processes} processes and must be a multiple "
            f"of {processes}; give --batch-size {nearest} or another number of processes.",
            batch_size=batch_size,
        )


def refuse_several(command: str) -> None:
    """Refuse more than one process for a command that has work for one alone.

    Raises
    ------
    UsageError
        If several were started.
    """
    found = processes_started()
    if found > 1:
        raise UsageError(
            f"'{command}' runs in one process and torchrun started {found}; start it without.",
            found=found,
        )


def own_part(fabric: Fabric, batch_size: int) -> range:
    """Return which patches of a batch this process takes."""
    each = batch_size // fabric.world_size
    return range(each * fabric.global_rank, each * (fabric.global_rank + 1))


def mean_over(fabric: Fabric, values: Tensor) -> Tensor:
    """Return the mean over the processes, the same bits in each."""
    if fabric.world_size == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total / fabric.world_size


def average_gradients(fabric: Fabric, module: nn.Module) -> None:
    """Replace the gradients of each process by their mean, in place, as one flat vector."""
    if fabric.world_size == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = mean_over(fabric, torch.cat([gradient.flatten() for gradient in gradients]))
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def leave_if_abandoned() -> None:
    """End at once if the launcher is gone: nobody else would end this process.

    The same training may have been started again and own the files by now, so that nothing is
    cleared up.
    """
    if processes_started() > 1 and os.getppid() != _launcher():
        os._exit(1)


@cache
def _launcher() -> int:
    return os.getppid()


class OneVoice:
    """Let the first process that fails say why; the others end in silence with its exit code.

    What fails in one process breaks the connections of the others: what they would say of it is
    no cause, and a cause that is theirs too need not be said twice.
    """

    def __enter__(self) -> None:
        """Begin; nothing is needed."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Pass the failure on, or leave if another process was first."""
        if error is None or processes_started() == 1:
            return
        # The launcher sends an interrupt twice; the second would cut short what is said of it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        own = f"{os.environ['RANK']} {_exit_code(error)}"
        first = _first_failure(own)
        if first != own:
            raise SystemExit(int(first.split()[1])) from None
        if _is_lost_connection(error):
            # Whoever was ended from outside says nothing; its launcher does, and ends this one.
            time.sleep(_GRACE_S)
            raise NumericalError(
                f"Process {int(os.environ['RANK']) + 1} of {processes_started()} lost the others: "
                "one was ended from outside, as the system does when memory runs out; run the "
                "same command again to go on."
            ) from None


def _is_lost_connection(error: BaseException) -> bool:
    if isinstance(error, distributed.DistError):
        return True
    # The library for processors raises no class of its own.
    return isinstance(error, RuntimeError) and "gloo" in str(error)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    if _is_lost_connection(error):
        return NumericalError.exit_code
    return error.exit_code if isinstance(error, Ct2FlowError) else 1


def _first_failure(own: str) -> str:
    """Return the first failure that a process told the launcher's store."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = distributed.TCPStore(address, port, is_master=False, timeout=_STORE_PATIENCE)  # type: ignore[attr-defined]
        key = f"ct2flow/failure/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        return bytes(store.compare_set(key, "", own)).decode()
    except distributed.DistError:  # no launcher any more: nobody else says it
        return own
