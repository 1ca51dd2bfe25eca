"""PyTorch alone is enough: it brings no NumPy."""

import json
import os
import subprocess
import sys
from pathlib import Path

RUNNER = Path(__file__).parents[3] / "runners" / "collective_bandwidth.py"


def test_two_ranks_agree_without_numpy(tmp_path: Path) -> None:
    (tmp_path / "hidden" / "numpy").mkdir(parents=True)
    (tmp_path / "hidden" / "numpy" / "__init__.py").write_text("raise ModuleNotFoundError('numpy')\n")
    words = "--device cpu --operations all_reduce --max-bytes 64 --modes eager --pairs none --nproc-per-node 2"
    done = subprocess.run(
        [sys.executable, str(RUNNER), *words.split(), "--output-json", str(tmp_path / "x.json")],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "hidden")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1, 3), done.stderr
    assert "NumPy" not in done.stdout + done.stderr
    assert json.loads((tmp_path / "x.json").read_text())["rows"], done.stderr
