"""`python -m benchmarks.collectives` compares collective_bandwidth.py with nccl-tests and nvbandwidth on the same GPUs.

Neither is a dependency: build them from source (github.com/NVIDIA/nccl-tests, github.com/NVIDIA/nvbandwidth) and pass
their paths. If one is not given, its rows say so. Needs two GPUs or more, and no other work on them. nccl-tests should
load the NCCL of PyTorch: LD_LIBRARY_PATH=…/site-packages/nvidia/nccl/lib.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import Row
from llmval_tui.actions.tools.files import items
from llmval_tui.actions.tools.nccl_tests import _from_text

RUNNER = Path(__file__).parents[1] / "runners" / "collective_bandwidth.py"
BUSBW_PERCENT, PAIR_PERCENT, COUNTER_PERCENT = 2.0, 3.0, 2.0
SIZE = 1 << 30
COPIES = {  # (access, directions) → the test case of nvbandwidth
    ("read", 1): "device_to_device_memcpy_read_ce",
    ("write", 1): "device_to_device_memcpy_write_ce",
}


def ours(gpus: int, folder: Path) -> dict[str, Any]:
    """The record of our runner."""
    out = folder / "ours.json"
    subprocess.run(
        [sys.executable, str(RUNNER), "--nproc-per-node", str(gpus), "--output-json", str(out)],
        check=False, timeout=1800,
    )  # fmt: skip
    record: dict[str, Any] = json.loads(out.read_text())
    return record


def beside_nccl_tests(record: dict[str, Any], folder: Path | None, gpus: int) -> list[Row]:
    """The all-reduce of 1 GiB, eager and in a graph, against `all_reduce_perf` with one process."""
    found = []
    for mode, flags in (("eager", []), ("graph", ["-G", "1"])):
        name, bound = f"all-reduce of 1 GiB, {mode}, beside nccl-tests", f"within {BUSBW_PERCENT:g} %"
        mine = next(
            one["busbw_gb_per_s"] for one in record["rows"]
            if (one["operation"], one["mode"], one["bytes"]) == ("all_reduce", mode, SIZE)
        )  # fmt: skip
        if folder is None:
            found.append(Row(name, f"{mine:.1f} GB/s; not compared: pass --nccl-tests", bound, None))
            continue
        command = [str(folder / "all_reduce_perf"), "-b", "1G", "-e", "1G", "-g", str(gpus), "-w", "5", *flags]
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
        found.append(_beside(name, mine, _busbw(text), BUSBW_PERCENT, bound))
    return found


def _busbw(text: str) -> float:
    """The busbw of 1 GiB in the output of nccl-tests, the worse of out-of-place and in-place."""
    found = next(one.busbw for one in _from_text(text).sizes if one.bytes == SIZE)
    if found is None:
        raise SystemExit(f"nccl-tests has no busbw: {text[-500:]}")
    return found


def beside_nvbandwidth(record: dict[str, Any], program: Path | None) -> list[Row]:
    """The slowest one-way copy of each access against the slowest cell of nvbandwidth's matrix."""
    found = []
    for (access, directions), case in COPIES.items():
        name, bound = f"slowest copy, {access}, beside nvbandwidth", f"within {PAIR_PERCENT:g} %"
        mine = min(
            one["gb_per_s"] for one in record["pairs"]["cells"]
            if (one["method"], one["access"], one["directions"]) == ("copy_engine", access, directions)
        )  # fmt: skip
        if program is None:
            found.append(Row(name, f"{mine:.1f} GB/s; not compared: pass --nvbandwidth", bound, None))
            continue
        size = str(record["settings"]["pair_bytes"] >> 20)
        command = [str(program), "-j", "-t", case, "-b", size]
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
        cases = items(json.loads(text[text.index("{") :])["nvbandwidth"]["testcases"])
        cells = [float(cell) for row in cases[-1]["bandwidth_matrix"] for cell in row if cell != "N/A"]
        found.append(_beside(name, mine, min(cells), PAIR_PERCENT, bound))
    return found


def counters(record: dict[str, Any]) -> Row:
    """What the NVLink counters saw of what was sent, the furthest from 100 %."""
    name, bound = "NVLink counters", f"within {COUNTER_PERCENT:g} % of what was sent"
    shares = [
        one[key] for one in record["counters"]["readings"] for key in ("tx_share", "rx_share") if one[key] is not None
    ]
    if not shares:
        return Row(name, f"not available: {record['counters']['reason']}", bound, None)
    worst = max(shares, key=lambda share: abs(float(share) - 1))
    return Row(name, f"{worst:.1%}, {len(shares)} readings", bound, abs(worst - 1) <= COUNTER_PERCENT / 100)


def _beside(name: str, mine: float, theirs: float, percent: float, bound: str) -> Row:
    difference = 100 * (mine / theirs - 1)
    return Row(name, f"{mine:.1f} and {theirs:.1f} GB/s ({difference:+.1f} %)", bound, abs(difference) <= percent)


def main() -> None:
    """Measure and print one line for each row; exit 1 if a row is outside its bound."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collectives")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--nccl-tests", type=Path, metavar="DIR", help="folder with all_reduce_perf")
    parser.add_argument("--nvbandwidth", type=Path, metavar="FILE")
    parser.add_argument("--output-json", type=Path, metavar="FILE", help="keep the record of our runner")
    found = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = ours(found.gpus, Path(folder))
    if found.output_json:
        found.output_json.write_text(json.dumps(record, indent=1) + "\n")
    rows = [
        *beside_nccl_tests(record, found.nccl_tests, found.gpus), *beside_nvbandwidth(record, found.nvbandwidth),
        counters(record),
    ]  # fmt: skip
    for row in rows:
        print(row)
    sys.exit(any(row.reached is False for row in rows))


if __name__ == "__main__":
    main()
