"""The command that runs, as it was given: for whoever has to start it again."""

from __future__ import annotations

from contextvars import ContextVar

command_words: ContextVar[tuple[str, ...]] = ContextVar("command_words", default=())
"""Words after ``ct2flow``, set by the command line; without one none."""
