"""Files replaced whole or not at all, so that a kill leaves no halves."""

import os
import tempfile
from pathlib import Path


def replace_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Make `path` hold `data`, readable by all; its folders are made. `durable`: it also survives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".part-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            if durable:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
