"""The command `ct2flow train` with what needs several stages."""

from __future__ import annotations

from stages.super_resolution.cli import train_app as app

# Judging a network needs its airway and its surface: stages that training knows nothing of.
app.command("pipeline.network_comparison.cli:compare", name="compare")
