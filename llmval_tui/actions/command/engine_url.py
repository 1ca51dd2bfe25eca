"""The inference server that a command puts under load, so that its own metrics are recorded beside the run."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from llmval_tui.actions.command.argv import value_of, values_of
from llmval_tui.actions.tools.by_command import tool_of
from llmval_tui.actions.tools.load.aiperf import Aiperf, GenaiPerf
from llmval_tui.actions.tools.load.guidellm import Guidellm
from llmval_tui.actions.tools.load.sglang_bench import SglangServing
from llmval_tui.actions.tools.load.vllm_bench import VllmServe

SERVER_LOAD_TEST = "openai_load_test.py"
_CLIENTS = (VllmServe, SglangServing, Aiperf, GenaiPerf, Guidellm)
_FLAGS = ("--base-url", "--url", "-u", "--target")
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d{1,5}(/.*)?")


def engine_url(argv: Sequence[str]) -> str | None:
    """The URL of the server that a load generator's command names; None for another command, or without a URL."""
    own = any(PurePosixPath(word).name == SERVER_LOAD_TEST for word in argv[:4])
    if not own and not isinstance(tool_of(list(argv)), _CLIENTS):
        return None
    arguments = tuple(argv)
    for flag in _FLAGS:
        if found := _url(value_of(arguments, flag)):
            return found
    backend = ",".join(values_of(arguments, "--backend"))  # guidellm: kind=openai_http,target=URL,model=NAME
    return next((found for part in backend.split(",") if (found := _url(part.removeprefix("target=")))), None)


def _url(text: str | None) -> str | None:
    if text is None:
        return None
    if text.startswith(("http://", "https://")):
        return text
    return f"http://{text}" if _HOST_AND_PORT.fullmatch(text) else None
