"""Signatures by `ssh-keygen -Y`, with the keys that operators already have; llmval keeps no keys.

Sources: ssh-keygen(1), ALLOWED SIGNERS; https://github.com/openssh/openssh-portable, PROTOCOL.sshsig.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line

NAMESPACE = "llmval"  # a signature made for another purpose is not accepted
CHECK_S = 60.0
_KEY = re.compile(r"\b(?P<kind>[A-Z0-9-]+) key (?P<fingerprint>SHA256:\S+)")


@dataclass(frozen=True, slots=True)
class Signed:
    """What is known of the signature of a statement."""

    state: str  # "none", "good", "unknown signer", "bad"
    sentence: str
    key: str | None = None  # kind and fingerprint
    signer: str | None = None  # the principal of the allowed signers, if the key is theirs


def sign(data: bytes, key: Path) -> bytes:
    """The signature of `data` by an SSH key: a private key's file, or a public one whose private key an agent has.

    ssh-keygen asks for a passphrase at the terminal if the key has one.

    Raises:
        Refused: ssh-keygen is missing or too old, or it cannot use the key.
    """
    program = _program()
    if not key.is_file():
        raise Refused(f"the key {key} does not exist: name an SSH key, or make one with ssh-keygen -t ed25519.")
    done = subprocess.run([program, "-Y", "sign", "-f", str(key), "-n", NAMESPACE], input=data, capture_output=True)
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise Refused(
            f"ssh-keygen cannot sign with {key} ({_reason(done.stderr)}): name a private key, or a public key whose "
            "private key the agent has (ssh-add)."
        )
    return done.stdout


def check(data: bytes, signature: bytes | None, signers: Path | None) -> Signed:
    """Check a signature.

    Args:
        signature: None if there is none.
        signers: a file of allowed signers (see ssh-keygen(1)); None: whose key it is stays open.

    Raises:
        Refused: ssh-keygen is missing, or the file of signers cannot be read.
    """
    if signature is None:
        return Signed("none", "Nobody signed it, so it proves only that it was not damaged, not who made it.")
    program = _program()
    if signers is not None and not signers.is_file():
        raise Refused(
            f"the file of allowed signers {signers} does not exist. It has one line for each key: a name, then "
            "what the .pub file says, as in vendor@example.org ssh-ed25519 AAAA… (ssh-keygen(1), ALLOWED SIGNERS)."
        )
    with tempfile.NamedTemporaryFile(prefix="llmval-", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        plain = _run([program, "-Y", "check-novalidate", "-n", NAMESPACE, "-s", file.name], data)
        key = _key_of(plain)
        if plain.returncode or key is None:
            return Signed("bad", f"The signature is not valid ({_reason(plain.stderr)}).")
        if signers is None:
            return Signed(
                "unknown signer",
                f"The signature by the {key} is valid. Whose key that is stays open: name --signers FILE to check it.",
                key,
            )
        found = _run([program, "-Y", "find-principals", "-s", file.name, "-f", str(signers)], data)
        for name in found.stdout.decode("utf-8", "replace").split("\n") if not found.returncode else ():
            words = [program, "-Y", "verify", "-f", str(signers), "-I", name, "-n", NAMESPACE, "-s", file.name]
            if name and not _run(words, data).returncode:
                return Signed("good", f"Signed by {clean_line(name)} with the {key}.", key, name)
    return Signed(
        "unknown signer",
        f"The signature by the {key} is valid, but {signers} has no line for that key: NAME ssh-ed25519 AAAA…, the "
        "name first.",
        key,
    )


def _program() -> str:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise Refused(
            "ssh-keygen is not installed, so no signature can be made or checked: install OpenSSH 8.1 or newer."
        )
    return program


def _run(words: list[str], data: bytes) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(words, input=data, capture_output=True, timeout=CHECK_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Refused(f"ssh-keygen did not answer within {CHECK_S:.0f} s: try again.") from error


def _key_of(done: "subprocess.CompletedProcess[bytes]") -> str | None:
    found = _KEY.search(clean_line(done.stdout.decode("utf-8", "replace")))
    return f"{found['kind']} key {found['fingerprint']}" if found else None


def _reason(stderr: bytes) -> str:
    lines = [clean_line(line) for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "no reason given"
