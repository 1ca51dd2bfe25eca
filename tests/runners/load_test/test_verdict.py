"""What a load test says of itself: rates and verdicts when requests do not finish, exit codes, and the last screen."""

import io
import json
from array import array
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llmval_runners.engine.request import Request
from llmval_runners.load_test.generator import Arrival
from llmval_runners.load_test.last_screen import last_screen
from llmval_runners.load_test.metrics import Slo
from llmval_runners.load_test.options import EXIT_CODES, parse, parser
from llmval_runners.load_test.result import Measured, load_test_result, mark_invalid
from llmval_runners.load_test.session import LoadTest
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.placement import Placement

from llmval_tui.actions.judges import load_test as judge
from llmval_tui.actions.judges.load_test_result import LoadResult, metrics_of, result_in
from llmval_tui.runs.records import Outcome

VALID = fastjsonschema.compile(
    json.loads((Path(__file__).parents[3] / "docs/schemas/load_test.schema.json").read_text())
)
IDENTITY = {
    "model": "tiny", "parameters": 1, "weights": "random", "tokenizer": "none", "dtype": "float32",
    "kv_dtype": "float32", "attention_backend": "sdpa", "attention_kernel": "k", "fp8_mode": "none",
    "compile_mode": "off", "tensor_parallel": 1, "device": "cpu", "device_name": "CPU", "torch_version": "2", "seed": 0,
    "shape": dict.fromkeys(("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab"), 1),
}  # fmt: skip
CACHE = {"bytes_per_rank": 1 << 30, "bytes_total": 1 << 30, "tokens": 1, "page_size": 1, "dtype": "float32"}


def request(index: int, due: float, *tokens: float, output: int = 2, late: float = 0.001) -> Request:
    made = Request(index, [1, 2, 3], output, due, due + late, array("d", tokens))
    made.error = "" if len(tokens) == output else "not finished 5 s after the window closed"
    return made


def record(
    sent: list[Request],
    qps: float = 2.0,
    *,
    slo: Slo | None = None,
    duration: float | None = None,
    early: str | None = None,
    planned: int | None = None,
    search: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A record of requests at `qps`; `duration`: the window, which lasts to the last token if None."""
    arrivals = [Arrival(index, index / qps, 3, 2) for index in range(len(sent) if planned is None else planned)]
    last = max((r.token_times[-1] for r in sent if r.token_times), default=0.0)
    window = max(last, len(arrivals) / qps) if duration is None else duration
    workload = {
        "target_qps": qps, "duration_s": len(arrivals) / qps, "burstiness": 1.0, "prompt_len": "fixed:3",
        "output_len": "fixed:2",
        "warmup_requests": 0, "max_in_flight": None, "temperature": 0.0, "seed": 0, "max_batch": 1, "prefill_chunk": 1,
    }  # fmt: skip
    made = load_test_result([Measured(sent, arrivals, window, early)], IDENTITY, workload, CACHE, slo or Slo(), search)
    VALID(json.loads(json.dumps(made)))
    return made


def served(count: int, wait: float = 0.1, qps: float = 2.0) -> list[Request]:
    return [request(i, i / qps, i / qps + wait, i / qps + wait + 0.01) for i in range(count)]


def test_two_of_ten_answered_is_two_in_the_whole_window() -> None:
    sent = [*served(2), *(request(i, i / 2) for i in range(2, 10))]
    made = record(sent, duration=10.0)
    rates = made["llmval"]["rates"]
    assert (rates["offered_qps"], rates["completed_qps"]) == (2.0, 0.2)
    assert made["request_throughput"] == 0.2 and made["output_throughput"] == 0.4
    assert made["llmval"]["verdict"]["word"] == "overloaded"
    found = metrics_of(result_of(made))
    assert (found["offered_qps"], found["completed_qps"]) == (2.0, 0.2)


def test_without_an_answer_no_latency_has_a_value() -> None:
    made = record([request(i, i / 2) for i in range(10)], duration=10.0, slo=Slo(ttft_ms=100))
    latencies = {key: value for key, value in made.items() if key.endswith("_ms")}
    assert len(latencies) == 28 and set(latencies.values()) == {None}
    assert made["ttfts"] == [None] * 10
    assert made["llmval"]["rates"]["completed_qps"] == made["llmval"]["slo_attainment"] == 0.0
    assert "0.00" not in last_screen(made, "none").split("latency")[1].split("service")[0]


def test_a_window_that_never_opened_has_no_rates() -> None:
    made = record([], planned=10, duration=0.0, early="ended by signal 2")
    assert set(made["llmval"]["rates"].values()) == {None}
    assert (made["request_throughput"], made["output_throughput"]) == (None, None)
    assert "n/a" in last_screen(made, "none")


WINDOWS = st.lists(
    st.tuples(st.floats(0.001, 3), st.floats(0, 0.3), st.integers(0, 2)), min_size=2, max_size=40
)  # wait, lateness, tokens of two


def window_of(rows: list[tuple[float, float, int]], qps: float) -> list[Request]:
    sent = []
    for index, (wait, late, tokens) in enumerate(rows):
        due = index / qps
        times = [due + late + wait, due + late + wait + 0.01][:tokens]
        sent.append(request(index, due, *times, late=late))
    return sent


def result_of(made: dict[str, Any]) -> LoadResult:
    found = result_in(json.loads(json.dumps(made)))
    assert found is not None
    return found


@settings(max_examples=60, deadline=None)
@given(WINDOWS, st.floats(0.5, 200), st.booleans())
def test_completed_and_goodput_are_never_above_offered(
    rows: list[tuple[float, float, int]], qps: float, early: bool
) -> None:
    sent = window_of(rows, qps)
    last = max(max(r.dispatch_s, *r.token_times, 0.0) for r in sent)
    made = record(sent, qps, slo=Slo(ttft_ms=500), early="x" if early else None,
                  duration=last if early else max(last, len(sent) / qps))  # fmt: skip
    rates, found = made["llmval"]["rates"], metrics_of(result_of(made))
    for offered, completed, goodput in (
        (rates["offered_qps"], rates["completed_qps"], rates["goodput_qps"]),
        (found["offered_qps"], found["completed_qps"], found["goodput_qps"]),
    ):
        assert offered is not None and completed is not None and goodput is not None
        assert goodput <= completed <= offered * (1 + 1e-6)


@settings(max_examples=60, deadline=None)
@given(WINDOWS, st.sampled_from([Slo(), Slo(ttft_ms=1500), Slo(tpot_ms=11, e2e_ms=4000), Slo(tpot_ms=5)]))
def test_the_runner_and_the_dashboards_judge_agree(rows: list[tuple[float, float, int]], slo: Slo) -> None:
    made = record(window_of(rows, 20.0), 20.0, slo=slo)
    result = result_of(made)
    gates = [
        judge._generator_rate(result),
        judge._schedule_delay(result),
        judge._failed(result),
        judge._kept_up(result),
    ]
    gates += [judge._runner_checks(result), *judge._slos(result)]
    outcomes = {gate.outcome for gate in gates}
    code = made["llmval"]["verdict"]["exit_code"]
    if Outcome.INVALID in outcomes:
        assert code == 3
    elif Outcome.FAIL in outcomes:
        assert code == 1, (made["llmval"]["verdict"], gates)
    else:
        assert code == (3 if Outcome.INCONCLUSIVE in outcomes else 0)
    assert (made["llmval"]["verdict"]["word"] == "overloaded") <= (judge._kept_up(result).outcome is Outcome.FAIL)


def test_a_service_level_is_missed_by_requests_that_failed() -> None:
    sent = [*served(20), *(request(i, i / 2) for i in range(20, 100))]
    made = record(sent, duration=60.0, slo=Slo(ttft_ms=500, tpot_ms=500, e2e_ms=5000))
    assert made["llmval"]["slo_attainment"] == 0.2
    result = result_of(made)
    assert metrics_of(result)["slo_attainment_percent"] == 20.0
    assert metrics_of(result)["goodput_qps"] == pytest.approx(20 / 60)
    gates = judge._slos(result)
    assert [(gate.outcome, gate.measured) for gate in gates] == [(Outcome.FAIL, "80 of 100 requests failed")] * 3


def grown(count: int) -> list[Request]:
    return [request(i, i / 2, i + 0.1, i + 0.11) for i in range(count)]


def test_one_lost_request_in_many_leaves_the_p99() -> None:
    sent = served(200)
    sent[7] = request(7, 3.5)
    gate = judge._slos(result_of(record(sent, slo=Slo(ttft_ms=500))))[0]
    assert (gate.outcome, gate.measured) == (Outcome.PASS, "p99 100.00 ms")


VERDICTS: list[tuple[dict[str, Any], str, int]] = [
    ({"sent": served(10)}, "ok", 0),
    ({"sent": served(10), "slo": Slo(ttft_ms=500)}, "ok", 0),
    ({"sent": served(10), "slo": Slo(ttft_ms=50)}, "failed: service level TTFT: p99 100.0 ms, limit 50 ms", 1),
    ({"sent": grown(20)}, "overloaded: the queue grew", 1),
    ({"sent": [*served(10), request(10, 5.0)]}, "failed: 1 of 11 requests did not finish (not finished 5 s", 1),
    ({"sent": [*served(2), *(request(i, i / 2) for i in range(2, 10))], "duration": 10.0}, "overloaded: the queue", 1),
    ({"sent": served(4)}, "inconclusive: fewer than 8 requests", 3),
    ({"sent": served(5), "planned": 10}, "invalid: only 5 of 10 requests were sent", 3),
    ({"sent": [request(i, i / 2) for i in range(10)]}, "invalid: no request completed", 3),
    ({"sent": served(10), "early": "ended by signal 2"}, "ended early: ended by signal 2", 3),
    ({"sent": served(10), "search": {"outcome": "found", "sentence": "4 hold"}}, "ok: 4 hold", 0),
    ({"sent": served(10), "search": {"outcome": "lowest_fails", "sentence": "none"}}, "not found: none", 1),
    ({"sent": served(10), "search": {"outcome": "unconfirmed", "sentence": "none"}}, "not found: none", 3),
    ({"sent": served(10), "search": {"outcome": "cap_holds", "sentence": "cap"}}, "inconclusive: cap", 3),
    ({"sent": served(10), "search": {"outcome": "generator_limited", "sentence": "slow"}}, "inconclusive: slow", 3),
]


@pytest.mark.parametrize(("case", "text", "code"), VERDICTS, ids=[text for _, text, _ in VERDICTS])
def test_the_verdict_has_a_word_and_an_exit_code(
    case: dict[str, Any], text: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.VALID", lambda value: value)  # a search of the schema has more
    verdict = record(**case)["llmval"]["verdict"]
    assert f"{verdict['word']}: {verdict['reason']}".startswith(text)
    assert verdict["exit_code"] == code
    assert f"{code} " in EXIT_CODES


def test_a_profiled_window_is_not_a_measurement() -> None:
    made = record(served(10))
    mark_invalid(made, "a profiler ran")
    assert made["llmval"]["verdict"] == {"word": "invalid", "reason": "a profiler ran", "exit_code": 3}


def test_help_states_the_exit_codes() -> None:
    assert "3 invalid or inconclusive" in " ".join(parser().format_help().split())


@pytest.mark.parametrize(("flags", "figure"), [
    (["--duration", "1e9", "--target-qps", "1e3"], "1,000,000,000,000 requests"),
    (["--duration", "1e7", "--target-qps", "1"], "10,000,000 requests"),
])  # fmt: skip
def test_a_load_that_memory_cannot_hold_is_refused_with_the_figure(flags: list[str], figure: str) -> None:
    with pytest.raises(Refused, match=figure):
        LoadTest(parse([*flags, "--model", "tiny", "--device", "cpu"]), EventLog(1), Placement())


@pytest.mark.parametrize("partial", [None, "ended by signal 2"])
@pytest.mark.parametrize("sent", [served(10), grown(20), [request(i, i / 2) for i in range(10)], []])
def test_the_last_screen_fits_eighty_columns_and_names_everything(sent: list[Request], partial: str | None) -> None:
    made = record(sent, planned=20, early=partial, slo=Slo(ttft_ms=100, tpot_ms=50))
    made["llmval"]["identity"] = IDENTITY | {"device_name": "NVIDIA H200 with a name that is long enough to be wrapped"}
    made["llmval"] |= {
        "queue": {"most_waiting": 3},
        "memory": {"kv_used_percent": 65.0, "peak_allocated_bytes": 1 << 36},
    }
    made["llmval"]["energy"] = {"joules": 9e4, "power_w": 1500.0, "tokens_per_joule": 0.123, "gpus": 2}
    screen = last_screen(made, "artifacts/load_test.json")
    assert max(map(len, screen.splitlines())) <= 80
    wanted: tuple[str, ...] = (
        "TTFT from schedule",
        "TTFT from dispatch",
        "TPOT",
        "ITL",
        "E2E from schedule",
        "p50",
        "p90",
        "p99",
    )
    wanted += ("goodput", "kept TTFT 100 ms", "in flight", "waiting", "KV cache", "1,500 W", "0.123 output tokens/J")
    wanted += ("tiny, float32", "1 rank", "artifacts/load_test.json", "offered", "achieved", "completed")
    assert [word for word in wanted if word not in screen] == []
    assert screen.index("TTFT from schedule") < screen.index("TTFT from dispatch")
    assert screen.startswith(made["llmval"]["verdict"]["word"])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_fits_the_width_and_leaves_no_rows() -> None:
    terminal = Terminal()
    log = EventLog(0, path="", terminal=terminal)
    for phase in ("load", "measure", "report"):
        log.phase(phase, "a message " * 20)
        log.progress(1, 20, "s")
        log.metrics(dict.fromkeys(("offered_qps", "completed_qps", "output_tokens_per_s", "running", "queued"), 1234.5))
    log.result("x.json", shown=False)
    log.clear()
    written = terminal.getvalue()
    assert "\n" not in written and "x.json" not in written
    lines = written.split("\r\x1b[2K")
    assert max(map(len, lines)) < 80 and lines[-1] == "", "the last thing left is an empty line"
