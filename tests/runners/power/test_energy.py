"""Energy over a window: counter and integral agree, and a broken meter never gives a valid result."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llmval_runners.measure.nvml_meter import NoMeter
from llmval_runners.power import validity
from llmval_runners.power.energy import EnergyRecorder, EnergyWindow, Stopped, describe, integral
from llmval_runners.power.phase import _trial

from tests.helpers.runners.fake_power import FakeMeter, VirtualTime, wave

waves = st.lists(st.tuples(st.floats(0, 80), st.floats(2, 30), st.floats(0, 6.3)), max_size=4)
curves = st.builds(wave, st.floats(120, 700), waves, st.floats(-2, 2))


def record(meter: FakeMeter, time: VirtualTime, seconds: float = 10.0, **options: object) -> EnergyWindow:
    return EnergyRecorder(meter, len(meter.curves), clock=time.clock, sleep=time.sleep, **options).window(seconds)  # type: ignore[arg-type]


def make(*given_curves, noise: float = 0.0, seed: int = 0) -> tuple[FakeMeter, VirtualTime]:
    time = VirtualTime()
    return FakeMeter(time.clock, *given_curves, noise=noise, seed=seed, spend=time.sleep), time


def reasons(windows: list[EnergyWindow]) -> list[str]:
    trials = [_trial(window, window.seconds * 100, 10) for window in windows]
    missing = next((window.fault for window in windows if window.fault), None)
    return validity.reasons(validity.judge(trials, warmup_s=5.0, energy_missing=missing, finite=True))


@settings(deadline=None)
@given(st.lists(curves, min_size=1, max_size=3), st.floats(0, 0.1), st.integers(0, 999), st.floats(10, 25))
def test_counter_and_integral_agree_on_any_steady_power(load, noise, seed, seconds):
    meter, time = make(*load, noise=noise, seed=seed)
    began = time.now
    window = record(meter, time, seconds)
    assert window.fault is None
    assert window.seconds >= seconds - 1e-6
    assert window.disagreement_percent <= validity.MAX_DISAGREEMENT_PERCENT
    exact = sum(
        meter._integral(gpu, t, t + 0.01) for gpu in range(len(load)) for t in _steps(window.start_s, window.end_s)
    )
    assert window.energy_j == pytest.approx(exact, rel=0.01)
    assert time.now - began < seconds + 0.5, "the window ended too late"


def _steps(start: float, end: float) -> list[float]:
    return [start + 0.01 * n for n in range(int((end - start) / 0.01))]


@settings(deadline=None)
@given(curves, st.sampled_from(["counter", "power"]), st.floats(0.5, 0.85) | st.floats(1.15, 1.6), st.floats(0, 0.03))
def test_a_meter_that_is_wrong_by_more_than_the_bound_is_never_valid(load, which, factor, noise):
    meter, time = make(load, noise=noise)
    setattr(meter, f"{which}_factor", factor)
    assert any("differ by" in reason for reason in reasons([record(meter, time) for _ in range(3)]))


def test_a_counter_reset_within_the_window_has_no_energy():
    meter, time = make(wave(500, []))
    meter.reset_at = 1006.0
    window = record(meter, time)
    assert window.energy_j is None
    assert "went back" in window.fault
    assert any("went back" in reason for reason in reasons([window]))


def test_a_reset_is_noticed_even_if_the_counter_ends_higher_than_it_began():
    meter, time = make(wave(500, []))
    meter._state = [(1000.0, 100.0, 1000.0, 100.0)]  # a driver just loaded: 10 s at 500 W far exceed 100 J
    meter.reset_at = 1003.0
    window = record(meter, time)
    assert window.gpus[0].end[1] > window.gpus[0].start[1]
    assert "went back" in window.fault


def test_a_stuck_counter_and_a_lost_gpu_are_reported():
    meter, time = make(wave(500, []))
    meter.stuck = True
    window = record(meter, time)
    assert "did not move" in window.fault
    assert window.energy_j is None
    meter, time = make(wave(500, []))
    meter.dead_at = 1004.0
    window = record(meter, time)
    assert "lost" in window.fault
    assert window.seconds >= 10


@pytest.mark.parametrize("reason", ["hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake"])
def test_throttling_is_invalid_and_a_power_cap_is_only_recorded(reason):
    meter, time = make(wave(690, []))
    fine = [record(meter, time) for _ in range(3)]
    assert reasons(fine) == []
    assert describe(fine[0])[0]["throttle_share"] == {"sw_power_cap": 1.0}
    meter.throttle = ("sw_power_cap", reason)
    assert any(reason in text for text in reasons([record(meter, time) for _ in range(3)]))


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("utilisation", 70.0, "utilisation"),
        ("utilisation", None, "utilisation"),
        ("throttle", None, "throttle"),
        ("no_power", True, "cross-check"),
    ],
)
def test_unreadable_values_make_a_result_invalid(attribute, value, said):
    meter, time = make(wave(690, []))
    setattr(meter, attribute, value)
    assert any(said in text for text in reasons([record(meter, time) for _ in range(3)]))


@pytest.mark.parametrize(
    ("attribute", "said"), [("utilisation", "GPU utilisation is"), ("throttle", "throttle reasons are")]
)
@pytest.mark.parametrize(("known_every", "enough"), [(50, False), (2, False), (1, True)])
def test_a_few_readings_do_not_represent_a_window(attribute, said, known_every, enough):
    meter, time = make(wave(690, []))
    value, count = getattr(meter, attribute), itertools.count()

    def read(gpu, read=meter.read):
        setattr(meter, attribute, None if next(count) % known_every else value)
        return read(gpu)

    meter.read = read
    windows = [record(meter, time) for _ in range(3)]
    found = reasons(windows)
    assert (found == []) is enough
    assert enough or (len(found) == 1 and found[0].startswith(f"{said} known in ") and " of 101 readings" in found[0])
    gpu = describe(windows[0])[0]
    name = {"utilisation": "utilisation_percent", "throttle": "throttle_share"}[attribute]
    assert gpu["known"] == dict.fromkeys(("utilisation_percent", "throttle_share"), 101) | {
        name: len(range(0, 101, known_every))
    }


def test_without_a_meter_the_window_passes_and_energy_is_absent_not_zero():
    time = VirtualTime()
    window = EnergyRecorder(NoMeter("no NVML here"), 0, clock=time.clock, sleep=time.sleep).window(10)
    assert window.seconds >= 10
    trial = _trial(window, 100, 10)
    assert trial["tokens_per_s"] == pytest.approx(1000 / window.seconds)
    assert trial["energy_j"] is trial["tokens_per_joule"] is trial["power_w"] is None
    assert reasons([window, window, window]) == ["energy is not available: no NVML here"]


def test_a_stop_ends_a_window_at_once():
    meter, time = make(wave(500, []))
    with pytest.raises(Stopped):
        record(meter, time, 60.0, stopped=lambda: time.now > 1003)
    assert time.now < 1004


def test_energy_of_two_gpus_is_summed_and_the_larger_disagreement_counts():
    meter, time = make(wave(300, []), wave(500, []))
    window = record(meter, time)
    assert window.energy_j == pytest.approx(800 * window.seconds, rel=0.005)
    errors = [abs(gpu.integrated_j / gpu.energy_j - 1) * 100 for gpu in window.gpus]
    assert window.disagreement_percent == pytest.approx(max(errors))


def test_integral_by_hand():
    assert integral([(1.0, 100.0), (2.0, 300.0)], 0.5, 2.5) == pytest.approx(50 + 200 + 150)
    assert integral([(1.0, 100.0)], 0.0, 2.0) is None
