"""Which command lines are known tools, which files they promise, and which flags are missed."""

import pytest

from llmval_tui.actions.tools.by_command import tool_of


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("vllm bench serve --model m", "vllm bench serve"),
        ("/opt/venv/bin/vllm bench serve --model m", "vllm bench serve"),
        ("uv run --with vllm vllm bench serve --model m", "vllm bench serve"),
        ("numactl --cpunodebind=0 --membind 0 vllm bench throughput --model m", "vllm bench throughput"),
        ("timeout 600 vllm bench latency --model m", "vllm bench latency"),
        ("python3 benchmarks/benchmark_serving.py --model m", "vllm bench serve"),
        ("python -m tensorrt_llm.serve.scripts.benchmark_serving --model m", "tensorrt_llm benchmark_serving"),
        ("python -m sglang.bench_serving --backend sglang", "sglang.bench_serving"),
        ("python3.12 -u -m sglang.bench_serving --backend sglang", "sglang.bench_serving"),
        ("aiperf profile -m m", "aiperf profile"),
        ("uv tool run aiperf profile -m m", "aiperf profile"),
        ("genai-perf profile -m m", "genai-perf profile"),
        ("guidellm benchmark --target http://x", "guidellm"),
        ("guidellm benchmark run --target http://x", "guidellm"),
        ("guidellm run --backend kind=openai_http", "guidellm"),
        ("./build/all_reduce_perf -b 8 -e 8G", "nccl-tests"),
        (
            "mpirun -np 8 -x NCCL_DEBUG=INFO --map-by ppr:8:node /opt/nccl-tests/build/all_gather_perf -g 1",
            "nccl-tests",
        ),
        ("srun -N2 --ntasks-per-node=8 all_reduce_perf_mpi -b 1G", "nccl-tests"),
        ("env CUDA_VISIBLE_DEVICES=0,1 nice -n 5 sendrecv_perf", "nccl-tests"),
        ("nvbandwidth -t device_to_device_memcpy_read_ce", "nvbandwidth"),
        ("sudo -n dcgmi diag -r 3", "dcgmi diag"),
        ("sb run -f hosts.ini", "sb run"),
        ("sb result diagnosis -d x", "sb result diagnosis"),
        ("docker exec node all_reduce_perf -g 8", "nccl-tests"),
    ],
)
def test_a_known_tool_is_found_whatever_starts_it(command: str, name: str) -> None:
    tool = tool_of(command.split())
    assert tool is not None
    assert tool.name == name
    assert tool.elsewhere == command.startswith("docker")


@pytest.mark.parametrize(
    "command",
    [
        "vllm serve models/m",
        "vllm bench",
        "aiperf --version",
        "dcgmi discovery -l",
        "dcgmi health -c",
        "guidellm mock-server",
        "sb version",
        "bash run.sh all_reduce_perf",
        "cat all_reduce_perf",
        "make all_reduce_perf",
        "python bench.py vllm bench serve",
        "uv run python bench.py aiperf profile",
        "sudo cat all_reduce_perf",
        "python -m pytest nvbandwidth",
        "echo",
    ],
)
def test_another_command_is_not_a_known_tool(command: str) -> None:
    assert tool_of(command.split()) is None


@pytest.mark.parametrize(
    ("command", "files", "missing"),
    [
        ("vllm bench serve --save-result --save-detailed --result-dir a --result-filename b.json", ["a/b.json"], None),
        ("vllm bench serve --save-result --save-detailed --result-dir=a", ["a/"], None),
        ("vllm bench serve --save-result --result-dir a", ["a/"], "--save-detailed"),
        ("vllm bench serve --save-result", [], "--result-dir"),
        ("vllm bench serve --save-detailed --result-dir a", [], "--save-result"),
        ("vllm bench throughput --output-json a.json", ["a.json"], None),
        ("vllm bench latency", [], "--output-json"),
        ("python -m sglang.bench_serving --output-file a.jsonl --output-details", ["a.jsonl"], None),
        ("python -m sglang.bench_serving --output-file a.jsonl", ["a.jsonl"], "--output-details"),
        ("python -m sglang.bench_serving", [], "--output-file"),
        ("aiperf profile --output-artifact-dir a", ["a/"], None),
        ("aiperf profile --artifact-dir a", ["a/"], None),
        ("aiperf profile --artifact-dir a --export-level summary", ["a/"], "--export-level"),
        ("aiperf profile -m m", [], "--artifact-dir"),
        ("guidellm run --output kind=json,path=a/b.json --output kind=csv,path=c.csv", ["a/b.json"], None),
        ("guidellm run --output kind=csv,path=c.csv", [], "kind=json"),
        ("guidellm run", ["benchmarks.json"], None),
        ("guidellm benchmark --output-path a/b.json", ["a/b.json"], None),
        ("guidellm benchmark --output-path a", ["a/benchmarks.json"], None),
        ("all_reduce_perf -J a.json", ["a.json"], None),
        ("all_reduce_perf -c 0", [], "-c 0"),
        ("nvbandwidth -j", [], None),
        ("nvbandwidth -s", [], "-s"),
        ("dcgmi diag -r 3", [], None),
        ("sb run --output-dir a", ["a/"], None),
        ("sb run", [], "--output-dir"),
        ("sb result diagnosis --output-dir a --output-file-format jsonl --output-all", ["a/"], None),
        ("sb result diagnosis --output-dir a --output-file-format jsonl", ["a/"], "--output-all"),
        ("sb result diagnosis --output-dir a", ["a/"], "--output-file-format"),
    ],
)
def test_the_promised_files_and_the_flag_to_add(command: str, files: list[str], missing: str | None) -> None:
    tool = tool_of(command.split())
    assert tool is not None
    assert [promise.path + ("/" if promise.folder else "") for promise in tool.outputs()] == files
    sentence = tool.missing_flag()
    assert (sentence is None) == (missing is None)
    assert missing is None or missing in str(sentence)
