"""Measure restoration of a whole head, a training step and the mixed-scale network beside their peers.

    python benchmarks/super_resolution.py --volume pcir.nii.gz --output docs/super_resolution_speed.md
    python benchmarks/super_resolution.py --slices 12         (a phantom of few slices, to the screen)

Every restoration is a program of its own that reads thick slices and writes thin ones, uncompressed; its
time is wall and processor seconds of the whole program, its memory the peak of its resident set. Peers:
the bare network in torch without tiles, halo or agreement, MONAI's sliding window over it, the exported
network in onnxruntime (float32), and SciPy's cubic spline.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.artefacts import digest
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume

FACTOR = 3
EDGE = 512
LIMIT_S = 60.0
PLAIN = "shipped --symmetries 1"
SPACED = f"{PLAIN} --spacing-mm 1.5"
OURS = ("shipped", PLAIN, SPACED, "histospline", "linear")
PEERS = ("bare torch", "MONAI sliding window", "onnxruntime", "SciPy spline")
GRAPH = "model.onnx"
STEP_LIMIT = 1.05
MIB_PER_KIB = 1 / 1024
POSITIONS = ((3, 3, 1.25), (3, 5, 1), (3, 5, 1.25), (5, 3, 1))
"""Every, thickness and wanted spacing, thin slices."""

TEXT = """# Super-resolution: time and memory

Made by `python benchmarks/super_resolution.py --volume pcir.nii.gz --output docs/super_resolution_speed.md`.
Ratios are of one run and travel between machines; seconds do not. Costs depend on the size of the shipped
network (483,203 parameters), not on what it has learnt. {load}

"""


@dataclass(frozen=True)
class Cost:
    wall_s: float
    processor_s: float
    peak_mib: float


def run(words: list[str], threads: int) -> Cost:
    """Run a program and return what it cost."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    start = time.perf_counter()
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        sys.exit(process.stderr.read() if process.stderr else f"{words} failed")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * MIB_PER_KIB)


def thick_volume(source: Path | None, slices: int, folder: Path) -> Path:
    """Write thick slices by a program of its own, whose memory leaves no trace in ours."""
    path = folder / f"thick-{slices}.nii"
    words = [sys.executable, __file__, "--make", str(path), "--slices", str(slices)]
    run([*words, *(["--volume", str(source)] if source else [])], 1)
    return path


def make_thick_volume(source: Path | None, slices: int, path: Path) -> None:
    """Write thick slices of a real head, or of a phantom, repeated up to the wanted number."""
    if source is None:
        axis = np.linspace(-1, 1, EDGE)
        z, y, x = np.meshgrid(np.linspace(-1, 1, 3 * slices), axis, axis, indexing="ij")
        thin = np.where((0.5 * z**2 + y**2 + x**2) < 0.8, 40.0, -1000.0)
        thin[np.cos(20 * x + 9 * z) * np.cos(15 * y) > 0.9] = -1000.0
    else:
        values = read_volume(source).values
        thin = values[np.arange(3 * slices) % (len(values) // 3 * 3)]
    thick = np.rint(thin.reshape(slices, FACTOR, *thin.shape[1:]).mean(1)).astype(np.int16)
    spacing = (3.75, 0.488, 0.488)
    write_volume(path, Volume(thick, VoxelGrid(thick.shape, spacing)))


def restore_by_peer(name: str, source: Path, target: Path) -> None:
    """Restore thick slices as a program written around the peer would."""
    thick = read_volume(source)
    if name == "SciPy spline":
        from scipy.ndimage import zoom

        thin = zoom(thick.values.astype(np.float32), (FACTOR, 1, 1), order=3, grid_mode=True)
    else:
        thin = restore_by_library(name, thick.values, source.parent / GRAPH)
    from stages.super_resolution.baselines import thin_grid

    whole = np.rint(thin).clip(-32768, 32767).astype(np.int16)
    write_volume(target, Volume(whole, thin_grid(thick.grid, FACTOR)))


def restore_by_graph(thick: np.ndarray, graph: Path) -> np.ndarray:
    """Restore with the exported network, float32; the baseline is ours."""
    import onnxruntime

    from stages.super_resolution.model_io import load_model
    from stages.super_resolution.restoration import slice_inputs
    from stages.super_resolution.stage import SHIPPED_FOLDER

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    inputs = slice_inputs(thick, range(len(thick)), load_model(SHIPPED_FOLDER))
    return np.concatenate([session.run(None, {"input_hu": one[None]})[0][0] for one in inputs])


def restore_by_library(name: str, thick: np.ndarray, graph: Path) -> np.ndarray:
    if name == "onnxruntime":
        return restore_by_graph(thick, graph)
    import torch
    from monai.inferers import sliding_window_inference

    from stages.super_resolution.model import chosen_precision, denormalise, normalise
    from stages.super_resolution.model_io import load_model
    from stages.super_resolution.restoration import slice_inputs
    from stages.super_resolution.stage import SHIPPED_FOLDER

    model = load_model(SHIPPED_FOLDER)
    half = chosen_precision("auto", "cpu") == "bfloat16"
    thin = np.empty((len(thick) * FACTOR, *thick.shape[1:]), np.float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        for index, inputs in enumerate(slice_inputs(thick, range(len(thick)), model)):
            seen = normalise(torch.from_numpy(inputs)[None], model.normalisation)
            seen = seen.contiguous(memory_format=torch.channels_last)
            if name == "bare torch":
                residual = model.network(seen)
            else:
                residual = sliding_window_inference(
                    seen, (256, 256), 4, model.network, overlap=0.25
                )
            found = denormalise(seen[:, model.layout.base] + residual.float(), model.normalisation)
            thin[FACTOR * index : FACTOR * (index + 1)] = found[0].numpy()
    return thin


def restoration_table(source: Path | None, slices: int, rounds: int) -> list[str]:
    lines = [
        f"## A head of {EDGE} x {EDGE} x {FACTOR * slices}, restored from {slices} thick slices",
        "",
        "The whole program: start, reading, restoring, writing. Least wall time of "
        f"{rounds} rounds in which all take turns; processor seconds of the same run. The limit for "
        f"the default network is {LIMIT_S:.0f} s on 2 cores. By default four mirror images of every slice "
        "are restored and averaged; the peers do what one pass (`--symmetries 1`) does.",
        "",
        "| program | threads | wall, s | processor, s | against one pass | peak memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        thick = thick_volume(source, slices, folder)
        run(["ct2flow", "export-onnx", "shipped", "--output", str(folder / GRAPH)], 1)
        jobs = [(kind, threads) for threads in (1, 2) for kind in OURS[:1]]
        jobs += [(kind, 1) for kind in (*OURS[1:], *PEERS)]
        found: dict[tuple[str, int], list[Cost]] = {job: [] for job in jobs}
        for _ in range(rounds):
            for kind, threads in jobs:
                cost = run(program(kind, thick, folder / "thin.nii"), threads)
                print(kind, threads, cost, file=sys.stderr, flush=True)
                found[kind, threads].append(cost)
    best = {job: min(costs, key=lambda cost: cost.wall_s) for job, costs in found.items()}
    ours = min(cost.processor_s for cost in found[PLAIN, 1])
    for (kind, threads), cost in best.items():
        label = f"`ct2flow restore --model {kind}`" if kind in OURS else kind
        least = min(one.processor_s for one in found[kind, threads])
        lines.append(
            f"| {label} | {threads} | {cost.wall_s:.1f} | {least:.1f} "
            f"| {least / ours:.2f} | {cost.peak_mib:.0f} |"
        )
    return [*lines, ""]


def program(kind: str, thick: Path, target: Path) -> list[str]:
    if kind in OURS:
        words = ["restore", str(thick), "--model", *kind.split(), "--output", str(target)]
        words.append("--overwrite")
        return ["ct2flow", *words]
    return [sys.executable, __file__, "--peer", kind, "--thick", str(thick), "--thin", str(target)]


def memory_table(source: Path | None, slices: int) -> list[str]:
    """Show that memory grows by what is read and written, and not with the tiles' number."""
    lines = [
        "## Memory against the length of the head",
        "",
        "Peak of the default network's program. Input and output are in memory as int16; what is "
        "beyond them must not grow.",
        "",
        "| thick slices | peak, MiB | input and output, MiB | beyond, MiB |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        for count in (slices // 2, slices, 2 * slices):
            thick = thick_volume(source, count, Path(name))
            cost = run(program("shipped", thick, Path(name) / "thin.nii"), 1)
            held = count * (1 + FACTOR) * EDGE**2 * 2 / 2**20
            lines.append(
                f"| {count} | {cost.peak_mib:.0f} | {held:.0f} | {cost.peak_mib - held:.0f} |"
            )
            thick.unlink()
    return [*lines, ""]


def step_table(rounds: int) -> list[str]:
    import networks

    lines = [
        "## A training step against the same network in plain torch",
        "",
        f"Loss, derivative, clipping and optimiser, {networks.BATCH} patches of {networks.PATCH} "
        "pixels squared, processor seconds of one thread, the two taking turns. The limit is "
        f"{STEP_LIMIT}.",
        "",
        "| network | arithmetic | ours, ms | plain torch, ms | ratio |",
        "|---|---|---|---|---|",
    ]
    for name in ("unet", "srcnn", "srresnet"):
        for precision in networks.PRECISIONS:
            ours, plain = networks.side_by_side(
                networks.training_step(name, precision),
                networks.plain_torch_step(name, precision),
                rounds,
            )
            lines.append(
                f"| {name} | {precision} | {1e3 * ours:.1f} | {1e3 * plain:.1f} "
                f"| {ours / plain:.3f} |"
            )
    return [*lines, ""]


def positions_table(source: Path) -> list[str]:
    """Score restorations of touching, overlapping and gapped slices at their true positions."""
    from stages.super_resolution.baselines import BASELINES
    from stages.super_resolution.model_io import WEIGHTS, load_model
    from stages.super_resolution.positions import ThickSlices
    from stages.super_resolution.stage import SHIPPED_FOLDER
    from stages.super_resolution.volume_restoration import Restorer, restore_at_spacing

    values = read_volume(source).values
    middle = tuple(slice((n - 192) // 2, (n + 192) // 2) for n in values.shape[1:])
    thin = values[(slice(None), *middle)].clip(-1024, 3071).astype(np.float32)
    lines = [
        "## Slices at their true positions",
        "",
        f"Thick slices made of {source.name} (its middle 192 x 192 pixels), lengths in its own thin "
        "slices; PSNR in dB (range 4095 HU) against the thin ones, averaged over the wanted spacing "
        "where that is larger. First as if slices touched, then with their thickness. Shipped is the "
        f"network whose weights have the sha256 {digest(SHIPPED_FOLDER / WEIGHTS)[:12]}.",
        "",
        "| thickness | every | wanted | linear | spline | histospline | with thickness | shipped | "
        "with thickness |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    shipped = Restorer("network", FACTOR, load_model(SHIPPED_FOLDER))
    for spacing, thickness, wanted in POSITIONS:
        thick = thick_slices(thin, spacing, thickness)
        count = int(len(thick) * spacing / wanted + 1e-9)
        truth = thin_slices(thin, wanted, count)
        cells = [f"{thickness}", f"{spacing}", f"{wanted:g}"]
        for restorer, widths in (
            *((Restorer(name, FACTOR), (spacing,)) for name in list(BASELINES)[:2]),
            (Restorer("histospline", FACTOR), (spacing, thickness)),
            (shipped, (spacing, thickness)),
        ):
            for width in widths:
                found = restore_at_spacing(
                    thick,
                    ThickSlices(len(thick), float(spacing), float(width)),
                    restorer,
                    spacing_mm=float(wanted),
                    count=count,
                ).values
                cells.append(f"{inner_psnr_db(found, truth):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def thick_slices(thin: np.ndarray, spacing: int, thickness: int) -> np.ndarray:
    first = (spacing - thickness) // 2 + spacing * np.arange(len(thin) // spacing)
    index = first[:, None] + np.arange(thickness)
    return thin[index.clip(0, len(thin) - 1)].mean(axis=1)


def thin_slices(thin: np.ndarray, wanted: float, count: int) -> np.ndarray:
    from stages.super_resolution.baselines import apply_operator
    from stages.super_resolution.positions import resampling_operator

    if wanted == 1:
        return thin[:count]
    return apply_operator(resampling_operator(len(thin), 1.0, wanted, count), thin)


def inner_psnr_db(found: np.ndarray, truth: np.ndarray, ends: int = 6) -> float:
    from stages.super_resolution.validation import psnr_db

    error = found[ends:-ends].clip(-1024, 3071) - truth[ends:-ends]
    return psnr_db(float(np.square(error, dtype=np.float64).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volume", type=Path, help="thin slices of a head; else a phantom")
    parser.add_argument("--slices", type=int, default=61, help="thick slices")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--thick", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--thin", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        restore_by_peer(options.peer, options.thick, options.thin)
        return
    if options.make:
        make_thick_volume(options.volume, options.slices, options.make)
        return
    lines = restoration_table(options.volume, options.slices, options.rounds)
    lines += memory_table(options.volume, options.slices)
    # Only here: a program inherits the peak of the one that starts it.
    import networks
    import torch

    torch.set_num_threads(1)
    lines += step_table(8)
    lines += [*networks.msd_table((10, 30))[1:], ""]
    lines += positions_table(options.volume) if options.volume else []
    said = (
        f"Load average at the end: {os.getloadavg()[2]:.0f} on {os.cpu_count()} cores, of which this "
        "program asks for one or two."
    )
    text = TEXT.format(load=said) + "\n".join(lines).rstrip() + "\n"
    if options.output:
        options.output.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
