"""What servers publish, under one set of names. The vLLM answer is a real one of version 0.32, with fewer buckets."""

from pathlib import Path

import pytest

from llmval_tui.telemetry.engine.exposition import read_exposition
from llmval_tui.telemetry.sample import Sample, TimeTotal

VLLM = (Path(__file__).parent / "vllm_0.32.prom").read_text()
SGLANG = """\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m",tp_rank="0",dp_rank="0"} 7.0
sglang:num_running_reqs{model_name="m",tp_rank="1",dp_rank="0"} 7.0
sglang:num_running_reqs{model_name="m",tp_rank="0",dp_rank="1"} 5.0
sglang:num_queue_reqs{model_name="m",tp_rank="0",dp_rank="0"} 2.0
sglang:token_usage{model_name="m",tp_rank="0",dp_rank="0"} 0.25
sglang:token_usage{model_name="m",tp_rank="0",dp_rank="1"} 0.75
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{model_name="m",is_streaming="true"} 900.0
sglang:prompt_tokens_total{model_name="m",is_streaming="false"} 100.0
sglang:generation_tokens_total{model_name="m",is_streaming="true"} 640.0
# TYPE sglang:queue_time_seconds histogram
sglang:queue_time_seconds_sum{model_name="m"} 1.5
sglang:queue_time_seconds_count{model_name="m"} 10.0
sglang:queue_time_seconds_bucket{le="0.1",model_name="m"} 10.0
sglang:per_stage_req_latency_seconds_sum{model_name="m",stage="prefill_forward"} 0.5
sglang:per_stage_req_latency_seconds_count{model_name="m",stage="prefill_forward"} 10.0
sglang:per_stage_req_latency_seconds_sum{model_name="m",stage="request_process"} 9.5
sglang:per_stage_req_latency_seconds_count{model_name="m",stage="request_process"} 10.0
"""
TRTLLM = """\
trtllm_num_requests_running{engine_type="pytorch",model_name="m"} 3.0
trtllm_num_requests_waiting{engine_type="pytorch",model_name="m"} 1.0
trtllm_kv_cache_utilization{engine_type="pytorch",model_name="m"} 0.5
trtllm_prompt_tokens_total{engine_type="pytorch",model_name="m"} 400.0
trtllm_prompt_cached_tokens_total{engine_type="pytorch",model_name="m"} 100.0
trtllm_request_queue_time_seconds_sum{engine_type="pytorch",model_name="m"} 2.0
trtllm_request_queue_time_seconds_count{engine_type="pytorch",model_name="m"} 4.0
"""


def read(text):
    found = read_exposition(text, "http://server", 5)
    assert found is not None
    return found


def test_vllm():
    sample, reasons = read(VLLM)
    assert (sample.engine, sample.running, sample.waiting, sample.kv_cache_used_percent) == ("vLLM", 0, 0, 0)
    assert (sample.preemptions, sample.prompt_tokens, sample.generation_tokens) == (0, 55, 80)
    assert (sample.prefix_cache_queries, sample.prefix_cache_hits) == (55, 0)
    assert sample.times["queue"] == TimeTotal(0.00013347900005555857, 5)
    assert sample.times["inter_token"].count == 75  # five answers of 16 tokens
    assert all(sample.times.values()) and reasons == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        ("vllm:prefix_cache_", "vllm:gpu_prefix_cache_"),
        ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        ("vllm:", "vllm_"),  # behind a gateway that allows no colon
    ],
)
def test_the_names_of_other_versions_of_vllm(old, new):
    assert old in VLLM
    assert read(VLLM.replace(old, new)) == read(VLLM)


def test_sglang_adds_up_engines_and_not_the_ranks_of_one():
    sample, reasons = read(SGLANG)
    assert (sample.engine, sample.running, sample.waiting) == ("SGLang", 12, 2)
    assert sample.kv_cache_used_percent == 75  # of the fuller engine
    assert (sample.prompt_tokens, sample.generation_tokens) == (1000, 640)
    assert (sample.times["queue"], sample.times["prefill"]) == (TimeTotal(1.5, 10), TimeTotal(0.5, 10))
    assert sample.times["decode"] is None and sample.preemptions is None
    assert any("preemptions: SGLang publishes" in reason for reason in reasons)
    assert any("times.decode" in reason and "not published by this version of SGLang" in reason for reason in reasons)


def test_sglang_has_no_prefix_cache_hits_before_the_first():
    assert read(SGLANG)[0].prefix_cache_hits == 0
    more = (
        'sglang:cached_tokens_total{cache_source="device"} 30.0\nsglang:cached_tokens_total{cache_source="host"} 3.0\n'
    )
    assert read(SGLANG + more)[0].prefix_cache_hits == 33
    without = "\n".join(line for line in SGLANG.splitlines() if "prompt_tokens" not in line)
    assert read(without)[0].prefix_cache_hits is None


def test_tensorrt_llm():
    sample, reasons = read(TRTLLM)
    assert (sample.engine, sample.running, sample.waiting, sample.kv_cache_used_percent) == ("TensorRT-LLM", 3, 1, 50)
    assert (sample.prefix_cache_queries, sample.prefix_cache_hits) == (400, 100)
    assert sample.times["queue"] == TimeTotal(2, 4) and sample.preemptions is None
    assert any("publishes no count of preemptions" in reason for reason in reasons)


def test_the_frontend_of_dynamo_and_its_worker():
    frontend = 'dynamo_frontend_queued_requests{model="m"} 4\ndynamo_frontend_inflight_requests{model="m"} 9\n'
    sample, _ = read(frontend)
    assert (sample.engine, sample.waiting, sample.running) == ("Dynamo", 4, None)
    assert read("dynamo_frontend_queued_requests 4\n" + VLLM)[0].engine == "vLLM"


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1"])
def test_a_figure_that_is_not_a_number_is_unknown(value):
    sample, reasons = read(f"vllm:num_requests_running {value}\nvllm:num_requests_waiting 2\n")
    assert sample.running is None and sample.waiting == 2
    assert any("running" in reason for reason in reasons)


@pytest.mark.parametrize(("share", "percent"), [("0", 0), ("0.5", 50), ("1.0", 100), ("1.7", None), ("-0.5", None)])
def test_a_share_of_the_cache_that_is_none_is_unknown(share, percent):
    assert read(f"vllm:kv_cache_usage_perc {share}\nvllm:num_requests_waiting 2\n")[0].kv_cache_used_percent == percent


@pytest.mark.parametrize("text", ["", "python_info 1\n", '{"iterLatencyMS": 1}', "<html>no</html>", "\x00\xff"])
def test_an_answer_without_a_known_name_names_no_engine(text):
    assert read_exposition(text, "u", 0) is None


def test_a_damaged_line_is_refused():
    with pytest.raises(ValueError, match=r".+"):
        read_exposition('vllm:num_requests_running{a="b 1\nvllm:num_requests_waiting x\n', "u", 0)


def test_it_survives_the_recording():
    sample, _ = read(SGLANG)
    recorded = Sample(1, 2, engine=sample)
    assert Sample.from_line(recorded.to_line()) == recorded
