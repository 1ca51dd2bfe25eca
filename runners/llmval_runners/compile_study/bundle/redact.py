"""Redaction of the bundle's files. `process/redaction.py` knows what a secret is."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmval_runners.process.files import replace_bytes
from llmval_runners.process.redaction import redact, secrets_of
from llmval_runners.process.secret_names import secret_name

# The variables that go into the bundle: only those that decide how torch compiles and communicates.
_ALLOWED = re.compile(
    r"^(CUDA|NCCL|TORCH|PYTORCH|TRITON|GLOO|OMP|MKL|KMP|NVSHMEM|NVIDIA|UCX|TP_|PYTHON(HASHSEED|VERSION)|LD_LIBRARY_PATH$|CXX$|CC$|CFLAGS$|"
    r"RANK$|WORLD_SIZE$|LOCAL_RANK$|LOCAL_WORLD_SIZE$|MASTER_(ADDR|PORT)$|TOKENIZERS_PARALLELISM$)"
)


@dataclass(slots=True)
class Scan:
    """Overwritten places by file name, and the variables that were not searched for.

    A value that is short or only a number is not searched for: it would be found by chance.
    """

    redacted: dict[str, int] = field(default_factory=dict)
    too_short: list[str] = field(default_factory=list)


def allowed(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that go into the bundle."""
    return {
        name: value for name, value in sorted(environment.items()) if _ALLOWED.match(name) and not secret_name(name)
    }


def redact_files(root: Path, files: list[Path], environment: Mapping[str, str]) -> Scan:
    """Overwrite secrets in the files. Each file is replaced whole or not at all.

    Raises:
        ValueError: a JSON file would no longer be valid; no file was changed.
    """
    secrets, short = secrets_of(environment)
    scan = Scan(too_short=short)
    for write in (False, True):  # check all files before the first is written: redaction cannot be undone
        for path in files:
            before = path.read_bytes()
            data, count = redact(before, secrets)
            if not count:
                continue
            name = str(path.relative_to(root))
            if write:
                replace_bytes(path, data)
                scan.redacted[name] = count
            elif path.suffix == ".json" and _is_json(before) and not _is_json(data):
                raise ValueError(
                    f"{name} would no longer be JSON after redaction, so nothing was packed: the value of a "
                    "secret-looking variable is part of its format. Unset the variable if it is not secret, or remove "
                    "the secret from the file, and pack again with --repack"
                )
    return scan


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
