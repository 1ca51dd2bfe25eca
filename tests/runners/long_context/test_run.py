"""The runner as an operator starts it: real processes, two ranks under gloo."""

import json
import signal
import time

import pytest


def events(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_two_ranks_measure_compare_and_report(tmp_path, finished, read):
    result = tmp_path / "out" / "r.json"
    flags = ("--sequence-lengths", "512", "256", "--tensor-parallel-gpus", "2", "--dtype", "bf16", "--batch-size", "2")
    (tmp_path / "logs").mkdir()
    code, out, err = finished(tmp_path, *flags, "--output-json", str(result), LLMVAL_RUN_FOLDER=str(tmp_path))
    assert code == 0, out + err
    value = read(result)
    assert value["partial"] is False
    assert value["reasons"] == []
    assert value["identity"]["tensor_parallel"] == 2
    assert [entry["sequence_length"] for entry in value["lengths"]] == [256, 512]
    for entry in value["lengths"]:
        assert (entry["status"], entry["prefill_attention"]) == ("passed", "bf16")
        assert [rank["rank"] for rank in entry["memory"]] == [0, 1]
        for rank in entry["memory"]:
            assert rank["weights_bytes"] == entry["prediction"]["weights_bytes"]
            assert rank["kv_bytes"] == entry["prediction"]["kv_bytes"]
        assert entry["prefill"]["tokens_per_s"] == pytest.approx(
            2 * entry["sequence_length"] / entry["prefill"]["seconds"]
        )
        assert entry["prefill"]["energy"]["energy_j"] is None
        assert entry["prefill"]["energy"]["missing"]
        for kind in ("prompt", "decode"):
            assert 0 < entry["fidelity"][kind]["relative_error"] < 0.03, "bfloat16 against float32"
            assert entry["fidelity"][kind]["top1_agreement"] > 0.8
    assert json.loads((tmp_path / "ranks.main.json").read_text())["ranks"] == {"0": 0, "1": 0}
    assert {path.name for path in (tmp_path / "logs").iterdir()} >= {"main.rank0.stdout.log", "main.rank1.stderr.log"}
    kinds = events(tmp_path)
    metrics = [event["data"] for event in kinds if event["kind"] == "metrics"]
    grown = [m["memory_kv_bytes"] for m in metrics if "prefill_tokens_per_s" in m]
    assert max(grown) > min(grown) > 0
    assert {"memory_weights_bytes", "memory_activation_bytes", "memory_free_bytes"} <= metrics[0].keys()
    progress = [event["data"] for event in kinds if event["kind"] == "progress"]
    assert {"done": 1024, "total": 1024, "unit": "tokens", "label": "prefill 512"} in progress
    assert kinds[-1]["kind"] in ("result", "heartbeat")


def test_out_of_memory_at_the_second_length_keeps_the_first(tmp_path, finished, read):
    result = tmp_path / "r.json"
    flags = ("--sequence-lengths", "64", "4000000000", "--tensor-parallel-gpus", "2", "--ignore-prediction")
    code, _, err = finished(tmp_path, *flags, "--output-json", str(result))
    assert code == 1
    value = read(result)
    first, second = value["lengths"]
    assert (first["status"], second["status"]) == ("passed", "out_of_memory")
    assert first["decode"]["step_ms"] > 0
    assert second["prefill_attention"] is None
    assert second["prediction"]["fits"] is False
    assert second["failure"][0]["tried_bytes"] == second["prediction"]["kv_bytes"]
    assert "the KV cache" in second["failure"][0]["where"]
    assert value["partial"] is True
    assert (value["verdict"]["word"], value["verdict"]["exit_code"]) == ("failed", 1)
    assert "out of memory at 4,000,000,000 tokens" in value["reasons"][0]
    assert "out of memory" in err
    assert list(tmp_path.glob(".*failure.json")) == []


def test_a_length_that_cannot_fit_is_refused_before_anything_is_allocated(tmp_path, finished, read):
    result = tmp_path / "r.json"
    flags = ("--sequence-lengths", "64", "2048", "--memory-limit-gib", "0.01")
    code, out, err = finished(tmp_path, *flags, "--output-json", str(result))
    assert code == 2, out
    assert not result.exists()
    assert err.startswith("refused: 2,048 tokens × 1 of tiny need")
    assert "pass --sequence-lengths" in err
    assert "load" not in [event["data"].get("name") for event in events(tmp_path) if event["kind"] == "phase"]


def test_a_plan_for_gpus_that_are_elsewhere(tmp_path, finished, read):
    result = tmp_path / "r.json"
    flags = ("--predict-only", "--memory-limit-gib", "139", "--tensor-parallel-gpus", "4", "--find-max")
    command = ("--sequence-lengths", "65536", "--output-json", str(result))
    code, out, _ = finished(tmp_path, *flags, *command)
    assert code == 0
    value = read(result)
    assert value["setup"]["on_gpu"] is True
    assert value["lengths"][0]["prediction"]["fits"] is True
    assert value["lengths"][0]["status"] == "not_run"
    assert "only predicted" in value["reasons"][0], "a plan is not a validation"
    assert value["find_max"]["length"] > 65536
    assert "longest that fits" in out


def test_a_signal_ends_it_with_its_record(tmp_path, start, read):
    result = tmp_path / "r.json"
    flags = ("--sequence-lengths", "64", "100000", "--prefill-chunk", "64", "--output-json", str(result))
    process = start(tmp_path, *flags)
    deadline = time.monotonic() + 600
    while (
        time.monotonic() < deadline and '"length":"2' not in (text := _text(tmp_path)) and "100,000 tokens" not in text
    ):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=600)
    assert process.returncode == 143
    assert not result.exists()
    value = read(result.with_name("r.partial.json"))
    assert (value["partial"], value["verdict"]["word"]) == (True, "ended early")
    assert [entry["status"] for entry in value["lengths"]] == ["passed", "not_run"]
    assert value["reasons"] == ["ended by SIGTERM"]


def _text(folder):
    path = folder / "events.jsonl"
    return path.read_text() if path.exists() else ""
