"""The machine and the software of a run, recorded once before its start."""

import getpass
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import psutil

from llmval_tui import __version__
from llmval_tui.foundation.text import clean_line

# Packages whose version changes what a run measures.
PACKAGES = (
    "torch", "triton", "transformer-engine", "transformers", "nvidia-nccl-cu13", "nvidia-cudnn-cu13", "httptools",
    "uvloop",
)  # fmt: skip
# Only variables that change what a run measures are recorded, and of these no secret (NVIDIA_API_KEY).
NOT_RECORDED = "(set; not recorded)"
RECORDED_PREFIXES = ("NCCL_", "CUDA_", "NVIDIA_", "NVSHMEM_", "TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "OMP_", "NVTE_")

_GPU_PROGRAM = """
import sys, orjson
from llmval_tui.telemetry.nvml.source import NvmlSource
source = NvmlSource()
source.open()
sys.stdout.buffer.write(orjson.dumps(source.inventory()))
source.close()
"""
# Runs in the runners' interpreter, which need not have llmval installed.
_VERSIONS_PROGRAM = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        continue
print(json.dumps(found))
"""


def gpu_inventory(timeout_s: float = 20.0) -> dict[str, Any]:
    """NVML's inventory of driver and GPUs, read in a child process: a broken driver may crash or hang its caller.

    Returns the inventory of `NvmlSource`, or `{"error": sentence}`.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _GPU_PROGRAM],
            capture_output=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"the NVIDIA driver did not answer within {timeout_s:.0f} s"}
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        return {"error": f"the query of the NVIDIA driver ended with code {done.returncode}: {last[0]}"}
    value = orjson.loads(done.stdout)
    return value if isinstance(value, dict) else {"error": "the NVIDIA driver gave no inventory"}


def user_name() -> str:
    """The name of the user of this process; the user of a container may have none."""
    try:
        return clean_line(getpass.getuser().encode("utf-8", "replace").decode())
    except (KeyError, OSError):
        return "unknown"


def host_inventory() -> dict[str, Any]:
    """Name, kernel, CPUs, memory and network adapters of this host; `nics` has those with verbs (InfiniBand, RoCE)."""
    return {
        "name": platform.node(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "nics": _nics(),
    }


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _nics(root: Path = Path("/sys/class/infiniband")) -> list[dict[str, Any]]:
    """Name, firmware and ports of each adapter, as the kernel's sysfs has them."""
    return [
        {
            "name": device.name,
            "firmware": _line_of(device / "fw_ver"),
            "ports": [
                {"port": port.name, "state": _line_of(port / "state"), "rate": _line_of(port / "rate")}
                for port in sorted(device.glob("ports/*"))
            ],
        }
        for device in sorted(root.glob("*"))
    ]


def _line_of(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def software_versions(runner_python: str, cwd: str | None = None) -> dict[str, str]:
    """Versions of llmval, of the runners' Python and of its installed `PACKAGES`, by name.

    Raises:
        OSError, subprocess.SubprocessError, ValueError: it cannot be started, does not answer, or is not Python.
    """
    found = {"llmval": __version__}
    if Path(runner_python).resolve() == Path(sys.executable).resolve() and runner_python == sys.executable:
        from importlib.metadata import PackageNotFoundError, version  # it loads the package email

        found["python"] = platform.python_version()
        for name in PACKAGES:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found
    done = subprocess.run(
        [runner_python, "-c", _VERSIONS_PROGRAM, *PACKAGES],
        capture_output=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        check=False,
        cwd=cwd,
    )
    if done.returncode == 0:
        found.update(orjson.loads(done.stdout))
    return found


# What decides whether a file counts as changed, and starts nothing.
_HARMLESS = ("core.filemode", "core.autocrlf", "core.eol", "core.symlinks", "core.ignorecase")


def git_revision(folder: Path) -> dict[str, Any]:
    """`commit` and `dirty` of the Git checkout around `folder`; empty without a checkout or without git.

    The checkout may be somebody else's. `git status` would start programs that its configuration names (fsmonitor,
    hooks, filters), so it runs with a configuration of our own: then a file that such a filter changes counts as dirty.
    """
    try:
        head, top, objects, index = _git(
            folder, "rev-parse", "HEAD", "--show-toplevel", "--git-path", "objects", "--git-path", "index"
        ).splitlines()
        with tempfile.TemporaryDirectory() as own:
            for name in ("refs", "objects"):
                (Path(own) / name).mkdir()
            (Path(own) / "HEAD").write_text(f"{head}\n")
            values = [(name, _git(folder, "config", "--default", "", "--get", name)) for name in _HARMLESS]
            own_settings = "".join(f"\t{name.partition('.')[2]} = {value}\n" for name, value in values if value)
            (Path(own) / "config").write_text(f"[core]\n\trepositoryformatversion = 0\n\tbare = false\n{own_settings}")
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
                "GIT_DIR": own,
                "GIT_WORK_TREE": top,
                "GIT_OBJECT_DIRECTORY": str(folder / objects),
                "GIT_INDEX_FILE": str(folder / index),
                "GIT_OPTIONAL_LOCKS": "0",  # the index is only read
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": os.devnull,
            }
            changed = _git(
                Path(top), "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", env=environment
            )
        return {"commit": head, "dirty": bool(changed)}
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}


def _git(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        timeout=10,
        stdin=subprocess.DEVNULL,
        check=True,
        env=env,
    )
    return done.stdout.decode(errors="surrogateescape").strip()


def recorded_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables for the record; the values of possible secrets are left out."""
    from llmval_tui.foundation.redaction import redact_text  # compiles its patterns: not before it is used
    from llmval_tui.foundation.secret_names import secret_name

    return {
        name: NOT_RECORDED if secret_name(name) else redact_text(value)
        for name, value in sorted(environment.items())
        if name.startswith(RECORDED_PREFIXES)
    }


def visible_gpus(environment: Mapping[str, str]) -> list[int] | None:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; None: it is not set, or names UUIDs or MIG instances."""
    parts = [part.strip() for part in environment.get("CUDA_VISIBLE_DEVICES", "unset").split(",")]
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else None
