"""What a node says of itself before anything starts there: `python -m llmval_tui.fleet.probe RUN [--name NAME]`.

Prints one JSON object (over ssh), or writes it as `env.json` into the node's folder (in a Slurm job).
"""

import argparse
import hashlib
import os
import re
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmval_tui import __version__
from llmval_tui.foundation.files import sha256_of, to_json, write_json
from llmval_tui.foundation.process import boot_id
from llmval_tui.foundation.record import read_record
from llmval_tui.runs.inventory import gpu_inventory, host_inventory, recorded_environment, software_versions
from llmval_tui.telemetry.process_ownership import NODES_FOLDER

ENV_FILE = "env.json"
_MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True)
class NodeProbe:
    """`env.json` of a node: who it is, what is installed, and whether it sees the run."""

    v: int
    name: str
    hostname: str
    machine_id: str | None  # None: the node has no /etc/machine-id
    boot_id: str
    wall_ns: int  # the node's clock when it answered
    llmval: str
    checklist_sha256: str | None = None  # hash of the list at the same path, see below; None: it is not there
    run_sha256: str | None = None  # hash of run.json, if the node sees the run's folder
    free_port: int | None = None
    address: str | None = None  # network address, as other nodes may reach it; None: only a loopback address
    host: dict[str, Any] = field(default_factory=dict)  # as in run.json, with the GPUs below "gpu"
    versions: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def node_name() -> str | None:
    """The name that Slurm gave this node; None outside of a job."""
    return os.environ.get("SLURMD_NODENAME") or None


def probe(run_folder: Path, name: str, checklist: Path | None, python: str) -> NodeProbe:
    """Look at this machine; takes a second or two, because the NVIDIA driver is asked."""
    versions: dict[str, str] = {"llmval": __version__}
    with suppress(OSError, ValueError):
        versions = software_versions(python)
    return NodeProbe(
        v=1,
        name=name,
        hostname=socket.gethostname(),
        machine_id=machine_id(),
        boot_id=boot_id(),
        wall_ns=time.time_ns(),
        llmval=__version__,
        checklist_sha256=checklist_sha256(checklist) if checklist is not None else None,
        run_sha256=_hash(run_folder / "run.json"),
        free_port=free_port(),
        address=network_address(name),
        host={**host_inventory(), "gpu": gpu_inventory()},
        versions=versions,
        environment=recorded_environment(os.environ),
    )


def machine_id() -> str | None:
    """The id of this machine, which outlives its boots; None if it has none."""
    try:
        return _MACHINE_ID.read_text().strip() or None
    except OSError:
        return None


def checklist_sha256(path: Path) -> str | None:
    """A hash of a list without its ticks and the remarks beside them, which change with every run; None: no file."""
    try:
        text = path.read_bytes()
    except OSError:
        return None
    plain = re.sub(rb"[ \t]*<!--(?! *llmval:).*?-->", b"", re.sub(rb"\[[xX]\]", b"[ ]", text), flags=re.DOTALL)
    return hashlib.sha256(plain).hexdigest()


def _hash(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def free_port() -> int:
    """A TCP port that nothing uses now."""
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def network_address(name: str) -> str | None:
    """The address of this node on the network; None if it has only loopback addresses.

    The address of its name, if the name resolves to one of its own; else that of the default route.
    """
    with suppress(OSError, UnicodeError):
        for found in socket.getaddrinfo(name, None, family=socket.AF_INET):
            address = str(found[4][0])
            if not address.startswith("127.") and _is_own(address):
                return address
    for towards in ("192.0.2.254", "10.255.255.254", "172.31.255.254", "192.168.255.254"):  # nothing is sent
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.connect((towards, 9))
            address = str(one.getsockname()[0])
            if not address.startswith("127."):
                return address
    return None


def _is_own(address: str) -> bool:
    with suppress(OSError), socket.socket() as one:
        one.bind((address, 0))
        return True
    return False


def read_probe(run_folder: Path, name: str) -> NodeProbe | None:
    """`env.json` of a node; None if it did not write one.

    Raises:
        Refused: it is damaged.
    """
    return read_record(NodeProbe, run_folder / NODES_FOLDER / name / ENV_FILE)


def sees_run(run_folder: Path, name: str) -> bool:
    """Whether a node writes where this machine reads; if not, its files here are copies.

    Raises:
        Refused: what it said of itself is damaged.
    """
    found = read_probe(run_folder, name)
    return found is not None and found.run_sha256 is not None


def main(arguments: list[str] | None = None) -> int:
    """Look, and print or write the answer."""
    parser = argparse.ArgumentParser(prog="python -m llmval_tui.fleet.probe")
    parser.add_argument("run", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--checklist", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--write", action="store_true", help="write env.json instead of printing")
    options = parser.parse_args(arguments)
    name = options.name or node_name()
    if name is None:
        print("refused: give this node a name with --name: it runs outside of a Slurm job.", file=sys.stderr)
        return 2
    if options.write and not options.run.is_dir():
        print(
            f"refused: {name} does not see {options.run}: Slurm runs need a workspace on a file system that all nodes "
            "share; move the workspace there, or use --launcher ssh.",
            file=sys.stderr,
        )
        return 2
    found = probe(options.run, name, options.checklist, options.python)
    if options.write:
        folder = options.run / NODES_FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / ENV_FILE, found)
    else:
        sys.stdout.buffer.write(to_json(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
