"""The flags of `openai_load_test.py`. Parsing imports nothing that may be missing, so `--help` always works."""

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmval_runners.load_test.generator import Lengths
from llmval_runners.load_test.load_flags import (
    SearchOptions,
    add_load_flags,
    add_search_flags,
    add_slo_flags,
    duration_of,
    search_of,
    slo_of,
)
from llmval_runners.load_test.metrics import Slo
from llmval_runners.process.arguments import Parser, count, positive
from llmval_runners.process.errors import Refused, exit_codes
from llmval_runners.process.output import Report, add_output_flags, take_output

COMPLETIONS, CHAT = "completions", "chat"
IDS, TEXT = "ids", "text"
KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE, MODEL_VARIABLE = "LLMVAL_SERVER_URL", "LLMVAL_SERVER_MODEL"  # of the server that the item rests on
EXIT_CODES = (
    exit_codes(
        "ok",
        "overloaded, a request failed, a service level was missed, no rate held it, or the test itself failed",
        "invalid or inconclusive",
    )
    + " Under llmval, which judges the record itself: 0 if the record was written."
)
EXAMPLES = """\
examples:
  python openai_load_test.py --url http://127.0.0.1:8000 --target-qps 8 \\
      --duration 300 --slo-ttft-ms 500 --output-json artifacts/server.json
  python openai_load_test.py --url http://127.0.0.1:8000 --find-max-qps \\
      --slo-ttft-ms 500 --trial-duration 60 --json -
"""
_OWN_FIELDS = (
    "model",
    "prompt",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "temperature",
    "ignore_eos",
    "seed",
)


def parser() -> argparse.ArgumentParser:
    """The flags of `openai_load_test.py`."""
    root = Parser(
        prog="openai_load_test.py",
        description="Open-loop load test of a server of the OpenAI API (vLLM, SGLang, TensorRT-LLM, …) over HTTP with "
        "streamed answers. It needs no torch and no torchrun. Output tokens are those of the server's `usage`; all "
        "latencies count from the intended arrival, and beside it from the dispatch.",
        examples=EXAMPLES,
        exit_codes=EXIT_CODES,
    )
    server = root.add_argument_group("server")
    server.add_argument(
        "--url",
        help="http://HOST:PORT, with or without /v1; proxies of the environment are not used, redirects not followed "
        f"(default: {URL_VARIABLE}, which llmval sets where the item rests on a server)",
    )
    server.add_argument(
        "--model",
        metavar="NAME",
        help="as the server names it (default: that of "
        f"{MODEL_VARIABLE} if --url is from the environment too, else the only one of /v1/models)",
    )
    server.add_argument(
        "--api", choices=(COMPLETIONS, CHAT), default=COMPLETIONS,
        help="/v1/completions (default) or /v1/chat/completions",
    )  # fmt: skip
    server.add_argument(
        "--api-key-variable", default=KEY_VARIABLE, metavar="NAME",
        help=f"environment variable with the API key, which is recorded nowhere (default {KEY_VARIABLE}, if set)",
    )  # fmt: skip
    tls = server.add_mutually_exclusive_group()
    tls.add_argument("--ca-file", type=Path, metavar="FILE", help="certificates to trust for https, PEM")
    tls.add_argument("--insecure", action="store_true", help="accept any certificate for https")
    server.add_argument("--connect-timeout", type=positive, default=10.0, metavar="S", help="(default 10)")
    server.add_argument(
        "--request-timeout", type=positive, default=600.0, metavar="S",
        help="from the dispatch to the end of an answer; a request over it has failed (default 600)",
    )  # fmt: skip
    server.add_argument(
        "--ignore-eos", action=argparse.BooleanOptionalAction, default=True,
        help="ask for exactly as many tokens as drawn, by the field ignore_eos of vLLM, SGLang and TensorRT-LLM "
        "(default). Without it, an answer may end early by itself, and its length is the server's",
    )  # fmt: skip
    server.add_argument(
        "--extra-body", type=_object, default={}, metavar="JSON", help="more fields for the body of every request"
    )

    add_load_flags(root, "uniform:512:1024", "512")
    prompts = root.add_argument_group("prompts and arrivals from elsewhere")
    prompts.add_argument(
        "--prompt-format", choices=(IDS, TEXT),
        help="ids: random token ids, exactly as many as drawn (default for completions); text: words, whose number is "
        "fitted to the server's own count before the window (default for chat)",
    )  # fmt: skip
    prompts.add_argument(
        "--vocab", type=count, metavar="N", help="token ids are below N (default 30000, which every large model has)"
    )
    prompts.add_argument(
        "--prompts", type=Path, metavar="FILE",
        help='a prompt per line: text, or {"prompt": "…", "output_tokens": N}; used in turn, in place of --prompt-len',
    )  # fmt: skip
    prompts.add_argument(
        "--trace", type=Path, metavar="FILE",
        help="arrivals, in place of rate, duration and lengths: lines `seconds,prompt tokens,output tokens`, or JSON "
        "with timestamp (ms), input_length and output_length as in the Mooncake traces",
    )  # fmt: skip
    add_search_flags(root)
    add_slo_flags(root)
    add_output_flags(root)
    return root


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where the server is, and how it is asked. Times in seconds. `key` is never recorded."""

    url: str
    model: str | None
    api: str
    key: str | None
    key_variable: str
    ca_file: Path | None
    insecure: bool
    connect_timeout_s: float
    request_timeout_s: float
    ignore_eos: bool
    extra_body: dict[str, Any]
    temperature: float


@dataclass(frozen=True, slots=True)
class OpenAiOptions:
    """The parsed flags."""

    server: ServerOptions
    prompt: Lengths
    output: Lengths
    prompt_format: str
    vocab: int
    prompts: Path | None
    trace: Path | None
    target_qps: float
    duration_s: float
    burstiness: float
    warmup: int
    drain_timeout_s: float
    max_in_flight: int | None
    seed: int
    slo: Slo
    search: SearchOptions | None
    output_json: Path | None
    report: Report


def parse(argv: list[str]) -> OpenAiOptions:
    """Parse. Raises Refused for an unknown flag, a wrong value, or flags that exclude each other."""
    found = parser().parse_args(argv)
    _check(found, argv)
    url, model = found.url, found.model
    if url is None:
        url, model = os.environ.get(URL_VARIABLE), model or os.environ.get(MODEL_VARIABLE)
    if not url:
        raise Refused(f"no server is named: pass --url http://HOST:PORT, or set {URL_VARIABLE}.")
    slo = slo_of(found)
    path, report = take_output(found)
    return OpenAiOptions(
        server=ServerOptions(
            url=url,
            model=model or None,
            api=found.api,
            key=os.environ.get(found.api_key_variable) or None,
            key_variable=found.api_key_variable,
            ca_file=found.ca_file,
            insecure=found.insecure,
            connect_timeout_s=found.connect_timeout,
            request_timeout_s=found.request_timeout,
            ignore_eos=found.ignore_eos,
            extra_body=found.extra_body,
            temperature=found.temperature,
        ),
        prompt=Lengths.parse(found.prompt_len or "uniform:512:1024"),
        output=Lengths.parse(found.output_len or "512"),
        prompt_format=found.prompt_format or (TEXT if found.api == CHAT or found.prompts else IDS),
        vocab=found.vocab or 30_000,
        prompts=found.prompts,
        trace=found.trace,
        target_qps=found.target_qps,
        duration_s=duration_of(found),
        burstiness=found.burstiness,
        warmup=found.warmup,
        drain_timeout_s=found.drain_timeout,
        max_in_flight=found.max_in_flight,
        seed=found.seed,
        slo=slo,
        search=search_of(found, slo),
        output_json=path,
        report=report,
    )


def _check(found: argparse.Namespace, argv: list[str]) -> None:
    given = {word.partition("=")[0] for word in argv}
    if found.trace is not None:
        theirs = {"--target-qps", "--duration", "--burstiness", "--prompt-len", "--output-len", "--find-max-qps"}
        if both := sorted(theirs & given):
            raise Refused(f"--trace has times and lengths of its own: leave {' and '.join(both)} out.")
    if found.prompts is not None and (
        both := sorted({"--prompt-len", "--prompt-format", "--vocab", "--trace"} & given)
    ):
        raise Refused(f"--prompts has prompts of its own: leave {' and '.join(both)} out.")
    if found.api == CHAT and found.prompt_format == IDS:
        raise Refused("the chat API takes no token ids: leave --prompt-format ids out, or pass --api completions.")
    if found.vocab is not None and (found.api == CHAT or found.prompt_format == TEXT):
        raise Refused("--vocab is for prompts of token ids: leave it out, or pass --api completions.")
    if own := [name for name in _OWN_FIELDS if name in found.extra_body]:
        raise Refused(f"--extra-body may not have {own[0]}: the load test sets it.")


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text} is not a JSON object")
    return value
