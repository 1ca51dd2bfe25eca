"""Differences of a server's counters over a window."""

from llmval_tui.telemetry.engine.window import engine_window
from llmval_tui.telemetry.sample import EngineSample, Sample, ServerProcess, TimeTotal

S = 10**9


def at(second, *, tokens, queue=(0.0, 0.0), cpu=None, engine="vLLM", pids=(1,)):
    processes = None if cpu is None else [ServerProcess(pid, f"p{pid}", cpu, 1) for pid in pids]
    answer = EngineSample(
        "u",
        second * S,
        engine,
        generation_tokens=tokens,
        preemptions=tokens / 10 if tokens is not None else None,
        prefix_cache_queries=100.0 * second,
        prefix_cache_hits=25.0 * second,
        times={"queue": TimeTotal(*queue)},
        processes=processes,
        cpu_s=None if cpu is None else cpu * len(pids),
    )
    return Sample(0, second * S + S // 2, engine=answer)


def test_growth_between_the_answers_around_the_window():
    samples = [
        at(0, tokens=5.0),
        at(1, tokens=10.0, queue=(1.0, 4), cpu=2.0),
        at(2, tokens=20.0),
        at(3, tokens=50.0, queue=(3.0, 14), cpu=5.0),
        at(4, tokens=500.0),
    ]
    window = engine_window(samples, int(1.4 * S), int(2.6 * S))
    assert window.seconds == 2
    assert (window.counts["generation_tokens"], window.counts["preemptions"]) == (40, 4)
    assert window.prefix_hit_percent == 25
    assert window.times["queue"] == TimeTotal(2.0, 10) and window.mean_s("queue") == 0.2
    assert window.mean_s("prefill") is None
    assert window.cores == 1.5 and window.processes[0].cores == 1.5


def test_without_bounds_the_whole_recording_counts():
    window = engine_window([at(0, tokens=1.0), at(1, tokens=2.0), at(1, tokens=2.0), at(5, tokens=9.0)])
    assert (window.seconds, window.counts["generation_tokens"]) == (5, 8)


def test_a_server_that_was_started_again_has_no_differences():
    window = engine_window([at(0, tokens=100.0, queue=(9, 9)), at(1, tokens=3.0), at(2, tokens=200.0, queue=(10, 10))])
    assert window.counts["generation_tokens"] is None and window.times["queue"] is None
    assert "started again" in window.reasons[0]


def test_a_nap_of_the_metrics_does_not_count_as_the_end():
    samples = [at(0, tokens=None, engine=None), at(1, tokens=1.0), at(2, tokens=None, engine=None), at(3, tokens=4.0)]
    window = engine_window(samples)
    assert (window.engine, window.seconds, window.counts["generation_tokens"]) == ("vLLM", 2, 3)


def test_a_server_without_metrics_still_has_its_processes():
    samples = [at(0, tokens=None, engine=None, cpu=1.0), at(2, tokens=None, engine=None, cpu=3.0, pids=(1, 2))]
    window = engine_window(samples)
    assert window.engine is None and window.counts["generation_tokens"] is None
    assert [(load.pid, load.cores) for load in window.processes] == [(2, 1.5), (1, 1.0)]


def test_one_answer_is_not_a_window():
    assert engine_window([]) is None
    assert engine_window([at(1, tokens=1.0), Sample(0, 5)]) is None
