"""The gates of criteria: a value that is not there for certain never passes."""

import json

import pytest

from llmval_tui.actions.criteria import sources
from llmval_tui.actions.criteria.claims import claims_of
from llmval_tui.actions.criteria.evaluate import criteria_gates
from llmval_tui.actions.criteria.expect import parse_expect
from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.reading.model import WrittenCommand
from llmval_tui.runs.records import Artifact, Command, CommandStatus, Outcome

PASS, FAIL, UNCLEAR = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def run_with(workspace, stdout="", stderr="", files=None, text="Run `./x`", command=None, **status):
    commands = [command or Command("main", ["./x"], "./x")]
    artifacts = [Artifact(name) for name in files or {}]
    run = workspace.run(
        workspace.context(text), commands=commands, artifacts=artifacts, telemetry=False, status=status or None
    )
    for name, content in (files or {}).items():
        workspace.write(name, content if isinstance(content, str) else json.dumps(content))
    (run.folder / "logs" / "main.stdout.log").write_text(stdout)
    (run.folder / "logs" / "main.stderr.log").write_text(stderr)
    return run


def gate_of(run, criterion):
    (gate,) = criteria_gates(run, [criterion])
    return gate


GPUS = "GPU 0 busbw 480 GB/s\nGPU 1 busbw 20 GB/s\n"
BW = "warm 1\nbusbw 412 GB/s\nbusbw 389 GB/s\nbusbw 431 GB/s\n"
JSON = {
    "p99": 0.18,
    "p50_ms": 90,
    "bad": [],
    "list": [1, 2, 900],
    "text": "12 ms",
    "ok": True,
    "name": "a",
    "null": None,
}


@pytest.mark.parametrize(
    ("expect", "outcome", "measured", "reason"),
    [
        (r"stdout /busbw (\S+)/ >= 380", PASS, "412, 389, 431", "logs/main.stdout.log:2: busbw 412 GB/s"),
        (r"stdout /busbw (\S+)/ >= 400", FAIL, "389", "logs/main.stdout.log:3: busbw 389 GB/s"),
        (r"any stdout /busbw (\S+)/ >= 430", PASS, "431", ""),
        (r"any stdout /busbw (\S+)/ >= 450", FAIL, "412", ""),
        (r"last stdout /busbw (\S+)/ >= 430", PASS, "431", ""),
        (r"stdout /busbw (.*)/ >= 0.35 TiB/s", PASS, "0.374712 TiB/s", ""),
        (r"stdout /busbw (.*)/ >= 400 ms", UNCLEAR, "unknown", "is in bytes per second"),
        (r"stdout /busbw (.*)$/ >= 380", PASS, "412", ""),
        (r"stdout /algbw (\S+)/ >= 1", UNCLEAR, "unknown", "matches nothing"),
        (r"stdout /(bus)bw/ >= 1", UNCLEAR, "unknown", "“bus” at logs/main.stdout.log:2 is not a number"),
        ("count /busbw/ == 3", PASS, "3", ""),
        ("count /busbw/ == 4", FAIL, "3", ""),
        ("count /nothing/ == 0", PASS, "0", ""),
        (r"distinct /busbw (\S+)/ == 3", PASS, "3", ""),
        (r"distinct /(busbw) / == 1", PASS, "1", ""),
        (r"distinct /(busbw) / == 3", FAIL, "1", ""),
        ("stdout ~ /431/", PASS, "in 1 line", ""),
        ("stdout !~ /43./", FAIL, "in 1 line", "busbw 431"),
        ("stderr empty", FAIL, "1 line", "logs/main.stderr.log:1: oops"),
        ("stdout not empty", PASS, "4 lines", ""),
        ("stdout contains busbw 389", PASS, "in 1 line", ""),
        ("stdout contains algbw", FAIL, "not in the output", ""),
        ("stdout last line contains 431", PASS, "busbw 431 GB/s", ""),
        ("stdout ends with 412 GB/s", FAIL, "busbw 431 GB/s", ""),
        ("out.json p99 <= 200 ms", PASS, "0.18 ms", ""),
        ("out.json p99 == 0.18", PASS, "0.18", ""),
        ("out.json list < 100", FAIL, "900", "out.json list"),
        ("out.json text <= 0.02 s", PASS, "0.012 s", ""),
        ("out.json ok == true", PASS, "true", ""),
        ("out.json name == b", FAIL, "a", ""),
        ("out.json name <= 3", UNCLEAR, "unknown", "is not a number"),
        ("out.json p98 <= 3", UNCLEAR, "unknown", "out.json has nothing at p98"),
        ("out.json bad <= 3", UNCLEAR, "unknown", "empty list"),
        ("out.json null <= 3", UNCLEAR, "unknown", "nothing at null"),
        ("out.json length(name) == 1", PASS, "1", ""),
        ("out.json keys(p99) == 1", UNCLEAR, "unknown", "cannot be evaluated"),
        ("other.json p99 <= 3", UNCLEAR, "unknown", "other.json is missing"),
        ("stdout p99 <= 3", UNCLEAR, "unknown", "is not JSON"),
        ("result ttft.p99 <= 3 ms", UNCLEAR, "unknown", "no metric ttft.p99"),
        ("exit == 0", PASS, "0", ""),
        ("exit == 3", FAIL, "0", ""),
    ],
)
def test_expect(workspace, expect, outcome, measured, reason):
    run = run_with(workspace, BW, "oops\n", {"out.json": JSON})
    gate = gate_of(run, parse_expect(expect))
    assert gate.outcome is outcome, gate
    assert gate.measured.startswith(measured) and reason in gate.reason


SMI = Command("main", ["nvidia-smi", "--query-gpu=index,memory.used", "--format=csv,noheader,nounits"], "nvidia-smi")
FIO = {"jobs": [{"read": {"iops": 1.3e6, "clat_ns": {"percentile": {"99.900000": 4200000}}}, "write": {"iops": 0}}]}
COVERAGE = """
Name    Stmts   Miss  Cover
---------------------------
a.py       10      5    50%
TOTAL     110      7    94%
"""


@pytest.mark.parametrize(
    ("text", "stdout", "outcome", "measured"),
    [
        ("`./x` p99 < 200 ms", "p99 = 912 ms, 37 requests failed\n", FAIL, "912 ms"),
        ("`./x` p99 < 200 ms", "p99 = 0.1 s\n", PASS, "100 ms"),
        ("`./x` p99 < 200 ms", "p99 = 100\n", UNCLEAR, "unknown"),  # no unit
        ("`./x` p99 < 200 ms", "p99 TTFT (ms): 100\n", PASS, "100 ms"),
        ("`./x` p99 < 200 ms", "p99 a: 100 ms\np99 b: 900 ms\n", UNCLEAR, "unknown"),
        ("`./x` p99 < 200 ms", "p50 = 100 ms\n", UNCLEAR, "unknown"),
        ("`./x` p99 TTFT < 200 ms", "p99 = 100 ms\n", UNCLEAR, "unknown"),
        ("`./x` p99 TTFT < 200 ms", "Time to first token\nP99 TTFT (ms):   150.2\n", PASS, "150.2 ms"),
        ("`./x` p99 TTFT < 200 ms", '{"ttft_ms": {"p99": 150, "p50": 3}}', UNCLEAR, "unknown"),
        ("`./x` no failed requests", "p99 = 912 ms, 37 requests failed\n", FAIL, "in 1 line"),
        ("`./x` zero failed requests", "Failed requests: 0\nSuccessful requests: 64\n", PASS, "0"),
        ("`./x` zero failed requests", "Failed requests: 5\n", FAIL, "5"),
        ("`./x` zero failed requests", "all is well\n", UNCLEAR, "unknown"),
        ("`./x`, no errors", "0 errors, 3 warnings\n", PASS, "not in the output"),
        ("`./x`, no errors", "errors: 2\n", FAIL, "in 1 line"),
        ("`./x`, no errors", "ERROR: link 3 down\n", FAIL, "in 1 line"),
        ("`./x`, no errors", "error correction is enabled\n", UNCLEAR, "unknown"),
        ("`./x`, no errors", "done\n", PASS, "not in the output"),
        ("`./x` shows no XID", "NVRM: Xid (PCI:0000:1b:00): 79\n", FAIL, "in 1 line"),
        ("`./x` shows no XID", "", PASS, "not in the output"),
        ("`./x` — all 8 GPUs listed", "".join(f"GPU {i}: H200\n" for i in range(8)), PASS, "8"),
        ("`./x` — all 8 GPUs listed", "".join(f"GPU {i}: H200\n" for i in range(7)), FAIL, "7"),
        ("`./x` — all 8 GPUs listed", "no devices\n", UNCLEAR, "unknown"),
        ("`./x` must print 0 for every GPU", "0, 0\n1, 0\n", PASS, "0"),
        ("`./x` must print 0 for every GPU", "0, 0\n1, 3\n", FAIL, "3"),
        ("`./x` must print 0 for every GPU", "GPU zero\n", UNCLEAR, "unknown"),
        ("`./x` says “580.95.05” on every line", "580.95.05\n580.95.05\n", PASS, "580.95.05"),
        ("`./x` says “580.95.05” on every line", "580.95.05\n570.1.2\n", FAIL, "570.1.2"),
        ("`./x` prints `0.11.0` or newer", "INFO 11-29 start\n0.12.1\n", PASS, "0.12.1"),
        ("`./x` prints `0.11.0` or newer", "0.9.2\n", FAIL, "0.9.2"),
        ("`./x` prints `0.11.0` or newer", "0.11.0rc1\n", FAIL, "0.11.0rc1"),
        ("`./x` prints `0.11.0` or newer", "0.11.0+cu128\n", PASS, "0.11.0+cu128"),
        ("`./x` prints `0.11.0` or newer", "none\n", UNCLEAR, "unknown"),
        ("`./x` prints nothing", "a\n", FAIL, "1 line"),
        ("`./x` ends with `all good`", "x\nall good.\n", PASS, "all good."),
        ("`./x`, look for `OK` in the last line", "OK\nFAILED\n", FAIL, "FAILED"),
        ("`./x`: coverage stays at 92 % or more", COVERAGE, PASS, "94 %"),
        ("`./x`: coverage stays at 95 % or more", COVERAGE, FAIL, "94 %"),
        ("`./x`, at least 200 TiB available", "Avail Use%\n 312T  40%\n", PASS, "312 TiB"),
        ("`./x`, at least 200 TiB available", "Avail Use%\n 205T  40%\n", UNCLEAR, "unknown"),  # of 1000 or of 1024
        ("`./x`, at least 200 TiB available", "Avail Use%\n  12T  40%\n", FAIL, "12 TiB"),
        ("`./x` (≥ 600 TFLOP/s on each GPU)", "gpu 0: 640 TFLOP/s\ngpu 1: 590 TFLOP/s\n", FAIL, "590 TFLOP/s"),
        ("`./x`; temperature may not exceed 83 °C", "t, temperature\n0, 71 C\n1, 84 C\n", FAIL, "84 °C"),
        ("Random read: `./x`; IOPS ≥ 1.2 M", json.dumps(FIO), PASS, "1300000"),
        ("`./x`; IOPS ≥ 1.2 M", json.dumps(FIO), UNCLEAR, "unknown"),  # read or write
        ("`./x`: p99.9 completion latency under 5 ms", json.dumps(FIO), PASS, "4.2 ms"),
        ("`./x` and make sure that it looks healthy", "fine\n", UNCLEAR, "not judged"),
        # What the output asks for, promises or remembers is no measurement; the limit that an item asks for is one.
        ("`./x` p99 TTFT < 200 ms", "SLO: p99 TTFT < 150 ms\n", UNCLEAR, "unknown"),
        ("`./x` p99 TTFT < 200 ms", "p99 TTFT (expected): 150 ms\n", UNCLEAR, "unknown"),
        ("`./x` p99 TTFT < 200 ms", "p99 TTFT must be 150 ms or less\n", UNCLEAR, "unknown"),
        ("`./x` p99 TTFT < 200 ms", '{"limits": {"p99_ttft_ms": 150}}', UNCLEAR, "unknown"),
        ("`./x` p99 TTFT < 200 ms", "p99 TTFT limit: 150 ms\np99 TTFT: 120 ms\n", PASS, "120 ms"),
        ("`./x` p99 TTFT < 200 ms", "p99 TTFT limit: 150 ms\np99 TTFT: 120\n", UNCLEAR, "unknown"),  # no unit
        ("`./x`: busbw ≥ 400 GB/s", "theoretical busbw: 480 GB/s\n", UNCLEAR, "unknown"),
        ("`./x`: busbw ≥ 400 GB/s", "busbw >= 480 GB/s\n", UNCLEAR, "unknown"),
        ("`./x`: busbw ≥ 400 GB/s", "last week busbw was 480 GB/s\n", UNCLEAR, "unknown"),
        ("`./x`: power limit ≥ 700 W", "Power Limit: 700 W\n", PASS, "700 W"),
        # The number of a GPU is no value, and chooses none if each GPU is meant.
        ("`./x`: busbw at least 400 GB/s on every GPU", GPUS, FAIL, "20 GB/s"),
        ("`./x`: busbw at least 400 GB/s on every GPU, from GPU 0 on", GPUS, FAIL, "20 GB/s"),
        ("`./x`: busbw at least 10 GB/s on every GPU", GPUS, PASS, "480 GB/s, 20 GB/s"),
        ("`./x`: busbw of GPU 0 at least 400 GB/s", GPUS, PASS, "480 GB/s"),
        ("`./x`: score at least 5 on every GPU", "GPU 0 score 9\nGPU 1 score 7\n", PASS, "9, 7"),
        ("`./x`: no ECC errors", "GPU 0 ECC errors 0\nGPU 1 ECC errors 0\n", PASS, "not in the output"),
        ("`./x`: no ECC errors", "GPU 0 ECC errors 0\nGPU 1 ECC errors 2\n", FAIL, "in 1 line"),
    ],
)
def test_words(workspace, text, stdout, outcome, measured):
    run = run_with(workspace, stdout, text=text)
    (claim,) = claims_of(workspace.context(text).step, (WrittenCommand("./x", 1),), None)
    gate = gate_of(run, claim)
    assert gate.outcome is outcome, gate
    assert gate.measured.startswith(measured)
    assert outcome is not UNCLEAR or "expect=" in gate.reason


@pytest.mark.parametrize(("used", "outcome"), [("1100", PASS), ("3100", FAIL)])
def test_the_columns_of_nvidia_smi_are_those_of_its_query(workspace, used, outcome):
    text = "GPU memory is back below 2 GiB per GPU (`nvidia-smi --query-gpu=index,memory.used`)"
    span = "nvidia-smi --query-gpu=index,memory.used"
    (claim,) = claims_of(workspace.context(text).step, (WrittenCommand(span, 1),), None)
    gate = gate_of(run_with(workspace, f"0, 900\n1, {used}\n", text=text, command=SMI), claim)
    assert gate.outcome is outcome, gate


@pytest.mark.parametrize(("seconds", "outcome"), [(30, PASS), (59, UNCLEAR), (60, UNCLEAR), (61, FAIL), (62, FAIL)])
def test_a_duration_within_a_second_of_its_bound_is_unclear(workspace, seconds, outcome):
    status = CommandStatus("main", started_utc="2026-01-02T03:00:00Z", exit_code=0)
    status.ended_utc = f"2026-01-02T03:{seconds // 60:02d}:{seconds % 60:02d}Z"
    run = run_with(workspace, commands=[status])
    assert gate_of(run, parse_expect("duration < 60 s")).outcome is outcome


def test_a_file_of_another_run_is_not_judged(workspace):
    import os

    run = run_with(workspace, files={"out.json": {"p99": 1}})
    os.utime(workspace.folder / "out.json", (1, 1))
    gate = gate_of(run, parse_expect("out.json p99 < 2"))
    assert gate.outcome is UNCLEAR and "this run did not write it" in gate.reason


@pytest.mark.parametrize(
    ("expect", "outcome"),
    [
        ("stdout !~ /bad/", UNCLEAR),  # the beginning may have it
        ("stdout !~ /near the end/", FAIL),
        ("stdout ~ /near the end/", PASS),
        ("stdout ~ /first/", UNCLEAR),
        (r"stdout /value (\d+)/ < 10", UNCLEAR),
        (r"stdout /value (\d+)/ < 3", FAIL),
        (r"last stdout /value (\d+)/ < 10", PASS),
        ("stdout last line contains end", PASS),
        ("count /value/ == 1", UNCLEAR),
    ],
)
def test_half_a_log_never_passes(workspace, monkeypatch, expect, outcome):
    monkeypatch.setattr(sources, "READ_BYTES", 64)
    run = run_with(workspace, "first\n" + "x" * 200 + "\nvalue 5\nnear the end\n")
    assert gate_of(run, parse_expect(expect)).outcome is outcome


def test_the_output_of_every_rank_counts(workspace):
    run = run_with(workspace, "agent\n")
    (run.folder / "logs" / "main.rank0.stdout.log").write_text("value 1\n")
    (run.folder / "logs" / "main.rank1.stdout.log").write_text("value 9\n")
    gate = gate_of(run, parse_expect(r"stdout /value (\d+)/ < 5"))
    assert gate.outcome is FAIL and "main.rank1.stdout.log:1" in gate.reason


def test_a_claim_looks_at_the_output_of_its_own_command(workspace):
    commands = [Command("main", ["./a"], "./a"), Command("main2", ["./b"], "./b")]
    run = workspace.run(workspace.context("x"), commands=commands, telemetry=False)
    (run.folder / "logs" / "main.stdout.log").write_text("noise\n")
    (run.folder / "logs" / "main2.stdout.log").write_text("")
    empty = [Criterion("prints nothing", StatedBy.WORDS, "stdout", "empty", command=position) for position in (0, 1)]
    assert [gate.outcome for gate in criteria_gates(run, empty)] == [FAIL, PASS]


def test_output_of_any_bytes_gives_gates(workspace):
    run = run_with(workspace)
    log = run.folder / "logs" / "main.stdout.log"
    criteria = [parse_expect(r"stdout /p99 (\S+)/ < 3"), parse_expect("stdout a.b < 3"), parse_expect("stdout ~ /x/")]
    criteria += claims_of(workspace.context("`./x` p99 < 3 ms, no errors").step, (WrittenCommand("./x", 1),), None)
    for data in (
        b"\xff\xfe p99 \xf0",
        b"\0\0\0",
        b"p99 1e999 ms\n",
        b"{",
        b"[" * 500,
        b"p99 = ,\r\r\n",
        b"\x1b[31mp99",
    ):
        log.write_bytes(data)
        assert Outcome.PASS not in [gate.outcome for gate in criteria_gates(run, criteria[:4])]


@pytest.mark.parametrize(
    ("text", "stdout", "outcome"),
    [
        ("`./kube nodes` shows `Ready`", "node1 NotReady\n", FAIL),
        ("`./kube nodes` shows `Ready`", "node1 not Ready\n", FAIL),
        ("`./kube nodes` shows `Ready`", "node1 Ready\n", PASS),
        ("`./health` prints `OK`", "NOT OK\n", FAIL),
        ("`./health` prints `OK`", "[OK]\n", PASS),
        ("All nodes are `Ready`: `./kube nodes`", "NAME STATUS\nn1 Ready\nn2 Ready\n", PASS),
        ("All nodes are `Ready`: `./kube nodes`", "NAME STATUS\nn1 Ready\nn2 NotReady\n", FAIL),
        ("All nodes are `Ready`: `./kube nodes`", "Nodes:\nn1 Ready\nn2 Ready\n", UNCLEAR),
        ("All nodes are `Ready`: `./kube nodes`", "n1 down\nn2 down\n", FAIL),
        ("All nodes are `Ready`: `./kube nodes`", "", UNCLEAR),
    ],
)
def test_a_word_counts_only_where_it_stands_alone_and_for_all(workspace, text, stdout, outcome):
    command = "./kube nodes" if "kube" in text else "./health"
    step = workspace.context(text).step
    (criterion,) = claims_of(step, (WrittenCommand(command, 1),), None)
    gate = gate_of(run_with(workspace, stdout, text=text, command=Command("main", [command], command)), criterion)
    assert gate.outcome is outcome, gate.reason


@pytest.mark.parametrize(
    ("command", "judged"),
    [("curl -s localhost:8000/health", False), ("curl -fsS localhost:8000/health", True), ("curl --fail x", True)],
)
def test_curl_without_fail_proves_nothing_by_its_exit_code(workspace, command, judged):
    step = workspace.context(f"Run `{command}`").step
    found = claims_of(step, (WrittenCommand(command, 1),), None)
    assert [bool(one.unreadable) for one in found] == ([] if judged else [True])


@pytest.mark.parametrize(
    ("printed", "outcome"),
    [("192\n", PASS), ("96\n", FAIL), ("192 cores\n", UNCLEAR), ("192\n192\n", UNCLEAR), ("", UNCLEAR)],
)
def test_the_only_number_that_a_command_prints_is_the_value(workspace, printed, outcome):
    run = run_with(workspace, printed)
    assert gate_of(run, Criterion("== 192", StatedBy.WORDS, "output", "==", 192.0, which="one")).outcome is outcome


@pytest.mark.parametrize("command", ["systemctl is-active x", "ping -c 1 peer", "nvidia-smi"])
def test_a_command_whose_exit_code_answers_needs_no_more(command, workspace):
    context = workspace.context(f"The service is running: `{command}`")
    assert claims_of(context.step, (WrittenCommand(command, 1),), None) == ()
    context = workspace.context(f"The service is off: `{command}`")
    assert [bool(one.unreadable) for one in claims_of(context.step, (WrittenCommand(command, 1),), None)] == [True]
