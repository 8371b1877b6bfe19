"""The errors a user can cause, one class per exit code."""

from __future__ import annotations

from typing import ClassVar


class Ct2FlowError(Exception):
    """State in one sentence what was wrong, the value found, the value needed and what to do.

    Parameters
    ----------
    message
        The sentence shown to the user. It never holds patient data.
    **facts
        The values behind the sentence, kept for tests and machines.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts


class UsageError(Ct2FlowError):
    """Report a wrong command or a wrong setting."""

    exit_code = 2


class InputError(Ct2FlowError):
    """Report input data that cannot be used."""

    exit_code = 3


class NumericalError(Ct2FlowError):
    """Report a computation that failed, such as a diverged flow."""

    exit_code = 4
