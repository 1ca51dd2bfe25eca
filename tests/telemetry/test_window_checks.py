"""The telemetry gate: what makes a measurement fail, invalid or undecided."""

from dataclasses import replace

import pytest

from llmval_tui.telemetry.sample import GpuSample, Note, Sample
from llmval_tui.telemetry.window_checks import check_telemetry

S = 1_000_000_000


def recording(seconds=20, gpus=2, **values):
    given = {"throttle_reasons": [], "processes": [100], **values}
    return [
        Sample(second * S, second * S, gpus=[GpuSample(index, **given) for index in range(gpus)])
        for second in range(seconds)
    ]


def changed(samples, second, gpu, **values):
    gpus = list(samples[second].gpus)
    gpus[gpu] = replace(gpus[gpu], **values)
    samples[second] = replace(samples[second], gpus=gpus)
    return samples


def outcomes(samples, interval_s=1.0, window=None, own_pids=frozenset({100}), **options):
    found = check_telemetry(samples, interval_s, window, own_pids, **options)
    return {finding.name.removeprefix("telemetry."): finding.outcome for finding in found}


GOOD = dict.fromkeys(("samples", "gpu_lost", "xid", "throttling", "foreign_processes"), "pass")


def test_a_clean_recording_passes_every_gate():
    assert outcomes(recording()) == GOOD


@pytest.mark.parametrize("reason", ["hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake"])
def test_one_throttled_sample_makes_it_invalid(reason):
    samples = changed(recording(), 7, 1, throttle_reasons=[reason])
    assert outcomes(samples) == GOOD | {"throttling": "invalid"}
    assert outcomes(samples, window=(8 * S, 19 * S)) == GOOD
    assert outcomes(samples, gpus={0}) == GOOD
    finding = next(item for item in check_telemetry(samples, 1, None, {100}) if item.outcome == "invalid")
    assert finding.measured == f"GPU 1 {reason} in 1 of 20 samples"


def test_a_power_cap_is_recorded_not_failed():
    samples = recording(throttle_reasons=["sw_power_cap", "gpu_idle"])
    assert outcomes(samples) == GOOD
    measured = next(
        item.measured for item in check_telemetry(samples, 1, None, {100}) if item.name.endswith("throttling")
    )
    assert "GPU 0 sw_power_cap in 20 of 20 samples" in measured


def test_unreadable_throttling_is_undecided():
    assert outcomes(recording(throttle_reasons=None)) == GOOD | {"throttling": "inconclusive"}
    for seconds in (20, 5):
        assert outcomes(changed(recording(seconds), 3, 1, throttle_reasons=None)) == GOOD  # one failed reading


@pytest.mark.parametrize(("field", "gate"), [("throttle_reasons", "throttling"), ("processes", "foreign_processes")])
def test_a_few_known_samples_do_not_decide_a_window(field, gate):
    samples = recording(30)
    for second in range(4, 30):
        changed(samples, second, 1, **{field: None})
        found = next(item for item in check_telemetry(samples, 1, None, {100}) if item.name.endswith(gate))
        assert found.outcome == ("pass" if second < 7 else "inconclusive"), second
    assert found.measured == "GPU 1 known in 4 of 30 samples"
    assert outcomes(samples, window=(0, 3 * S)) == GOOD


@pytest.mark.parametrize(
    ("interval", "gap", "outcome"), [(1, 5, "pass"), (1, 6, "invalid"), (3, 9, "pass"), (3, 10, "invalid")]
)
def test_gaps(interval, gap, outcome):
    samples = recording(30)
    del samples[10 : 9 + gap]
    assert outcomes(samples, interval)["samples"] == outcome


def test_gaps_at_the_edges_of_the_window_and_windows_without_samples():
    samples = recording(20)
    assert outcomes(samples, window=(0, 24 * S))["samples"] == "pass"
    assert outcomes(samples, window=(0, 25 * S))["samples"] == "invalid"
    assert outcomes(samples, window=(-7 * S, 10 * S))["samples"] == "invalid"
    assert outcomes(samples, window=(100 * S, 130 * S))["samples"] == "invalid"
    assert outcomes(samples, window=(3 * S + 1, 4 * S - 1))["samples"] == "pass"  # shorter than the interval
    assert outcomes([]) == {"samples": "inconclusive"}


def test_a_short_window_far_from_every_sample_was_not_watched():
    assert outcomes(recording(20), window=(500 * S, 502 * S))["samples"] == "invalid"


def test_an_xid_fails_whenever_it_was_seen():
    samples = changed(recording(), 1, 0, xid=79)
    assert outcomes(samples, window=(5 * S, 19 * S)) == GOOD | {"xid": "fail"}
    assert outcomes(samples, gpus={1}) == GOOD


def test_xids_that_cannot_be_watched_are_undecided():
    samples = recording()
    samples[-1] = replace(samples[-1], notes=[Note("nvml", "xid_unavailable", "not here", 0)])
    assert outcomes(samples) == GOOD | {"xid": "inconclusive"}


def test_a_lost_gpu_fails_by_its_note_or_by_its_absence():
    noted = recording()
    noted[9] = replace(noted[9], notes=[Note("nvml", "gpu_lost", "gone", 1)])
    assert outcomes(noted) == GOOD | {"gpu_lost": "fail"}
    assert outcomes(noted, gpus={0}) == GOOD
    absent = recording()
    absent[-1] = replace(absent[-1], gpus=absent[-1].gpus[:1])
    assert outcomes(absent)["gpu_lost"] == "fail"
    assert outcomes(recording(gpus=2), gpus={0, 5})["gpu_lost"] == "fail"


def test_foreign_processes():
    samples = changed(recording(), 5, 0, processes=[100, 666])
    assert outcomes(samples) == GOOD | {"foreign_processes": "invalid"}
    assert outcomes(samples, own_pids={100, 666}) == GOOD
    assert outcomes(samples, gpus={1}) == GOOD
    assert outcomes(samples, window=(6 * S, 19 * S)) == GOOD
    assert outcomes(samples, own_pids=None)["foreign_processes"] == "inconclusive"
    assert outcomes(recording(processes=None))["foreign_processes"] == "inconclusive"
    assert outcomes(recording(processes=[]), own_pids=None) == GOOD
    marked = changed(recording(foreign_processes=[]), 5, 0, foreign_processes=[666])
    assert outcomes(marked, own_pids=None)["foreign_processes"] == "invalid"
    assert outcomes(recording(foreign_processes=[]), own_pids=None) == GOOD
    marked[-1] = replace(marked[-1], notes=[Note("nvml", "pid_namespace", "renumbered")])
    assert outcomes(marked, own_pids=None)["foreign_processes"] == "inconclusive"


@pytest.mark.parametrize(
    ("codes", "outcome"),
    [(["no_driver"], "pass"), (["no_gpu"], "pass"), ([], "pass"), (["version_mismatch"], "inconclusive")],
)
def test_no_gpus_at_all(codes, outcome):
    notes = [Note("nvml", code, "words") for code in codes]
    samples = [replace(sample, gpus=[], notes=notes) for sample in recording()]
    assert outcomes(samples) == {"samples": "pass", "gpus": outcome}
