"""Redaction: values of secret-looking variables, and strings that look like tokens, are overwritten in the bundle.

Each byte is replaced by `*`, so that lengths and offsets inside pickles and archives stay valid.
"""

import base64
import json
import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmval_runners.process.files import replace_bytes

SHORTEST = 6  # a shorter value would appear in many files by chance

# TOKENS in the plural is usually a count. It is a secret only if the name has no word of a count.
_NAMES = re.compile(
    r"TOKEN(?!S\b|S_|IZER)|^(?!(?:.*_)?(?:MAX|MIN|NUM|TOTAL|LIMIT)(?:_|$)).*TOKENS(?:\b|_)|SECRET|PASSW|PASSPHRASE|"
    r"(?:^|_|PG)PASS$|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTH(?!OR)|COOKIE|_PAT$|SESSION_KEY|_KEY$",
    re.IGNORECASE,
)
# user:password of a URL. No quotes, control bytes or high bytes, so that a match ends with the URL.
_IN_URL = re.compile(rb"(?<=://)[^/\s:@\"'\x00-\x1f\x7f-\xff]*:[^/\s@\"'\x00-\x1f\x7f-\xff]+(?=@)")
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


def secret_name(name: str) -> bool:
    return bool(_NAMES.search(name))


def allowed(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that go into the bundle."""
    return {
        name: value for name, value in sorted(environment.items()) if _ALLOWED.match(name) and not secret_name(name)
    }


def secrets_of(environment: Mapping[str, str]) -> tuple[set[bytes], list[str]]:
    """The values to search for, in all their encodings; and the variables whose values are too short.

    A password in a URL counts whatever the variable's name is: a log may contain it without the URL.
    """
    found: set[bytes] = set()
    short = set()
    for name, value in environment.items():
        values = {value} if secret_name(name) and value else set()
        for match in _IN_URL.findall(os.fsencode(value)):
            password = os.fsdecode(match.partition(b":")[2])
            values |= {password, urllib.parse.unquote(password)}
        for secret in values:
            if len(secret) < SHORTEST or secret.strip().isdecimal():
                short.add(name)
            else:
                found |= _forms(secret)
    return found, sorted(short)


def _forms(secret: str) -> set[bytes]:
    raw = os.fsencode(secret)
    return {
        raw,
        os.fsencode(json.dumps(secret)[1:-1]),
        urllib.parse.quote_from_bytes(raw, safe="").encode(),
        os.fsencode(repr(secret)[1:-1]),
        base64.b64encode(raw).rstrip(b"="),
    }


def redact(data: bytes, secrets: set[bytes]) -> tuple[bytes, int]:
    """The data with every secret overwritten, and the number of overwritten places."""
    count = 0
    for secret in sorted(secrets, key=len, reverse=True):
        if secret in data:
            count += data.count(secret)
            data = data.replace(secret, b"*" * len(secret))
    for pattern in (_IN_URL, *_PATTERNS):
        data, times = pattern.subn(lambda match: b"*" * len(match[0]), data)
        count += times
    return data, count


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
