"""The state of a training on disk: enough to go on exactly, never a pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

_STATE = "state.safetensors"
_BEST = "best.safetensors"
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class CheckpointFolder:
    """Keep the last state, the best weights and the metrics of one training.

    Parameters
    ----------
    path
        Working folder beside the output.
    fingerprint
        Digest of settings and inputs; a state of another fingerprint is not resumed.
    """

    path: Path
    fingerprint: str

    def save(
        self,
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        facts: Mapping[str, Any],
        line: Mapping[str, Any],
    ) -> None:
        """Write the state in one atomic step, after its line of metrics."""
        with (self.path / METRICS).open("a") as file:
            file.write(json.dumps(line) + "\n")
        tensors = {f"{k}.{n}": t for k, m in modules.items() for n, t in m.state_dict().items()}
        for key, optimizer in optimizers.items():
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{key}.{index}.{n}": value for n, value in values.items()}
        _write(self.path / _STATE, tensors, {**facts, "fingerprint": self.fingerprint})

    def resume(
        self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
    ) -> dict[str, Any] | None:
        """Load the last state of the same training and return its facts; None: begin anew."""
        found = self.load(modules, optimizers)
        if found is None:
            self._clear()
        else:
            self._cut_metrics(int(found["step"]))
        return found

    def load(
        self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
    ) -> dict[str, Any] | None:
        """Load the last state of the same training and return its facts; nothing is written."""
        found = self._read_facts()
        if found is None:
            return None
        tensors = read_tensors(self.path / _STATE)
        for key, module in modules.items():
            prefix = f"{key}."
            module.load_state_dict(
                {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            )
        for key, optimizer in optimizers.items():
            _load_optimizer(optimizer, tensors, f"optimizer.{key}.")
        return found

    def save_best(self, network: nn.Module) -> None:
        """Keep the weights that are best so far."""
        _write(self.path / _BEST, network.state_dict(), {})

    def load_best(self, network: nn.Module) -> None:
        """Load the best weights kept."""
        network.load_state_dict(read_tensors(self.path / _BEST))

    def write_last(self, path: Path, key: str) -> None:
        """Write the weights of one module of the last state, under their own names."""
        prefix, tensors = f"{key}.", read_tensors(self.path / _STATE)
        own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        _write(path, own, {})

    def metrics(self) -> str:
        """Return the lines of metrics so far."""
        return (self.path / METRICS).read_text()

    def remove(self) -> None:
        """Remove the folder: the training is done."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _read_facts(self) -> dict[str, Any] | None:
        path = self.path / _STATE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                facts: dict[str, Any] = json.loads((file.metadata() or {}).get("facts", "{}"))
        except (SafetensorError, ValueError):
            return None
        return facts if facts.get("fingerprint") == self.fingerprint else None

    def _clear(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        for name in (_STATE, _BEST, METRICS):
            (self.path / name).unlink(missing_ok=True)

    def _cut_metrics(self, step: int) -> None:
        lines = self.metrics().splitlines()
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
        (self.path / METRICS).write_text("".join(f"{line}\n" for line in dict.fromkeys(kept)))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    draft = path.with_name(f".partial.{path.name}")
    draft.write_bytes(save(plain, metadata={"facts": json.dumps(dict(facts))}))
    draft.replace(path)


def _load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if not key.startswith(prefix):
            continue
        index, name = key.removeprefix(prefix).split(".")
        parameter = parameters[int(index)]
        # Moments keep their parameter's memory layout, so that a resumed step is bit-identical.
        moment = torch.empty_like(parameter).copy_(tensor) if tensor.ndim else tensor
        state.setdefault(int(index), {})[name] = moment
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
