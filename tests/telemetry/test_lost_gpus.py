"""All ways in which a GPU dies fail the gate, and all values that no GPU has are unknown instead of shown."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from llmval_tui.telemetry.nvml.plausible import without_placeholders
from llmval_tui.telemetry.sample import GpuSample, Note, Sample
from llmval_tui.telemetry.window_checks import check_telemetry

S = 1_000_000_000
HANDLE = "nvmlDeviceGetHandleByIndex"


def gate(samples, gpus=(0, 1)):
    found = check_telemetry(samples, 1.0, gpus=gpus)
    return next(finding for finding in found if finding.name == "telemetry.gpu_lost")


def recorded(source, clock, passes=12, at=None, then=None):
    """Samples of a source; before pass `at`, `then` changes the fake driver."""
    samples = []
    for number in range(passes):
        if number == at:
            then()
        reading = source.read()
        now = (number + 1) * S
        samples.append(Sample(now, now, gpus=list(reading.gpus), notes=list(reading.notes)))
        clock.step(1)
    return samples


def test_a_healthy_recording_passes(opened, clock, fake):
    source, _ = opened(fake.FakeGpu(0), fake.FakeGpu(1))
    assert gate(recorded(source, clock)).outcome == "pass"


@pytest.mark.parametrize("code", [1, 2, 3, 6, 7, 8, 11, 15, 16, 17, 999])
def test_a_handle_that_is_refused_from_the_start_is_a_lost_gpu(opened, clock, fake, code):
    source, _ = opened(fake.FakeGpu(0), fake.FakeGpu(1), fail={(HANDLE, 1): code})
    found = gate(recorded(source, clock))
    assert (found.outcome, found.measured) == ("fail", "GPU 1 lost")
    assert str(code) in found.reason or "must be reset" in found.reason


@pytest.mark.parametrize("code", [1, 2, 3, 6, 10, 13, 15, 16, 17, 999])
def test_a_gpu_whose_every_call_fails_in_mid_run_is_lost_whatever_the_code(opened, clock, fake, code):
    source, nvml = opened(fake.FakeGpu(0), fake.FakeGpu(1))
    samples = recorded(source, clock, at=5, then=lambda: nvml.fail.update({("*", 1): code}))
    assert gate(samples).outcome == "fail"
    assert samples[-1].gpus[0].power_w == 612.0


def test_a_gpu_that_still_has_a_handle_but_gives_no_reading_is_lost_after_three_passes(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0), fake.FakeGpu(1))
    calls = [name for name in dir(nvml) if name.startswith("nvml") and name not in (HANDLE, "nvmlShutdown")]
    samples = recorded(source, clock, at=5, then=lambda: nvml.fail.update({(name, 1): 999 for name in calls}))
    lost = [any(note.code == "gpu_lost" for note in sample.notes) for sample in samples]
    assert lost == [False] * 7 + [True] * 5
    assert samples[5].gpus[1].energy_j is None, "an old slow value must not be repeated for a silent GPU"


def test_one_pass_without_an_answer_is_not_a_lost_gpu(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0), fake.FakeGpu(1))
    calls = [name for name in dir(nvml) if name.startswith("nvml") and name not in (HANDLE, "nvmlShutdown")]
    nvml.fail |= {(name, 1): 999 for name in calls}
    samples = recorded(source, clock, at=2, then=nvml.fail.clear)
    assert gate(samples).outcome == "pass"
    assert samples[-1].gpus[1].power_w == 612.0


def test_a_gpu_that_this_user_may_not_open_is_undecided(opened, clock, fake):
    source, _ = opened(fake.FakeGpu(0), fake.FakeGpu(1), fail={(HANDLE, 1): 4})
    assert gate(recorded(source, clock)).outcome == "inconclusive"


def test_a_gpu_that_is_not_there_fails_the_run_that_was_to_use_it(opened, clock, fake):
    source, _ = opened(fake.FakeGpu(0), gpus=[0, 1])
    assert gate(recorded(source, clock)).outcome == "fail"


def sample(number, *gpus, notes=()):
    return Sample(number * S, number * S, gpus=list(gpus), notes=list(notes))


FULL = GpuSample(0, uuid="a", power_w=100.0, throttle_reasons=[], processes=[])


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        ([replace(FULL), replace(FULL, index=1, uuid="b")], "pass"),
        ([replace(FULL)], "fail"),  # the driver counts one GPU less
        ([], "fail"),  # NVML could not be started again
        ([replace(FULL), replace(FULL, index=1, uuid="c")], "fail"),  # the indices have moved
        ([replace(FULL), GpuSample(1, uuid="b")], "fail"),  # listed, without any reading
    ],
)
@pytest.mark.parametrize("back", [False, True])
def test_what_a_recording_alone_says(last, outcome, back):
    good = [replace(FULL), replace(FULL, index=1, uuid="b")]
    samples = [sample(number, *good) for number in range(1, 10)] + [sample(n, *last) for n in range(10, 14)]
    silent = bool(last) and last[-1].power_w is None
    if back:  # a GPU that was away and came back was lost too; one that was silent for a while was not
        samples += [sample(number, *good) for number in range(14, 18)]
    assert gate(samples).outcome == ("pass" if silent and back else outcome)


def test_the_note_of_a_lost_gpu_is_the_reason():
    samples = [sample(n, FULL, replace(FULL, index=1), notes=[Note("nvml", "gpu_lost", "XID 79", 1)]) for n in (1, 2)]
    assert gate(samples).reason == "XID 79"


PLACEHOLDERS = [
    ("power_w", 0xFFFFFFFF / 1000), ("power_instant_w", 0xFFFFFFFF / 1000), ("power_limit_w", 4294967.295),
    ("power_w", -1), ("sm_util_percent", -1), ("sm_util_percent", 1e18), ("sm_util_percent", 0xFFFFFFFF),
    ("tensor_util_percent", 1e18), ("dram_util_percent", -1.0), ("sm_occupancy_percent", float("nan")),
    ("energy_j", 0xFFFFFFFF / 1000), ("energy_j", 0xFFFFFFFFFFFFFFFF / 1000), ("temperature_c", 0xFFFFFFFF),
    ("temperature_c", 255), ("sm_clock_mhz", 0xFFFFFFFF), ("memory_clock_mhz", 0xFFFFFFFF),
    ("nvlink_tx_gb_per_s", 1e18), ("nvlink_rx_gb_per_s", -3.0), ("pcie_tx_gb_per_s", 1.8e13),
    ("memory_used_bytes", 0xFFFFFFFFFFFFFFFF), ("memory_total_bytes", 0),
    ("throttle_reasons", [f"bit_{number}" for number in range(64)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), PLACEHOLDERS)
def test_a_placeholder_is_unknown_with_a_note(name, value):
    kept, refused = without_placeholders({name: value, "power_w": 600.0} if name != "power_w" else {name: value})
    assert kept[name] is None and list(refused) == [name]


@pytest.mark.parametrize(
    "values",
    [
        {"power_w": 0.0, "sm_util_percent": 100.0, "dram_util_percent": 0},
        {"power_w": 1200.0, "power_limit_w": 1400.0, "temperature_c": 104, "sm_clock_mhz": 2600},
        {"memory_used_bytes": 0, "memory_total_bytes": 288 << 30, "energy_j": 5e10, "energy_mono_ns": 1},
        {"throttle_reasons": [], "nvlink_tx_gb_per_s": 1800.0, "processes": []},
    ],
)
def test_values_of_real_gpus_are_kept(values):
    assert without_placeholders(values) == (values, {})


class LibraryMismatch(Exception):
    """As the binding's NVMLLibraryMismatchError, which is not an NVMLError."""


@pytest.mark.parametrize("error", [LibraryMismatch(), TypeError("v2"), AttributeError("x"), OverflowError("too large")])
@pytest.mark.parametrize("function", ["nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetMemoryInfo"])
def test_an_exception_of_the_binding_is_a_missing_value(opened, clock, fake, monkeypatch, error, function):
    source, nvml = opened(fake.FakeGpu(0), fake.FakeGpu(1))
    nvml.NVMLLibraryMismatchError = LibraryMismatch

    def fails(*arguments, **named):
        raise error

    monkeypatch.setattr(nvml, function, fails)
    samples = recorded(source, clock)
    assert gate(samples).outcome == "pass"
    first = samples[-1].gpus[0]
    assert first.power_w == 612.0
    assert None in (first.processes, first.memory_used_bytes)
    source.inventory()


@pytest.mark.parametrize("count", [-1, 0xFFFFFFFF])
def test_a_number_of_gpus_that_no_host_has_is_a_note(opened, fake, count):
    source, nvml = opened(fake.FakeGpu(0))
    nvml.nvmlDeviceGetCount = lambda: count
    source.open()
    reading = source.read()
    assert reading.gpus == [] and "nvmlDeviceGetCount" in reading.notes[0].message


def test_placeholders_of_the_driver_are_null_in_the_sample(opened, clock, fake, monkeypatch):
    source, nvml = opened(fake.FakeGpu(0, gpm=False), fake.FakeGpu(1))
    monkeypatch.setattr(nvml, "nvmlDeviceGetPowerUsage", lambda handle: 0xFFFFFFFF if handle.index == 0 else 612_000)
    monkeypatch.setattr(nvml, "nvmlDeviceGetEnforcedPowerLimit", lambda handle: 0xFFFFFFFF)
    monkeypatch.setattr(nvml, "nvmlDeviceGetMemoryInfo", lambda handle, version=None: SimpleNamespace(used=0, total=0))
    monkeypatch.setattr(nvml, "nvmlDeviceGetUtilizationRates", lambda handle: SimpleNamespace(gpu=-1, memory=-1))
    nvml.gpus[0].nvlink_kib[:] = [0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF]
    nvml.gpus[0].energy_mj = 0xFFFFFFFFFFFFFFFF
    for _ in range(2):
        reading = source.read()
        clock.step(0.4)  # the slow readings are repeated, and their note with them
    first, second = reading.gpus
    assert (first.power_w, first.memory_used_bytes, first.memory_total_bytes) == (None, None, None)
    assert (first.sm_util_percent, first.sm_util_source, first.energy_j, first.nvlink_tx_gb_per_s) == (None,) * 4
    assert second.power_w == 612.0 and second.power_limit_w is None
    notes = {note.gpu: note.message for note in reading.notes if note.code == "implausible"}
    assert all(word in notes[0] for word in ("power_w 4.29497e+06 W", "sm_util_percent -1 %", "NVLink", "energy_j"))
    assert "power_limit_w" in notes[1] and "power_w" not in notes[1]
    gpus = source.inventory()["gpus"]
    assert gpus[0]["power_limit_w"] is None and gpus[0]["memory_total_bytes"] is None
