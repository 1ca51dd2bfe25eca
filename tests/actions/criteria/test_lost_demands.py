"""Demands in the shapes of real lists: none may be lost or turned, or exit code 0 alone ticks the item."""

from pathlib import Path

import pytest

from llmval_tui.actions.reading.read import read_item
from llmval_tui.checklist.model import parse


def criteria(item: str, title: str = "A"):
    checklist = parse(f"# L\n\n## {title}\n\n{item}\n".encode(), Path("list.md"))
    step = checklist.steps[-1]
    reading = read_item(step, checklist.sections[-1], checklist)
    assert reading.commands or reading.script
    return reading.criteria


@pytest.mark.parametrize(
    "item",
    [
        "4/4 GPUs: `srun -N 1 nvidia-smi -L`",
        "DGEMM: 3/3 pass, `./dgemm --repeat 3`",
        "Power supplies: `ipmitool sdr type psu`; 6 of 6 PSUs",
        "PCIe link is Gen5 x16 on every GPU: `nvidia-smi --query-gpu=pcie.link.gen.current --format=csv`",
        "Persistence mode is **Enabled** on all GPUs → `nvidia-smi --query-gpu=persistence_mode --format=csv`",
        "Image digest is pinned: `docker image inspect vllm --format x`",
        "State: Active, Rate: 400 (`ibstat mlx5_0`)",
        "Symbol errors 0: `perfquery -x`",
        "Memory 143771 MiB on each GPU: `nvidia-smi --query-gpu=memory.total --format=csv`",
        "ECC mode: Enabled x8 - `nvidia-smi --query-gpu=ecc.mode.current --format=csv`",
        "Retired pages: none (`nvidia-smi -q -d PAGE_RETIREMENT`)",
        "BIOS: NPS=1, SMT=off (`dmidecode -t bios`)",
        "Fans 5000–12000 RPM: `ipmitool sdr type Fan`",
        "SMART overall-health PASSED `smartctl -H /dev/nvme0`",
        "`memtester 1G 1` 👉 all `ok`",
        "CPU governor: `cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor` (performance)",
        "Returns non-zero without a token: `curl -f http://api.local/v1/models`",
        "Nobody logged in: `who`",
        "Only one user: `who`",
        "Clock within 1 s of UTC: `date -u`",
        "GPU clocks locked at 1980 MHz: `nvidia-smi -q -d CLOCK`",
        "`systemctl --failed`: none.",
        "`journalctl -p 3 -b`: quiet",
        "`dmesg` w/o errors",
        "GPUs: `nvidia-smi -L` {8}",
        "`cat /proc/sys/vm/swappiness` (default 60, want 10)",
        "Keine Fehler im Kernel-Log: `dmesg --level=err`",
        "Aucune erreur : `dmesg --level=err`",
        "没有 Xid 错误：`dmesg`",
    ],
)
def test_a_fact_that_no_verb_announces_is_a_demand(item: str) -> None:
    assert [one.unreadable for one in criteria(f"- [ ] {item}") if one.unreadable]


@pytest.mark.parametrize(
    "item",
    [
        "Run the level 3 diagnostic: `dcgmi diag -r 3`",
        "Burn-in over 8 GPUs: `gpu_burn 600`",
        "What the driver is: `nvidia-smi -q`",
        "Set the power limit to 650 W: `nvidia-smi -pl 650`",
        "Kernel (`uname -r`) of GPU 0",
        "`uname -r` (kernel)",
        "Run `make gpus` only once",
    ],
)
def test_words_that_demand_nothing_stay_none(item: str) -> None:
    assert criteria(f"- [ ] {item}") == ()


def test_an_arrow_behind_a_command_is_not_a_comparison() -> None:
    (one,) = criteria("- [ ] `sysctl -n vm.swappiness` => 10 or less")
    assert (one.comparison, one.bound) == ("<=", 10.0)
    assert [one.comparison for one in criteria("- [ ] Swap: `sysctl -n vm.swappiness`, ≥ 10 or less")] == ["unreadable"]


def test_the_second_figure_of_a_clause_counts_too() -> None:
    found = criteria("- [ ] Latency: `./load`, p50 < 100 ms p99 < 200 ms")
    assert [(one.metric, one.comparison, one.bound) for one in found] == [("p50", "<", 100.0), ("p99", "<", 200.0)]
    found = criteria("- [ ] Accuracy ≥ 0.85 within 2 % of the reference: `./eval`")
    assert [one.comparison for one in found] == [">=", "unreadable"]
    assert found[0].unit is None


def test_a_value_between_two_signs_has_both_bounds() -> None:
    found = criteria("- [ ] 5 GB/s < bw < 7 GB/s: `python bw.py`")
    assert [(one.metric, one.comparison, one.bound) for one in found] == [("bw", ">", 5.0), ("bw", "<", 7.0)]


@pytest.mark.parametrize(
    "title",
    [
        "Every command must print OK",
        "Must not find anything",
        "No errors allowed",
        "≥ 400 GB/s",
        "Troubleshooting: bandwidth below 300 GB/s",
        "If busbw < 300 GB/s",
        "Busbw ≥ 400 GB/s within 2 % of the reference",
    ],
)
def test_a_demand_in_the_heading_is_one_of_each_item(title: str) -> None:
    (one,) = criteria("- [ ] `journalctl -k -b`", title)
    assert one.unreadable and one.text == title


@pytest.mark.parametrize(
    ("title", "bounds"),
    [
        ("2. NCCL (busbw ≥ 400 GB/s)", [("busbw", ">=", 400.0)]),
        ("Thresholds: all latencies < 10 us", [("latencies", "<", 10.0)]),
        ("Load at 8 requests/s, p99 TTFT < 200 ms and TPOT < 30 ms", [("p99 TTFT", "<", 200.0), ("TPOT", "<", 30.0)]),
    ],
)
def test_a_bound_in_the_heading_is_judged_for_each_item(title: str, bounds: list[tuple[str, str, float]]) -> None:
    for item in ("- [ ] `./one`", "- [ ] Second: `./two`"):
        found = criteria(item, title)
        assert [(one.metric, one.comparison, one.bound) for one in found] == bounds
        assert all(one.text.endswith(" (above the item)") and not one.unreadable for one in found)


def test_a_demand_of_the_item_above_is_one_of_its_items() -> None:
    item = "- [ ] Compute (each must be ≥ 95 % of 1979 TFLOPS)\n  - [ ] `python gemm.py --dtype fp8`"
    assert [one.comparison for one in criteria(item)] == ["unreadable"]
    assert criteria("- [ ] `python gemm.py`", "2. All commands must pass before the hand-over") == ()
    # A figure of the heading is that of other items, if the item has its own.
    found = criteria("- [ ] `python gemm.py` ≥ 5 TFLOPS", "Bandwidth ≥ 400 GB/s")
    assert [one.bound for one in found] == [5.0]


def test_bullets_and_tables_below_an_item_state_values() -> None:
    found = criteria("- [ ] Check `nvidia-smi -q`\n  - Driver Version must be 580 or higher\n  - CUDA Version 13.0")
    assert [one.text for one in found] == ["Driver Version must be 580 or higher", "CUDA Version 13.0"]
    table = "- [ ] Driver\n\n  | Command | Expected |\n  |---|---|\n  | `nvidia-smi -q` | 550.54.15 |"
    assert [one.text for one in criteria(table)] == ["550.54.15"]


def test_a_comment_below_a_fenced_line_is_its_result() -> None:
    block = "- [ ] Count\n\n  ```bash\n  nvidia-smi -L | wc -l\n  # {}\n  ```"
    for comment in ("8", "=> 8", "expect 8", "must be 8"):
        assert [one.unreadable for one in criteria(block.format(comment)) if one.unreadable], comment
    assert criteria(block.format("the next one takes a while")) == ()


OUTPUT = "- [ ] CPU cores, expected output below\n\n  ```bash\n  {}\n  ```\n\n  Expected output:\n\n  ```\n  {}\n  ```"


def test_the_block_below_expected_output_is_what_must_be_printed() -> None:
    (one,) = criteria(OUTPUT.format("nproc", "192"))
    assert (one.source, one.comparison, one.bound, one.command) == ("stdout", "==", 192.0, 0)
    (one,) = criteria(OUTPUT.format("./bandwidth", "Device 0: <name>\n  Result = PASS\n  Done"))
    assert (one.comparison, one.bound) == ("contains", "Result = PASS\nDone")
    (one,) = criteria(OUTPUT.format("./bandwidth", "..."))  # it shows nothing that could be compared
    assert one.unreadable


def test_a_shell_block_below_words_of_its_result_runs() -> None:
    block = "- [ ] Health endpoint returns 200\n\n  ```{}\n  curl -s -w x http://localhost/health\n  ```"
    (one,) = criteria(block.format("bash"))
    assert (one.comparison, one.bound) == ("==", 200.0)
    checklist = parse(f"# L\n\n{block.format('')}\n".encode(), Path("list.md"))
    reading = read_item(checklist.steps[0], checklist.sections[0], checklist)
    assert reading.kind == "ask"
    assert "command or its output" in (reading.question or "")


@pytest.mark.parametrize("tag", ["code", "tt"])
def test_an_html_code_element_is_a_code_span(tag: str) -> None:
    (one,) = criteria(f"- [ ] Kernel version is 5.15+: <{tag}>uname -r</{tag}>")
    assert (one.comparison, one.bound) == ("version >=", "5.15")
    checklist = parse(f"# L\n\n- [ ] Run <{tag}>./a.sh &amp;&amp; nvidia-smi -L</{tag}>\n".encode(), Path("list.md"))
    reading = read_item(checklist.steps[0], checklist.sections[0], checklist)
    assert [command.text for command in reading.commands] == ["./a.sh", "nvidia-smi -L"]


def test_the_same_value_for_all_gpus() -> None:
    query = "`nvidia-smi --query-gpu=vbios_version --format=csv,noheader`"
    (one,) = criteria(f"- [ ] All GPUs have the same VBIOS: {query}")
    assert (one.which, one.selector, one.bound) == ("distinct", "/^(.+)$/", 1.0)
    for item in (f"All GPUs have the same VBIOS as node 1: {query}", "All GPUs have the same VBIOS: `nvidia-smi -q`"):
        assert criteria(f"- [ ] {item}")[0].unreadable


@pytest.mark.parametrize(
    ("item", "bound"),
    [
        ("`sinfo --version` at least 23.02", "23.02"),
        ("Kernel 5.10+: `uname -r`", "5.10"),
        ("5.10 or newer: `uname -r`", "5.10"),
        ("Treiberversion mindestens 550: `nvidia-smi --query-gpu=driver_version --format=csv,noheader`", "550"),
        ("驱动版本不低于 550：`nvidia-smi --query-gpu=driver_version --format=csv,noheader`", "550"),
    ],
)
def test_a_bound_on_a_printed_version_is_not_a_decimal_number(item: str, bound: str) -> None:
    assert [(one.comparison, one.bound) for one in criteria(f"- [ ] {item}")] == [("version >=", bound)]


def test_a_bound_beside_a_version_may_be_another_one() -> None:
    (one,) = criteria("- [ ] `sinfo --version` takes at least 2 s")
    assert one.source == "duration"
