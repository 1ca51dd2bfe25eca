"""Where the time goes: the parts add up, and what is not known is called that."""

from typing import Any

import pytest

from llmval_tui.actions.judges.load_test_result import LoadResult
from llmval_tui.actions.request_records import Record
from llmval_tui.actions.yardstick.parts import attribute
from llmval_tui.telemetry.engine.window import EngineWindow, ProcessLoad
from llmval_tui.telemetry.sample import TimeTotal


def result(count: int, late: float, first: float, last: float, **ours: Any) -> LoadResult:
    """Requests one second apart, with times in seconds after the arrival."""
    records = [Record(at, at + late, at + first, at + last, 11, None) for at in map(float, range(count))]
    return LoadResult(records, {}, ours)


def window(count: float = 10, **means: Any) -> EngineWindow:
    times = {name: None if mean is None else TimeTotal(mean * count, count) for name, mean in means.items()}
    processes = (ProcessLoad(7, "APIServer", 1.0), ProcessLoad(8, "EngineCore", 0.4), ProcessLoad(9, "idle", 0.0))
    return EngineWindow("vLLM", 10.0, {"preemptions": 0.0}, times, processes, 1.4)


SERVER = result(10, late=0.010, first=0.3, last=1.010)
OURS = result(10, late=0.001, first=0.051, last=0.401, queue={"mean_wait_s": 0.005})
WHOLE = {"queue": 0.2, "prefill": 0.05, "decode": 0.5, "e2e": 0.9, "inter_token": 0.05}


def test_the_parts_add_up_to_both_totals() -> None:
    found = attribute(SERVER, window(**WHOLE), OURS)
    assert found is not None
    assert [found.server_ms, found.ours_ms] == pytest.approx([1010, 401])
    table = {part.name: (round(part.server_ms or 0, 6), round(part.ours_ms or 0, 6)) for part in found.parts}
    assert table == {
        "generator": (10, 1),
        "scheduler queue": (200, 5),
        "engine: prefill": (50, 45),
        "engine: decode": (500, 350),
        "server's front end: tokenizer, hops": (150, 0),
        "HTTP, streaming, client": (100, 0),
    }
    assert sum(part.gap_ms or 0 for part in found.parts) == pytest.approx(found.gap_ms)
    assert sum(found.share_percent(part) or 0 for part in found.parts) == pytest.approx(100)
    assert found.notes == ()


def test_host_cpu_overlaps_and_names_a_full_core() -> None:
    found = attribute(SERVER, window(**WHOLE), OURS)
    assert found is not None
    assert found.cpu[0] == "1400.0 ms of CPU a request, 1.40 cores in all"
    assert "APIServer (7) 1.00 cores: a full core" in found.cpu[1]
    assert found.cpu[2] == "EngineCore (8) 0.40 cores" and len(found.cpu) == 3


def test_the_pace_of_tokens() -> None:
    found = attribute(SERVER, window(**WHOLE), OURS)
    assert found is not None
    assert (
        found.pace == "a token every 50.00 ms in the server's scheduler, 71.00 ms at the client, 35.00 ms in our engine"
    )


def test_without_the_front_ends_time_the_path_is_one_part() -> None:
    found = attribute(SERVER, window(queue=0.2, prefill=0.05, decode=0.5), OURS)
    assert found is not None
    part = found.parts[-1]
    assert part.name == "HTTP and tokenizer path"
    assert [part.server_ms, part.ours_ms] == pytest.approx([250, 0], abs=1e-9)


def test_what_the_server_does_not_publish_is_unattributed() -> None:
    """SGLang times the queue and the prefill, and no decoding."""
    found = attribute(SERVER, window(queue=0.2, prefill=0.05, decode=None, e2e=0.9), OURS)
    assert found is not None
    part = found.parts[-1]
    assert part.name == "unattributed" and [part.server_ms, part.ours_ms] == pytest.approx([750, 350])
    assert [one.name for one in found.parts] == ["generator", "scheduler queue", "engine: prefill", "unattributed"]


@pytest.mark.parametrize("none", [None, window(), window(e2e=0.9)])
def test_a_server_without_times_leaves_everything_but_the_generator(none: EngineWindow | None) -> None:
    found = attribute(SERVER, none, OURS)
    assert found is not None
    assert [part.name for part in found.parts] == ["generator", "unattributed"]
    assert sum(part.gap_ms or 0 for part in found.parts) == pytest.approx(found.gap_ms)


def test_times_of_other_requests_are_not_used() -> None:
    found = attribute(SERVER, window(count=14, **WHOLE), OURS)
    assert found is not None
    assert [part.name for part in found.parts] == ["generator", "unattributed"]
    assert any("timed 14 requests and the client completed 10" in note for note in found.notes)
    few, many = (attribute(result(n, 0.01, 0.3, 1.01), window(count=n + 1, **WHOLE), OURS) for n in (99, 100))
    assert few is not None and many is not None
    assert (len(few.parts), len(many.parts)) == (2, 6)  # one in a hundred changes no mean


def test_an_older_record_of_ours_without_its_queue() -> None:
    found = attribute(SERVER, window(**WHOLE), result(10, 0.001, 0.051, 0.401))
    assert found is not None
    assert [part.name for part in found.parts] == ["generator", "engine: decode", "unattributed"]
    assert sum(part.gap_ms or 0 for part in found.parts) == pytest.approx(found.gap_ms)


def test_a_small_difference_is_not_taken_apart() -> None:
    found = attribute(OURS, window(**WHOLE), OURS)
    assert found is not None and found.gap_ms == 0
    assert all(found.share_percent(part) is None for part in found.parts)


def test_requests_that_failed_are_in_no_part_and_named() -> None:
    some = LoadResult(
        [*SERVER.records[:8], *(Record(float(at), at + 0.1, None, None, 0, "500") for at in (8, 9))], {}, {}
    )
    found = attribute(some, window(count=8, **WHOLE), OURS)
    assert found is not None and "2 of the 10 requests to the server did not complete" in found.notes[0]
    assert attribute(LoadResult([], {}, {}), window(**WHOLE), OURS) is None
    assert attribute(SERVER, window(**WHOLE), LoadResult([], {}, {})) is None


def test_the_metrics_of_a_verdict_have_a_name_for_each_part() -> None:
    found = attribute(SERVER, window(**WHOLE), OURS)
    assert found is not None
    names = {name: round(value or 0, 3) for name, value in found.metrics().items()}
    assert names == {
        "server_e2e_mean_ms": 1010, "engine_e2e_mean_ms": 401, "gap_ms": 609, "gap_generator_ms": 9,
        "gap_scheduler_queue_ms": 195, "gap_prefill_ms": 5, "gap_decode_ms": 150, "gap_server_front_end_ms": 150,
        "gap_http_ms": 100,
    }  # fmt: skip
