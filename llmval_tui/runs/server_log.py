"""Why a server ended, from its logs: a sentence for a known cause, else the last line that names an error."""

import re

from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.store import Run

_TAIL_BYTES = 256 * 1024
_MOST = 300  # characters of a line
# The order counts: a failed load says several things, and the first of these is nearest to the cause. The lines are
# those of vLLM, SGLang, transformers, TensorRT-LLM and llama.cpp.
_CAUSES = (
    (re.compile(r"address already in use|errno 98|port \d+ is (?:already )?(?:in use|occupied)", re.I),
     "its port is taken"),
    (re.compile(r"out of memory|outofmemoryerror|no available memory for the cache blocks|cannot allocate memory"
                r"|larger than the (?:available|maximum number of tokens that can be stored in) kv cache"
                r"|(?:free|available) memory on .* is less than|not enough memory|failed to allocate .*buffer", re.I),
     "memory ran out while it was loading"),
    (re.compile(r"is not a local folder and is not a valid model identifier|repositorynotfound|invalid repository id"
                r"|hfvalidationerror|repo id must be"
                r"|localentrynotfound|can't load the configuration|does not appear to have a file named"
                r"|cannot find (?:the )?(?:model|requested files)|model .{0,200}(?:not found|does not exist)"
                r"|no such file or directory: .*(?:config\.json|\.gguf|\.safetensors)|couldn't connect to .*hugging",
                re.I),
     "the model was not found"),
)  # fmt: skip
_ERROR = re.compile(r"(?:\b\w*(?:Error|Exception|Exit|Interrupt)\b|\berror)\s*:\s*\S", re.I)
_GENERIC = re.compile(r"see root cause above|engine core initialization failed|engine process failed", re.I)


def cause_of_end(run: Run) -> str:
    """A known cause with its line ("the model was not found: OSError: …"), else `last_error_of`; "" without a log."""
    lines = _last_lines(run)
    for pattern, sentence in _CAUSES:
        line = next((line for line in reversed(lines) if pattern.search(line)), None)
        if line is not None:
            return f"{sentence}: {line[:_MOST]}"
    return last_error_of(lines)


def last_error_of(lines: list[str]) -> str:
    """The last line that names an error and says more than that one happened, else the last line."""
    errors = [line for line in lines if _ERROR.search(line)]
    telling = [line for line in errors if not _GENERIC.search(line)]
    return next(iter([*telling[-1:], *errors[-1:], *lines[-1:]]), "")[:_MOST]


def _last_lines(run: Run) -> list[str]:
    found: list[str] = []
    for log in sorted(run.logs(), key=lambda log: log.stream, reverse=True):  # what is on stderr counts last
        with log.path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = [clean_line(line).strip() for line in file.read().decode("utf-8", "replace").split("\n")]
        found += [line for line in lines if line]
    return found
