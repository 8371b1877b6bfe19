"""Measure what each network costs, the mixed-scale network against its definition, and our loop.

    python benchmarks/networks.py --volume pcir.nii.gz --output docs/networks.md
    python benchmarks/networks.py --network unet --network msd        (to the screen)
    python benchmarks/networks.py --device cuda                       (the table of costs, on a GPU)

Each network is measured in a process of its own, with one thread and in processor seconds, the least
of some repeats: a busy machine then changes little. Memory is what the process's peak grows by. On a GPU
it is seconds by the clock, once the GPU has done its work, and the memory that torch has allocated.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.core.volume import read_volume
from stages.super_resolution.baselines import restore_baseline
from stages.super_resolution.consistency import make_consistent
from stages.super_resolution.degradation import degrade
from stages.super_resolution.layout import Layout
from stages.super_resolution.losses import ADVERSARIAL
from stages.super_resolution.model import Model, Normalisation, count_parameters
from stages.super_resolution.networks import NETWORKS, build_discriminator, build_network
from stages.super_resolution.networks.msd import MSD, MSDSettings
from stages.super_resolution.optimisation import (
    Losses,
    Objective,
    adversarial_step,
    make_learner,
    plain_step,
)
from stages.super_resolution.restoration import Arithmetic, restore_images
from stages.super_resolution.validation import psnr_db

LAYOUT = Layout(3, 3, "box")
EDGE, SMALL_EDGE = 512, 64
BATCH, PATCH = 2, 64
MSD_PATCHES = (4, 128)
LONG_S = 4.0
MIB_PER_KIB = 1 / 1024
PRECISIONS = ("float32", "bfloat16")

TEXT = """# The networks and what they cost

Made by `python benchmarks/networks.py --volume pcir.nii.gz --output docs/networks.md`.

Every network of `stages/super_resolution/networks` has one form for all uses: any number of channels in
(one interpolated slice; or neighbouring thick slices and their baseline), any number of thin slices out, at
the same in-plane size, as the residual to the baseline. The last layer starts at zero: an untrained network
is the baseline.

| `--network` | after | `--width`, `--depth`, `--network-settings NAME=VALUE` |
|---|---|---|
| unet | Ronneberger 2015, with batch normalisation | width 16, depth 4 |
| srcnn | Dong 2014, 9-1-5 | width 64, mapping_width 32, mapping_kernel 1 (3, 5) |
| espcn | Shi 2016; the shuffle is along z | width 64, second_width 32 |
| lapsrn | Lai 2017; one level, along z | width 64, depth 10 |
| srresnet | Ledig 2017, not enlarging in plane | width 64, depth 16, kernel 3 (5), activation prelu |
| srgan | the same against a discriminator | also discriminator_width 64, _depth 4, _activation leakyrelu |
| swinir | Liang 2021, light; MONAI's blocks | width 60, depth 4, blocks 6, heads 6, window 8, expansion 2 |
| msd | Pelt, Sethian 2018 | depth 100, dilations 10 |

`--loss` is a term or a sum of terms with weights: l1, mse, charbonnier, gradient, ssim, nll (the network
also predicts a variance), adversarial (any network against SRGAN's discriminator; srgan adds 0.001 of it).
For example `--loss charbonnier+0.1*gradient --wall-weight 5`. The discriminator has 5,213,569 parameters,
which training alone needs: MODEL_DIR does not keep them. The tests hold the parameter counts of the papers.

**Agreement with the measurement.** With A the degradation by the slice profile, a restored volume x becomes
x + A'(AA')^-1 (y - Ax), the nearest one whose profile means are the thick slices y; it never leads away
from the truth where the profile is right and there is no noise. A box at a stride of the factor binds no
neighbours: the network's residual loses its mean over z, in training and in restoration. Wider profiles
(`--profile triangle`, `gaussian` or a file of `ct2flow triplets fit-profile`, with `--consistent`) bind
neighbouring cells: training removes what a cell contradicts by itself, restoration projects the whole
volume in float32. Overlapping slices (`--stride 1`) leave nothing free and are not projected.

**Views.** `--view upright` trains on sagittal and coronal planes of the baseline and restores by both.
**Sigma.** `--loss nll` also predicts a variance, which `ct2flow restore --sigma` writes; it is of the noise
in the data, not of the network: that is the deviation between several models, docs/training.md.
**Symmetries.** `ct2flow restore` averages four mirror images of the plane (`--symmetries 8`: also with the
axes exchanged; 1: none); the times here are of one pass.

"""


def best(work: Callable[[], object], repeats: int, device: str = "cpu") -> float:
    """Return the least seconds of some runs, of the processor or on a GPU; a long one is not repeated."""
    seconds: list[float] = []
    while len(seconds) <= repeats and not any(one > LONG_S for one in seconds):
        start = now(device)
        work()
        seconds.append(now(device) - start)
    return min(seconds)


def now(device: str) -> float:
    """Return processor seconds, or the clock once the GPU has done what it was given."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def peak_mib(device: str) -> float:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MIB_PER_KIB
    return torch.cuda.max_memory_allocated() / 2**20


def make_network(name: str) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    return build_network(name, LAYOUT.in_channels, LAYOUT.out_channels, {}, generator)


def make_discriminator(name: str) -> torch.nn.Module | None:
    """Return the opponent that a network is trained against; None: it has none."""
    if not NETWORKS[name].adversarial_weight:
        return None
    return build_discriminator(name, LAYOUT.slices, {}, torch.Generator().manual_seed(1))


def measure(name: str, repeats: int, device: str) -> dict[str, float]:
    """Return the costs of one network; memory first, while the process is small."""
    network = make_network(name).eval().to(device)
    model = Model(name, network, LAYOUT, Normalisation(0.0, 500.0))
    small = torch.randn(1, LAYOUT.in_channels, SMALL_EDGE, SMALL_EDGE, device=device)
    for precision in PRECISIONS:  # what the libraries set up at first use is no cost of a slice
        restore_images(model, small, Arithmetic(precision=precision))
    inputs = torch.randn(1, LAYOUT.in_channels, EDGE, EDGE, device=device)
    before = peak_mib(device)
    found: dict[str, float] = {}
    for precision in reversed(PRECISIONS):
        arithmetic = Arithmetic(precision=precision)
        found[f"restore_{precision}_s"] = best(
            lambda arithmetic=arithmetic: restore_images(model, inputs, arithmetic),
            repeats,
            device,
        )
        found[f"restore_{precision}_mib"] = peak_mib(device) - before
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(small)
    area = (EDGE / SMALL_EDGE) ** 2
    found["multiply_adds"] = counter.get_total_flops() / 2 * area
    found["parameters"] = count_parameters(network)
    found["reach"] = network.reach
    for precision in PRECISIONS:
        step = training_step(name, precision, device)
        found[f"step_{precision}_s"] = best(step, repeats, device)
    return found


def patches(batch: int = BATCH, edge: int = PATCH) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, LAYOUT.in_channels, edge, edge, generator=generator)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    return inputs, torch.randn(batch, LAYOUT.slices, edge, edge, generator=generator)


def training_step(name: str, precision: str, device: str = "cpu") -> Callable[[], Losses]:
    """Return one step of our loop without its data: loss, derivative, clipping, AdamW.

    A network with an adversarial loss takes its own step: discriminator first, then generator.
    """
    from lightning_fabric import Fabric

    kind = "bf16-mixed" if precision == "bfloat16" else "32-true"
    fabric = Fabric(accelerator=device, devices=1, precision=kind)
    learner = make_learner(fabric, make_network(name), rate=1e-4, weight_decay=1e-4)
    opponent, weight = make_discriminator(name), NETWORKS[name].adversarial_weight
    if opponent is None:
        step = plain_step(learner, LAYOUT, Objective({"mse": 1.0}, 1.0, 0.0, 1.0))
    else:
        judge = make_learner(fabric, opponent, rate=1e-4, weight_decay=1e-4)
        objective = Objective({"mse": 1.0, ADVERSARIAL: weight}, 1.0, 0.0, 1.0)
        step = adversarial_step(learner, judge, LAYOUT, objective)
    inputs, true = (tensor.to(device) for tensor in patches())
    return lambda: step(inputs, true)


def plain_torch_step(name: str, precision: str) -> Callable[[], object]:
    """Return the same step written with torch alone."""
    network = make_network(name).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=1e-4)
    inputs, true = patches()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            residual = network(inputs).float()
        found = inputs[:, LAYOUT.context :] + residual - residual.mean(1, keepdim=True)
        loss = (found - true).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def side_by_side(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Return the least processor seconds of two pieces of work that take turns."""
    found = np.array([[best(first, 1), best(second, 1)] for _ in range(rounds)])
    return float(found[:, 0].min()), float(found[:, 1].min())


def compare_msd(depth: int, precision: str) -> tuple[float, float]:
    """Return the seconds of a training step of the mixed-scale network, fast and by definition."""
    network = MSD(6, 3, MSDSettings(depth=depth), torch.Generator().manual_seed(0))
    inputs, true = patches(*MSD_PATCHES)

    def step(forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            found = forward(inputs)
        (found.float() - true).square().mean().backward()

    return side_by_side(
        lambda: step(network.forward), lambda: step(network.forward_naively), rounds=3
    )


def in_own_process(name: str, repeats: int, device: str) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    words = [sys.executable, __file__, "--measure", name, "--repeats", str(repeats)]
    words += ["--device", device]
    found = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def cost_table(names: list[str], repeats: int, device: str) -> list[str]:
    where = (
        "One thread, processor seconds; GPU time: not measured, no GPU was at hand (`--device cuda`)."
        if device == "cpu"
        else f"On one {torch.cuda.get_device_name()}, seconds by the clock."
    )
    lines = [
        f"## Cost of one thick slice of {EDGE} x {EDGE} (three in, three thin ones out)",
        "",
        f"{where} Memory beyond the libraries and the weights. A training step has {BATCH} patches of "
        f"{PATCH} x {PATCH}; that of srgan teaches discriminator and generator.",
        "",
        "| network | parameters | multiply-adds, G | reach, pixels | restore float32, s | bfloat16, s "
        "| memory, MiB | training step float32, ms | bfloat16, ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        cost = in_own_process(name, repeats, device)
        print(f"{name}: {cost}", file=sys.stderr, flush=True)
        lines.append(
            f"| {name} | {cost['parameters']:,.0f} | {cost['multiply_adds'] / 1e9:.1f} "
            f"| {cost['reach']:.0f} | {cost['restore_float32_s']:.2f} "
            f"| {cost['restore_bfloat16_s']:.2f} | {cost['restore_float32_mib']:.0f} "
            f"| {1e3 * cost['step_float32_s']:.0f} | {1e3 * cost['step_bfloat16_s']:.0f} |"
        )
    return lines


def msd_table(depths: tuple[int, ...]) -> list[str]:
    lines = [
        "",
        "## Mixed-scale dense network: our form against its definition",
        "",
        "A training step (forward and derivative) of both, taking turns, {} patches of {} pixels "
        "squared. The definition concatenates, reflects and convolves with dilation.".format(
            *MSD_PATCHES
        ),
        "",
        "| depth | arithmetic | ours, ms | definition, ms | ratio |",
        "|---|---|---|---|---|",
    ]
    for depth in depths:
        for precision in PRECISIONS:
            fast, naive = compare_msd(depth, precision)
            lines.append(
                f"| {depth} | {precision} | {1e3 * fast:.0f} | {1e3 * naive:.0f} | {naive / fast:.1f} |"
            )
    return lines


def loop_table(names: list[str]) -> list[str]:
    lines = [
        "",
        "## Our training step against the same step in plain torch",
        "",
        "The same network, loss, clipping and optimiser, taking turns; the loop's data, average and "
        "reports are not in it.",
        "",
        "| network | ours, ms | plain torch, ms | ratio |",
        "|---|---|---|---|",
    ]
    for name in names:
        ours, plain = side_by_side(
            training_step(name, "float32"), plain_torch_step(name, "float32"), rounds=8
        )
        lines.append(f"| {name} | {1e3 * ours:.1f} | {1e3 * plain:.1f} | {ours / plain:.2f} |")
    return lines


def agreement_table(path: Path) -> list[str]:
    """Return what agreement with the measurement alone is worth, without any network."""
    values = read_volume(path).values
    values = values[: len(values) // 3 * 3, 100:400, 100:400].clip(-1024, 3071).astype(np.float32)
    lines = [
        "",
        "## What agreement alone is worth",
        "",
        f"PSNR in dB (range 4095 HU) of restorations x3 of {path.name}, pixels 100 to 400, without a "
        "network; projected: made to agree with the thick slices under their own profile.",
        "",
        "| profile | noise, HU | spline | projected | histospline | projected |",
        "|---|---|---|---|---|---|",
    ]
    for profile in ("box", "triangle", "gaussian"):
        layout = Layout(3, 3, profile, consistent=True)
        clean = degrade(values, layout.profile_taps, 3)
        for noise_hu in (0, 10):
            rng = np.random.default_rng(0)
            thick = clean + rng.normal(0.0, noise_hu, clean.shape).astype(np.float32)
            scores = []
            for method in ("spline", "histospline"):
                plain = restore_baseline(thick, method, factor=3)
                for found in (plain, make_consistent(plain, thick, layout)):
                    error = np.square(found.clip(-1024, 3071) - values, dtype=np.float64)
                    scores.append(psnr_db(float(error.mean())))
            cells = " | ".join(f"{score:.2f}" for score in scores)
            lines.append(f"| {profile} | {noise_hu} | {cells} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--volume", type=Path, help="thin slices of a head, for the last table")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no CUDA device is usable here")
    torch.set_num_threads(1)
    if options.measure:
        print(json.dumps(measure(options.measure, options.repeats, options.device)))
        return
    names = options.network or list(NETWORKS)
    lines = cost_table(names, options.repeats, options.device)
    if options.device == "cpu":
        lines += msd_table((10, 30))
        lines += loop_table([name for name in names if name in ("unet", "srcnn", "srresnet")])
        lines += agreement_table(options.volume) if options.volume else []
    text = "\n".join(lines) + "\n"
    if options.output:
        options.output.write_text(TEXT + text)
    else:
        print(text)


if __name__ == "__main__":
    main()
