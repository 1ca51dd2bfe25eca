"""NVML through a fake binding: the source and interval of each reading, and the notes on failures."""

import inspect
import math
import sys
from pathlib import Path

import pytest

import llmval_tui.telemetry as telemetry
from llmval_tui.telemetry.nvml.calls import throttle_names
from llmval_tui.telemetry.nvml.source import NvmlSource, gpu_count

ROOM = Path(telemetry.__file__).parent


def codes(reading):
    return {note.code for note in reading.notes}


def test_the_table_of_processes_has_the_memory_of_each(opened, clock, fake):
    source, _ = opened(fake.FakeGpu(0, pids=[2**22 + 5]), fake.FakeGpu(1, pids=[]))
    (one,) = source.read().processes
    assert (one.gpu, one.pid, one.gpu_memory_bytes, one.command) == (0, 2**22 + 5, 70 << 30, None)
    assert source.read().processes is None  # not again so soon


def test_hopper_reads_gpm_with_units(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0, nvlink_mib_per_s=1000.0, pids=[7, 7, 5]))
    first = source.read().gpus[0]
    assert first.sm_util_percent is None and first.nvlink_tx_gb_per_s is None  # no interval before it
    assert first.power_w == 612.0
    clock.step(1)
    gpu = source.read().gpus[0]
    assert (gpu.sm_util_percent, gpu.sm_util_source, gpu.tensor_util_percent) == (87.5, "gpm", 55.0)
    assert (gpu.sm_occupancy_percent, gpu.dram_util_percent) == (30.0, 70.0)
    assert gpu.nvlink_rx_gb_per_s == pytest.approx(1.048576)
    assert gpu.nvlink_tx_gb_per_s == pytest.approx(2.097152)
    assert gpu.pcie_tx_gb_per_s == pytest.approx(0.1048576)
    assert gpu.pcie_rx_gb_per_s == pytest.approx(0.2097152)
    assert (gpu.power_w, gpu.power_instant_w, gpu.power_limit_w) == (612.0, 630.0, 700.0)
    assert (gpu.energy_j, gpu.energy_mono_ns) == (5000.0, clock.now_ns)
    assert (gpu.temperature_c, gpu.sm_clock_mhz, gpu.memory_clock_mhz) == (61, 1980, 3201)
    assert (gpu.memory_used_bytes, gpu.memory_total_bytes) == (12 << 30, 141 << 30)
    assert gpu.throttle_reasons == ["sw_power_cap"]
    assert gpu.processes == [5, 7]
    assert source.read().notes == []
    assert "nvmlDeviceGetUtilizationRates" not in nvml.calls


def test_ampere_falls_back_to_fields_and_plain_utilisation(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0, gpm=False))
    nvml.gpus[0].nvlink_kib = [1000, 2000]
    assert source.read().gpus[0].nvlink_tx_gb_per_s is None
    clock.step(2)
    nvml.gpus[0].nvlink_kib = [1000 + 2 * 10**6, 2000 + 4 * 10**6]
    reading = source.read()
    gpu = reading.gpus[0]
    assert gpu.nvlink_tx_gb_per_s == pytest.approx(1.024)  # 1e6 KiB/s
    assert gpu.nvlink_rx_gb_per_s == pytest.approx(2.048)
    assert (gpu.sm_util_percent, gpu.sm_util_source) == (87, "nvml")
    assert gpu.tensor_util_percent is None and gpu.pcie_tx_gb_per_s is None
    assert codes(reading) == {"gpm_missing"}


def test_counters_that_fall_and_time_that_stands_give_no_rate(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0, gpm=False), slow_interval_s=0.0)
    nvml.gpus[0].nvlink_kib = [10**9, 10**9]
    source.read()
    assert source.read().gpus[0].nvlink_tx_gb_per_s is None  # the same time
    clock.step(1)
    nvml.gpus[0].nvlink_kib = [5, 10**9 + 1000]
    gpu = source.read().gpus[0]
    assert gpu.nvlink_tx_gb_per_s is None  # reset, neither negative nor guessed
    assert gpu.nvlink_rx_gb_per_s == pytest.approx(1000 * 1024 / 1e9)
    clock.step(1)
    nvml.gpus[0].nvlink_kib[0] += 2000
    assert source.read().gpus[0].nvlink_tx_gb_per_s == pytest.approx(2000 * 1024 / 1e9)


def test_gpm_at_one_instant_and_numbers_that_are_none(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0))
    source.read()
    clock.step(1)
    before = source.read().gpus[0]
    nvml.gpus[0].sm_util = 1.0
    assert source.read().gpus[0].sm_util_percent == before.sm_util_percent
    clock.step(1)
    nvml.gpus[0].nvlink_mib_per_s = math.nan
    gpu = source.read().gpus[0]
    assert gpu.sm_util_percent == 1.0 and gpu.nvlink_tx_gb_per_s is None


def test_slow_readings_keep_their_own_interval(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0), slow_interval_s=1.0)
    stamps = []
    for _ in range(30):
        nvml.gpus[0].energy_mj += 100
        stamps.append(source.read().gpus[0].energy_mono_ns)
        clock.step(0.1)
    assert nvml.calls.count("nvmlDeviceGetPowerUsage") == 30
    assert nvml.calls.count("nvmlDeviceGetTotalEnergyConsumption") in (3, 4)
    assert len(set(stamps)) in (3, 4) and None not in stamps  # the repeated value has its own time


def test_a_slow_reading_at_one_second_is_made_in_every_pass_of_a_jittery_second(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0), slow_interval_s=1.0)
    for number in range(10):
        source.read()
        clock.step(0.995 if number % 2 else 1.005)
    assert nvml.calls.count("nvmlDeviceGetTotalEnergyConsumption") == 10


def test_the_energy_counter_is_read_more_rarely_and_has_its_age(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0), slow_interval_s=1.0, energy_interval_s=5.0)
    for tick in range(101):  # ten seconds, of passes that come early and late
        nvml.gpus[0].energy_mj = 1000 * tick
        gpu = source.read().gpus[0]
        age_s = (clock.now_ns - gpu.energy_mono_ns) / 1e9
        assert 0 <= age_s < 5 and gpu.energy_j == pytest.approx(tick - age_s / 0.1, abs=0.5), "the value of that time"
        clock.step(0.099 if tick % 2 else 0.101)
    assert nvml.calls.count("nvmlDeviceGetTotalEnergyConsumption") == 3
    assert nvml.calls.count("nvmlDeviceGetComputeRunningProcesses") in (10, 11), "the other slow readings go on"


def test_mig_lists_its_missing_readings(opened, clock, fake):
    source, _ = opened(fake.FakeGpu(0, mig=True, gpm=False), fake.FakeGpu(1))
    source.read()
    reading = source.read()
    assert reading.gpus[0].sm_util_percent is None and reading.gpus[0].power_w == 612.0
    message = next(note.message for note in reading.notes if note.code == "mig")
    assert "utilisation" in message and "not_supported" not in codes(reading)
    assert {note.gpu for note in reading.notes} == {0}


def test_a_gpu_lost_in_mid_run_stays_listed_and_is_never_touched_again(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0), fake.FakeGpu(1))
    source.read()
    clock.step(1)
    nvml.fail["*", 1] = 15
    reading = source.read()
    lost = reading.gpus[1]
    assert (lost.index, lost.uuid, lost.name) == (1, "GPU-1", "NVIDIA H200")
    values = [getattr(lost, name) for name in lost.__dataclass_fields__ if name not in ("index", "uuid", "name")]
    assert values == [None] * len(values)
    assert [(note.code, note.gpu) for note in reading.notes] == [("gpu_lost", 1)]
    assert reading.gpus[0].power_w == 612.0
    nvml.calls.clear()
    clock.step(1)
    nvml.fail.clear()
    again = source.read()
    assert again.gpus[1].power_w is None and nvml.calls.count("nvmlDeviceGetPowerUsage") == 1


def test_a_gpu_lost_before_the_start(opened, fake):
    source, _ = opened(fake.FakeGpu(0), fake.FakeGpu(1), fail={("nvmlDeviceGetHandleByIndex", 0): 15})
    reading = source.read()
    assert [gpu.index for gpu in reading.gpus] == [0, 1] and reading.gpus[0].power_w is None
    assert reading.gpus[1].power_w == 612.0 and codes(reading) == {"gpu_lost"}
    assert source.inventory()["topology"]["links"] == [["X", None], [None, "X"]]


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (18, "version_mismatch", "restart"),
        (9, "no_driver", "No NVIDIA driver"),
        (12, "no_driver", "No NVIDIA driver"),
        (4, "no_permission", "/dev/nvidia"),
        (999, "read_failed", "999"),
    ],
)
def test_each_failure_at_the_start_has_its_own_message(opened, fake, number, code, word):
    source, nvml = opened(fake.FakeGpu(0), fail={("nvmlInit", None): number})
    reading = source.read()
    assert reading.gpus == [] and [note.code for note in reading.notes] == [code]
    assert word in reading.notes[0].message
    inventory = source.inventory()
    assert inventory["gpus"] == []
    assert inventory["no_driver"] == (code == "no_driver")  # a driver that cannot be asked is not "none"
    assert gpu_count() is None and nvml.open_count == 0


def test_a_missing_library_beside_a_loaded_driver_names_the_container(opened, fake, monkeypatch, tmp_path):
    loaded = tmp_path / "version"
    loaded.touch()
    monkeypatch.setattr("llmval_tui.telemetry.nvml.source._KERNEL_DRIVER", loaded)
    source, _ = opened(fail={("nvmlInit", None): 12})
    assert [note.code for note in source.read().notes] == ["library_not_found"]


def test_a_missing_binding_and_no_gpu(opened, monkeypatch):
    source, _ = opened()
    assert codes(source.read()) == {"no_gpu"} and gpu_count() == 0
    monkeypatch.setitem(sys.modules, "pynvml", None)
    source = NvmlSource()
    source.open()
    assert codes(source.read()) == {"no_binding"} and gpu_count() is None


def test_no_permission_for_processes_and_xids_leaves_the_rest(opened, clock, fake):
    refused = {("nvmlDeviceGetComputeRunningProcesses", 0): 4, ("nvmlDeviceRegisterEvents", 0): 4}
    source, _ = opened(fake.FakeGpu(0, pids=[3]), fail=refused)
    source.read()
    clock.step(1)
    reading = source.read()
    assert reading.gpus[0].processes is None and reading.gpus[0].sm_util_percent == 87.5
    assert codes(reading) == {"no_permission", "xid_unavailable"}
    assert "compute processes" in next(note.message for note in reading.notes if note.code == "no_permission")


def test_a_passing_failure_is_noted_once_and_tried_again(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0))
    nvml.fail["nvmlDeviceGetTemperature", 0] = 999
    reading = source.read()
    assert reading.gpus[0].temperature_c is None and reading.gpus[0].power_w == 612.0
    assert codes(reading) == {"read_failed"}
    nvml.fail.clear()
    clock.step(1)
    reading = source.read()
    assert reading.gpus[0].temperature_c == 61 and reading.notes == []


def test_a_slow_reading_that_fails_is_not_replaced_by_its_old_value(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0))
    source.read()
    nvml.fail["nvmlDeviceGetTotalEnergyConsumption", 0] = 999
    clock.step(1)
    assert source.read().gpus[0].energy_j is None
    clock.step(0.1)
    assert source.read().gpus[0].energy_j is None


def test_missing_readings_of_a_gpu_are_one_note(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0, links=0), fail={("nvmlDeviceGetTotalEnergyConsumption", 0): 3})
    for _ in range(3):
        reading = source.read()
        clock.step(1)
    assert [note.code for note in reading.notes] == ["not_supported"]
    assert "energy counter, NVLink traffic" in reading.notes[0].message
    assert reading.gpus[0].nvlink_tx_gb_per_s is None
    assert nvml.calls.count("nvmlDeviceGetTotalEnergyConsumption") == 1  # not tried again after a refusal


def test_gpm_refused_in_mid_run_falls_back(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0))
    nvml.fail["nvmlGpmSampleGet", 0] = 4
    reading = source.read()
    assert reading.gpus[0].sm_util_source == "nvml" and codes(reading) == {"gpm_missing"}
    assert "may not" in reading.notes[0].message


def test_an_older_driver_has_throttling_under_its_old_name(opened, fake):
    source, _ = opened(fake.FakeGpu(0, throttle=0x88), fail={("nvmlDeviceGetCurrentClocksEventReasons", 0): 13})
    assert source.read().gpus[0].throttle_reasons == ["hw_slowdown", "hw_power_brake"]


def test_throttle_names():
    assert throttle_names(0) == []
    assert throttle_names(0x61) == ["gpu_idle", "sw_thermal_slowdown", "hw_thermal_slowdown"]
    assert throttle_names(1 << 20) == ["bit_20"]


def test_the_newest_xid_stays_with_its_gpu(opened, clock, fake):
    source, nvml = opened(fake.FakeGpu(0), fake.FakeGpu(1))
    assert source.read().gpus[1].xid is None
    nvml.xids += [(1, 31), (1, 79)]
    assert [gpu.xid for gpu in source.read().gpus] == [None, 79]
    nvml.fail["*", 1] = 15
    clock.step(1)
    assert [gpu.xid for gpu in source.read().gpus] == [None, 79]


def test_chosen_gpus_and_one_that_is_not_there(opened, fake):
    source, _ = opened(fake.FakeGpu(0), fake.FakeGpu(1), gpus=[1, 9])
    reading = source.read()
    assert [gpu.index for gpu in reading.gpus] == [1, 9]
    assert [(note.code, note.gpu) for note in reading.notes] == [("gpu_not_found", 9)]


def test_foreign_processes_on_a_gpu_are_recognised(opened, fake):
    source, _ = opened(fake.FakeGpu(0, pids=[10, 11]), is_foreign=lambda pid: pid == 11)
    assert source.read().gpus[0].foreign_processes == [11]


def test_inventory_and_topology(opened, fake):
    gpus = [fake.FakeGpu(index) for index in range(5)]
    gpus[1].links = 0
    gpus[2].remote, gpus[3].remote = gpus[3].bus_id, gpus[2].bus_id
    gpus[3].links = gpus[2].links = 4
    source, nvml = opened(*gpus)
    value = source.inventory()
    assert (value["driver_version"], value["cuda_driver_version"], value["gpu_count"]) == ("580.159.04", "13.0", 5)
    first = value["gpus"][0]
    assert (first["compute_capability"], first["power_limit_max_w"], first["numa_node"]) == ("9.0", 700.0, 0)
    assert (first["pci_bus_id"], first["mig_enabled"]) == ("00000000:01:00.0", False)
    assert (first["nvlink_links"], first["nvlink_links_active"], first["nvlink_remote"]) == (18, 18, {"switch": 18})
    assert first["nvlink_states"] == ["active"] * 18
    assert value["gpus"][1]["nvlink_links_active"] == 0
    assert value["topology"]["links"][0] == ["X", "PXB", "PXB", "PXB", "NV18"]
    assert value["topology"]["links"][2] == ["PXB", "PXB", "X", "NV4", "SYS"]
    assert value["topology"]["p2p"][0][4] == "ok"
    assert gpu_count() == 5
    source.close()
    assert nvml.open_count == 0


def test_each_links_state_is_listed(opened, fake):
    gpus = [fake.FakeGpu(index, links=4) for index in range(3)]
    gpus[0].down, gpus[1].untold, gpus[2].untold = {2}, {1}, {0, 1, 2, 3}
    source, _ = opened(*gpus)
    found = source.inventory()["gpus"]
    assert [gpu["nvlink_states"] for gpu in found] == [
        ["active", "active", "inactive", "active"],
        ["active", "not supported", "active", "active"],
        [],
    ]
    assert [(gpu["nvlink_links"], gpu["nvlink_links_active"]) for gpu in found] == [(4, 3), (4, 3), (0, 0)]


def test_the_fake_has_only_what_the_binding_has(fake):
    real = pytest.importorskip("pynvml")
    for name, function in inspect.getmembers(fake.FakeNvml, inspect.isfunction):
        if name.startswith("nvml"):
            ours = list(inspect.signature(function).parameters)[1:]
            assert ours == list(inspect.signature(getattr(real, name)).parameters), name
    metric_fields = {name for name, _ in real.c_nvmlGpmMetric_t._fields_}
    assert {"metricId", "nvmlReturn", "value"} <= metric_fields
    request = real.c_nvmlGpmMetricsGet_t()
    request.version, request.numMetrics, request.metrics[7].metricId = 1, 8, 61
    assert (real.NVML_GPM_METRICS_GET_VERSION, real.nvmlMemory_v2) == (1, 0x02000028)
    assert (real.NVML_GPM_METRIC_SM_UTIL, real.NVML_GPM_METRIC_SM_OCCUPANCY) == (2, 3)
    assert (real.NVML_GPM_METRIC_ANY_TENSOR_UTIL, real.NVML_GPM_METRIC_DRAM_BW_UTIL) == (5, 10)
    assert (real.NVML_GPM_METRIC_PCIE_TX_PER_SEC, real.NVML_GPM_METRIC_PCIE_RX_PER_SEC) == (20, 21)
    assert (real.NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC, real.NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC) == (60, 61)
    assert (real.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, real.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX) == (138, 139)
    assert real.NVML_FI_DEV_POWER_INSTANT == 186 and real.nvmlEventTypeXidCriticalError == 8


def test_the_blocking_pcie_call_is_nowhere_and_pynvml_is_imported_in_one_place():
    texts = {str(path.relative_to(ROOM)): path.read_text() for path in ROOM.rglob("*.py")}
    assert not [name for name, text in texts.items() if "PcieThroughput" in text]
    assert [name for name, text in texts.items() if "import pynvml" in text.replace('"import pynvml"', "")] == [
        "nvml/source.py"
    ]


@pytest.mark.gpu
def test_a_real_gpu_gives_its_figures():
    if not gpu_count():
        pytest.skip("no NVIDIA GPU here")
    source = NvmlSource()
    source.open()
    source.read()
    import time

    time.sleep(0.5)
    for gpu in source.read().gpus:
        assert gpu.power_w and gpu.memory_total_bytes and gpu.uuid and gpu.throttle_reasons is not None
    source.close()
