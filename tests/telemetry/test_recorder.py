"""The recorder as a process, and the host source."""

import resource
import signal
import subprocess
import sys

import pytest

from llmval_tui.foundation.process import Identity
from llmval_tui.telemetry.host import HostSource
from llmval_tui.telemetry.recording import load
from llmval_tui.telemetry.sample import Sample
from tests.helpers.processes import until

RECORDER = [sys.executable, "-m", "llmval_tui.telemetry.recorder", "--sources", "host"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_records_whole_lines_and_ends_cleanly_on_a_signal(tmp_path, number):
    path = tmp_path / "telemetry.jsonl"
    path.write_bytes(b'{"t_ns": 1, "mono')  # what a killed recorder left
    process = subprocess.Popen([*RECORDER, "--out", path, "--interval", "0.05", "--folder", tmp_path])
    until(lambda: len(load(path)) >= 3)
    process.send_signal(number)
    assert process.wait(120) == 0
    first, *lines = path.read_bytes().splitlines()
    samples = [Sample.from_line(line) for line in lines]
    assert Sample.from_line(first) is None and None not in samples
    assert path.read_bytes().endswith(b"\n")
    assert samples[0].host.cpu_percent is None and samples[-1].host.cpu_percent is not None
    assert samples[-1].host.disk_free_bytes > 0
    grid = [(sample.mono_ns - samples[0].mono_ns) / 50_000_000 for sample in samples]
    # No burst: after a late sample the next one may come on time, but the missed ones are not made up.
    assert all(third - first > 0.5 for first, third in zip(grid, grid[2:], strict=False))


def test_it_ends_when_nobody_reads_its_output():
    process = subprocess.Popen([*RECORDER, "--out", "-", "--interval", "0.05"], stdout=subprocess.PIPE)
    assert Sample.from_line(process.stdout.readline()) is not None
    process.stdout.close()
    assert process.wait(120) == 0


def test_it_ends_when_its_parent_dies(tmp_path):
    path = tmp_path / "telemetry.jsonl"
    starter = "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", starter, *RECORDER, "--out", path, "--interval", "0.1"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE)
    recorder = int(parent.stdout.readline())
    until(lambda: load(path))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: Identity.of(recorder) is None)


def test_a_file_that_takes_no_more_keeps_its_whole_lines(tmp_path):
    path = tmp_path / "telemetry.jsonl"
    done = subprocess.run(
        [*RECORDER, "--out", path, "--interval", "0.01"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1 and b"cannot be written" in done.stderr and done.stderr.count(b"\n") == 1
    data = path.read_bytes()
    assert data.endswith(b"\n") and all(Sample.from_line(line) for line in data.splitlines())


def test_a_full_disk_is_named():
    done = subprocess.run([*RECORDER, "--out", "/dev/full"], capture_output=True, timeout=120, check=False)
    assert done.returncode == 1 and b"the disk is full" in done.stderr


def test_it_replays_in_the_recordings_rhythm(tmp_path, synthetic):
    recorded, out = tmp_path / "recorded.jsonl", tmp_path / "out.jsonl"
    synthetic.write(recorded, 2, 5)
    command = [*RECORDER, "--replay", recorded, "--speed", "50"]
    assert subprocess.run([*command, "--out", out], timeout=120, check=False).returncode == 0
    played = load(out)
    assert [sample.gpus[0].power_w for sample in played] == [sample.gpus[0].power_w for sample in load(recorded)]
    assert played[1].mono_ns - played[0].mono_ns == 20_000_000


@pytest.mark.parametrize(
    "arguments",
    [["--replay", "missing"], ["--replay", "/dev/null"], ["--sources", "nvml,x"], ["--gpus", "a"], ["--interval", "0"],
     ["--replay", "empty"]],
)  # fmt: skip
def test_bad_arguments_are_refused_in_words(tmp_path, arguments):
    (tmp_path / "empty").write_bytes(b"")
    done = subprocess.run(
        [*RECORDER, "--out", "out", *arguments], cwd=tmp_path, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 2 and b"Traceback" not in done.stderr and done.stderr


def test_it_starts_light():
    code = (
        "import sys, llmval_tui.telemetry.recorder, llmval_tui.telemetry.nvml.source; "
        "import llmval_tui.telemetry.window_checks; "
        "print([name for name in ('textual', 'rich', 'torch', 'pynvml', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_host_rates_and_a_folder_that_is_gone(tmp_path):
    source = HostSource(tmp_path / "gone")
    source.open()
    first = source.read()
    assert first.host.cpu_percent is None and first.host.network_tx_mb_per_s is None
    assert [note.code for note in first.notes] == ["read_failed"] and "disk" in first.notes[0].message
    assert first.host.memory_total_bytes > first.host.memory_used_bytes > 0
    assert source.read().host.cpu_percent is not None
