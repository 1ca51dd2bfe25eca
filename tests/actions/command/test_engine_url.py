"""The server that a load generator's command names."""

import shlex

import pytest

from llmval_tui.actions.command.engine_url import engine_url


@pytest.mark.parametrize(
    ("command", "url"),
    [
        ("python runners/openai_load_test.py --base-url http://127.0.0.1:8000 --model m", "http://127.0.0.1:8000"),
        ("python3 openai_load_test.py --base-url=https://node7/v1", "https://node7/v1"),
        ("vllm bench serve --base-url http://127.0.0.1:8300 --model m", "http://127.0.0.1:8300"),
        ("python -m sglang.bench_serving --base-url http://h:30000", "http://h:30000"),
        ("aiperf profile --model m --url localhost:8000 --streaming", "http://localhost:8000"),
        ("guidellm benchmark --target http://h:8000 --rate 3", "http://h:8000"),
        ("guidellm run --backend kind=openai_http,target=http://h:8000,model=m", "http://h:8000"),
        ("openai_load_test.py --model m", None),
        ("vllm serve m --port 8000", None),
        ("curl --url http://127.0.0.1:8000/health", None),
        ("git clone --base-url http://example.com/x", None),
        ("aiperf profile --url not-a-url", None),
    ],
)
def test_the_url(command, url):
    assert engine_url(shlex.split(command)) == url
