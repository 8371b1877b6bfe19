"""Read the project's secret, or make one; it is never shown, logged or copied."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from pipeline.core.errors import UsageError
from stages.deidentify.pseudonyms import LEAST_SECRET_BYTES

SECRET_BYTES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secret(path: Path) -> bytes:
    """Return the secret.

    Raises
    ------
    UsageError
        If there is no such file, or it is too short.
    """
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"--secret: the file cannot be read ({error.strerror}); give the project's secret, or "
            "add --create-secret to make one."
        ) from error
    if len(secret) < LEAST_SECRET_BYTES:
        raise UsageError(
            f"--secret: the file holds {len(secret)} bytes (needed: {LEAST_SECRET_BYTES} or more, "
            "random); make one with --create-secret.",
            size=len(secret),
        )
    return secret


def create_secret(path: Path) -> None:
    """Write 32 random bytes that only their owner may read, unless the file exists.

    Raises
    ------
    UsageError
        If the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise UsageError(
            f"--secret: the file cannot be made ({error.strerror}); choose another place."
        ) from error
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(SECRET_BYTES))


def is_open_to_others(path: Path) -> bool:
    """Say whether other users of the machine may read the secret."""
    return os.name == "posix" and bool(path.stat().st_mode & _OTHERS)
