"""The command that puts our engine under the load of an item, with the model and the precision of its server."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llmval_tui.actions.command.argv import value_of
from llmval_tui.actions.command.engine_url import SERVER_LOAD_TEST
from llmval_tui.actions.tools.command_line import option
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json

ENGINE_LOAD_TEST = "inference_server_load_test.py"
# The flags that both load tests have, and that must be the same.
_LOAD_FLAGS = (
    "--duration", "--target-qps", "--burstiness", "--warmup", "--drain-timeout", "--max-in-flight", "--temperature",
    "--seed", "--trial-duration", "--max-qps", "--precision", "--min-goodput", "--max-trials", "--confidence",
    "--slo-ttft-ms", "--slo-tpot-ms", "--slo-e2e-ms",
)  # fmt: skip
_DEFAULT_LENGTHS = {"--prompt-len": "uniform:512:1024", "--output-len": "512"}  # of the load test over HTTP
_DTYPES = {
    "bfloat16": "bfloat16", "bf16": "bfloat16", "half": "float16", "float16": "float16", "fp16": "float16",
    "float": "float32", "float32": "float32",
}  # fmt: skip
# Flags that change what is computed, or on how many GPUs, in a way that our engine does not have, with the value that
# changes nothing.
_NOT_OURS = {
    "--pipeline-parallel-size": "1", "-pp": "1", "--pp-size": "1", "--data-parallel-size": "1", "-dp": "1",
    "--dp-size": "1", "--speculative-config": None, "--speculative-algorithm": None, "--enable-lora": None,
    "--lora-paths": None, "--cpu-offload-gb": "0",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a server's command says of its model."""

    folder: Path  # with its config.json
    dtype: str  # bfloat16, float16 or float32
    fp8: bool
    kv_fp8: bool
    dummy: bool  # random weights
    tensor_parallel: int
    max_batch: int | None


def engine_command(
    load: Sequence[str], server: Sequence[str], workspace: Path, output: str, *, on_cpu: bool = False
) -> str:
    """The command of our engine, as an operator would write it.

    Args:
        load: the words of the item's load test, `openai_load_test.py`.
        server: the words of the server's command.
        workspace: relative paths of the server's command are below it.
        output: of the result, relative to the workspace.
        on_cpu: this node has no GPU.

    Raises:
        Refused: our engine cannot have the same load, model or precision; the message says why.
    """
    model = served_model(server, workspace)
    words = ["torchrun", f"--nproc_per_node={model.tensor_parallel}", ENGINE_LOAD_TEST]
    words += ["--checkpoint", str(model.folder), *(["--load-format", "dummy"] if model.dummy else [])]
    words += ["--dtype", model.dtype, "--fp8-mode", "native" if model.fp8 else "none"]
    words += ["--kv-dtype", "fp8" if model.kv_fp8 else "auto"]
    words += ["--device", "cpu"] if on_cpu else []
    if model.max_batch is not None:
        words += ["--max-batch", str(model.max_batch)]
    return shlex.join([*words, *_load_flags(load), "--output-json", output])


def is_server_load_test(words: Sequence[str]) -> bool:
    """Whether these are the words of llmval's load test over HTTP."""
    return any(PurePosixPath(word).name == SERVER_LOAD_TEST for word in words)


def _load_flags(load: Sequence[str]) -> list[str]:
    arguments = tuple(load)
    for flag, what in (("--trace", "the arrivals of a trace"), ("--prompts", "prompts from a file")):
        if value_of(arguments, flag) is not None:
            raise Refused(f"the item uses {what} ({flag}), which our engine's load test does not have: no yardstick.")
    words = ["--find-max-qps"] if "--find-max-qps" in arguments else []
    for flag in (*_LOAD_FLAGS, *_DEFAULT_LENGTHS):
        value = value_of(arguments, flag) or _DEFAULT_LENGTHS.get(flag)
        if value is not None:
            words += [flag, value]
    return words


def served_model(server: Sequence[str], workspace: Path) -> ServedModel:
    """The model, precision and size that a server's command states.

    Raises:
        Refused: the model has no config.json here, or the command states what our engine does not have.
    """
    words = list(server)
    for flag, harmless in _NOT_OURS.items():
        if (value := option(words, flag)) is not None and value != harmless:
            raise Refused(f"our engine has nothing like the server's {flag}, so there is no yardstick.")
    folder = _folder(_model_words(words), workspace)
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise Refused(f"{folder / 'config.json'} is not a JSON object: no yardstick.")
    quantized = str((config.get("quantization_config") or {}).get("quant_method") or "")
    wanted = option(words, "--quantization") or option(words, "-q") or quantized
    if wanted and not (wanted == "fp8" or wanted.startswith("fp8_")):
        raise Refused(f"the server computes with {wanted}, and our engine has bf16, fp16, fp32 and fp8: no yardstick.")
    stated = option(words, "--dtype") or option(words, "--torch-dtype") or "auto"
    named = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16") if stated == "auto" else stated
    if named not in _DTYPES:
        raise Refused(f"our engine does not compute in {named}, so there is no yardstick.")
    cache = option(words, "--kv-cache-dtype") or "auto"
    if cache not in ("auto", named) and not cache.startswith("fp8"):
        raise Refused(f"our engine has no KV cache in {cache}, so there is no yardstick.")
    dummy = option(words, "--load-format") == "dummy"
    return ServedModel(
        folder=folder,
        dtype=_DTYPES[named],
        fp8=bool(wanted),
        kv_fp8=cache.startswith("fp8"),
        dummy=dummy,
        tensor_parallel=_number(words, "--tensor-parallel-size", "-tp", "--tp-size", "--tp", "--tp_size") or 1,
        max_batch=_number(words, "--max-num-seqs", "--max-running-requests", "--max_batch_size"),
    )


def _model_words(words: list[str]) -> str:
    """The model as the command names it: a flag's value, or the first word after `serve` or `trtllm-serve`."""
    for flag in ("--model-path", "--model", "--force-model"):
        if (value := option(words, flag)) is not None:
            return value
    for at, word in enumerate(words[:-1]):
        if PurePosixPath(word).name in ("serve", "trtllm-serve") and not words[at + 1].startswith("-"):
            return words[at + 1]
    raise Refused("the server's command names no model, so our engine does not know which one to run: no yardstick.")


def _folder(name: str, workspace: Path) -> Path:
    path = Path(name).expanduser()
    path = path if path.is_absolute() else workspace / path
    if (path / "config.json").is_file():
        return path
    if path.suffix == ".gguf":
        raise Refused("the server's model is a GGUF file, which our engine does not read: no yardstick.")
    snapshots = _hub() / f"models--{name.replace('/', '--')}" / "snapshots"
    found = sorted(snapshots.glob("*/config.json"), key=lambda file: file.stat().st_mtime) if snapshots.is_dir() else []
    if found:
        return found[-1].parent
    raise Refused(f"there is no folder {name} with a config.json, here or in the Hugging Face cache: no yardstick.")


def _hub() -> Path:
    home = os.environ.get("HF_HOME") or str(Path("~/.cache/huggingface").expanduser())
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def _number(words: list[str], *flags: str) -> int | None:
    for flag in flags:
        if (value := option(words, flag)) is not None:
            if not value.isdecimal():
                raise Refused(f"the server's {flag} {value} is not a number: no yardstick.")
            return int(value)
    return None
