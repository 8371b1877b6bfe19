"""What the table of costs measures is what a training does, and its page says what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import NETWORKS, TEXT, best, make_discriminator, training_step

from stages.super_resolution.model import count_parameters

PAGE = Path(__file__).resolve().parents[2] / "docs" / "networks.md"
ADVERSARIAL = [name for name, entry in NETWORKS.items() if entry.adversarial_weight]


def test_the_measured_step_of_srgan_teaches_a_discriminator_too(monkeypatch):
    assert ADVERSARIAL == ["srgan"]
    stepped = []
    step = torch.optim.AdamW.step

    def note(self, *arguments, **keywords):
        stepped.append(sum(p.numel() for group in self.param_groups for p in group["params"]))
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.AdamW, "step", note)
    losses = training_step("srgan", "float32")()
    assert stepped == [5_213_569, 1_268_547]  # discriminator first, then generator
    assert {"mse_loss", "adversarial_loss", "discriminator_loss"} <= set(losses)


def test_the_measured_step_of_a_network_without_an_opponent_is_plain():
    assert make_discriminator("unet") is None
    assert set(training_step("unet", "float32")()) == {"loss"}


def test_the_page_names_the_parameters_of_the_discriminator():
    discriminator = make_discriminator("srgan")
    assert discriminator is not None
    assert count_parameters(discriminator) == 5_213_569
    assert "The discriminator has 5,213,569 parameters" in TEXT


def test_the_page_begins_with_what_the_benchmark_writes():
    assert PAGE.read_text().startswith(TEXT)
    assert "GPU time: not measured" in PAGE.read_text()


@pytest.mark.gpu
def test_on_a_gpu_a_step_is_timed_until_it_is_done():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    assert best(training_step("unet", "float32", "cuda"), 1, "cuda") > 0
