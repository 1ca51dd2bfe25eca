"""The archive on another machine: it runs from an empty folder with torch only, and contains no secret."""

import gzip
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest
from llmval_runners.compile_study.bundle.layout import Layout

from tests.helpers.runners.study_process import LIMIT_S, start, valid

pytestmark = pytest.mark.slow
TOKEN = "hf_seeded0123456789abcdefghijklmnop"


def torch_alone(folder: Path) -> Path:
    """A Python environment with links to torch and its dependencies only. This project cannot be imported there."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    pending, seen = ["torch"], set()
    while pending:
        name = re.split(r"[ ;\[<>=!~(]", pending.pop())[0].lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # asked for on another platform only
        pending += [line for line in distribution.requires or [] if "extra ==" not in line]
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    return folder / "bin" / "python"


def test_it_runs_again_from_an_empty_folder_and_has_no_byte_of_a_seeded_token(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "study")
    flags = ("--backend", "aot_eager", "--compile-mode", "smart", "--include-model-code")
    assert start(layout.root, *flags, HF_TOKEN=TOKEN, NCCL_DEBUG=f"x{TOKEN}").wait(LIMIT_S) == 0
    assert valid(layout)["compile"]["cache"] == "cold"
    assert TOKEN.encode() not in gzip.decompress(layout.archive.read_bytes())
    assert not [path for path in layout.root.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]

    there = tmp_path / "there"
    there.mkdir()
    with tarfile.open(layout.archive) as archive:
        archive.extractall(there, filter="data")
    folder = there / "study"
    assert any((folder / "private" / "trace" / "rank0").iterdir()), "with consent the traces are in it"
    python = torch_alone(tmp_path / "fresh")
    environment = {"PATH": os.defpath, "HOME": str(there), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    foreign = subprocess.run([python, "-c", "import llmval_runners"], env=environment, capture_output=True, check=False)
    assert foreign.returncode != 0, "the environment is not a fresh one"
    command = (folder / "commands.txt").read_text().splitlines()[-1]
    assert command == "torchrun --nproc_per_node=2 repro.py"
    launch = [str(python), "-m", "torch.distributed.run", *command.split()[1:]]
    empty = tmp_path / "empty"
    empty.mkdir()
    (folder / "repro.py").rename(empty / "repro.py")
    again = subprocess.run(
        launch, cwd=empty, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert again.returncode == 0, again.stderr[-2000:]
    assert again.stdout.count("done, it did not hang") == 2
    assert sysconfig.get_paths()["purelib"] not in again.stdout


def test_without_consent_no_compile_trace_is_in_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "study")
    assert start(layout.root, "--backend", "eager", "--skip-eager").wait(LIMIT_S) == 0
    assert any(layout.trace(0).iterdir()), "it was recorded"
    with tarfile.open(layout.archive) as archive:
        assert not [name for name in archive.getnames() if "private" in name or "trace" in name]
