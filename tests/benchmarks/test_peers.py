"""How the benchmarks read the screens of other programs, and that a failed benchmark does not end the others."""

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.peers import nvitop_painted
from benchmarks.report import Row

HEAD = """╒═════════════════════════════════════════════════════════════════════════════╕
│ NVITOP 1.7.2      Driver Version: 580.159.04      CUDA Driver Version: 13.0 │
├───────────────────────────────┬──────────────────────┬──────────────────────┤
│ GPU  Name        Persistence-M│ Bus-Id        Disp.A │ MIG M.   Uncorr. ECC │
│ Fan  Temp  Perf  Pwr:Usage/Cap│         Memory-Usage │ GPU-Util  Compute M. │
"""
IDLE = """│   0  H200                  On │ 00000000:00:06.0 Off │ Disabled           0 │
│ N/A   39C   P0     82W / 700W │        0B / 140.4GiB │      0%      Default │
"""


@pytest.mark.parametrize(
    ("screen", "painted"),
    [("", False), (HEAD, False), (HEAD + IDLE, True), ((HEAD + IDLE).replace("│", "|"), True), (IDLE, False)],
    ids=["nothing", "head", "idle GPU", "in ASCII", "another program"],
)
def test_nvitop_has_painted_once_an_idle_gpu_has_its_row(screen, painted):
    assert nvitop_painted(screen) is painted


def test_a_failed_benchmark_is_a_row_and_does_not_end_the_others(monkeypatch, capsys):
    def fails():
        yield Row("half", "1 s", "≤ 2 s", True)
        raise TimeoutError("not shown within 20 s:\na screen")

    monkeypatch.setattr(benchmarks, "BENCHMARKS", {"a": fails, "b": lambda: Row("b", "1 s", "≤ 2 s", True)})
    monkeypatch.setattr("sys.setswitchinterval", lambda _: None)
    assert benchmarks.main([]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-3:] == [
        "| half | 1 s | ≤ 2 s | reached |",
        "| a | failed: TimeoutError: not shown within 20 s | – | not measured |",
        "| b | 1 s | ≤ 2 s | reached |",
    ]


def test_a_figure_without_a_bound_is_for_the_record():
    assert str(Row("key", "1 s", None, True)) == "| key | 1 s | for the record | measured |"
    assert str(Row("key", "no GPU", None, None)) == "| key | no GPU | for the record | not measured |"
