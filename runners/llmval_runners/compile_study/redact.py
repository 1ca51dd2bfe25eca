"""No secret leaves with the bundle: values of secret-looking variables, and what looks like a token, are overwritten.

Overwritten, byte for byte with as many `*`: so lengths and offsets inside of pickles and archives stay right.
"""

import base64
import json
import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmval_runners.files import replace_bytes

SHORTEST = 6  # a shorter value would be found in every file by chance

_NAMES = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH(?!OR)|COOKIE|_PAT$|SESSION_KEY|_KEY$",
    re.IGNORECASE,
)
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        rb"\bhf_[A-Za-z0-9]{20,}",
        rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        rb"\bgh[pousr]_[A-Za-z0-9]{30,}",
        rb"\bgithub_pat_[A-Za-z0-9_]{30,}",
        rb"\bglpat-[A-Za-z0-9_-]{20,}",
        rb"\bsk-[A-Za-z0-9_-]{20,}",
        rb"\bxox[abprs]-[A-Za-z0-9-]{10,}",
        rb"\bAIza[0-9A-Za-z_-]{35}",
        rb"\bnvapi-[A-Za-z0-9_-]{20,}",
        rb"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]{1,20000}?-----END [A-Z ]*PRIVATE KEY-----",
    )
)
# What of the environment goes in: what decides how torch compiles and communicates, and nothing else.
_ALLOWED = re.compile(
    r"^(CUDA|NCCL|TORCH|PYTORCH|TRITON|GLOO|OMP|MKL|KMP|NVSHMEM|NVIDIA|UCX|TP_|PYTHON(HASHSEED|VERSION)|LD_LIBRARY_PATH$|CXX$|CC$|CFLAGS$|"
    r"RANK$|WORLD_SIZE$|LOCAL_RANK$|LOCAL_WORLD_SIZE$|MASTER_(ADDR|PORT)$|TOKENIZERS_PARALLELISM$)"
)


@dataclass(slots=True)
class Scan:
    """What was found: file name → how many places were overwritten; and secret variables too short to look for."""

    redacted: dict[str, int] = field(default_factory=dict)
    too_short: list[str] = field(default_factory=list)


def secret_name(name: str) -> bool:
    return bool(_NAMES.search(name)) and name not in ("TOKENIZERS_PARALLELISM",)


def allowed(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that go into the bundle."""
    return {
        name: value for name, value in sorted(environment.items()) if _ALLOWED.match(name) and not secret_name(name)
    }


def secrets_of(environment: Mapping[str, str]) -> tuple[set[bytes], list[str]]:
    """The values to look for, each in every form it may be written in; and the names whose values are too short."""
    found: set[bytes] = set()
    short = []
    for name, value in environment.items():
        if not secret_name(name) or not value:
            continue
        if len(value) < SHORTEST:
            short.append(name)
            continue
        raw = os.fsencode(value)
        forms = (
            value,
            json.dumps(value)[1:-1],
            urllib.parse.quote(value, safe=""),
            repr(value)[1:-1],
            base64.b64encode(raw).decode().rstrip("="),
        )
        found |= {os.fsencode(form) for form in forms}
    return found, sorted(short)


def redact(data: bytes, secrets: set[bytes]) -> tuple[bytes, int]:
    """The data with every secret overwritten, and in how many places."""
    count = 0
    for secret in sorted(secrets, key=len, reverse=True):
        if secret in data:
            count += data.count(secret)
            data = data.replace(secret, b"*" * len(secret))
    for pattern in _PATTERNS:
        data, times = pattern.subn(lambda match: b"*" * len(match[0]), data)
        count += times
    return data, count


def redact_files(root: Path, files: list[Path], environment: Mapping[str, str]) -> Scan:
    """Overwrite secrets in the files in place, each replaced whole or not at all."""
    secrets, short = secrets_of(environment)
    scan = Scan(too_short=short)
    for path in files:
        data, count = redact(path.read_bytes(), secrets)
        if count:
            replace_bytes(path, data)
            scan.redacted[str(path.relative_to(root))] = count
    return scan
