"""The load test's refusals in the words of the engine benchmark, which makes its configuration and has other flags."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from llmval_runners.process.errors import Refused

SIZES = "--batches, --context, --prompts, --prompt or --long"
# In this order: what a sentence advises, then what it complains of.
OWN_FLAGS = (
    (r"pass --fp8-mode none|pass --kv-dtype auto", "pass --precisions bf16"),
    (r"pass --fp8-mode native", "pass --precisions fp8"),
    (r"pass --kv-tokens \d+ or (less|fewer|more, or shorter --prompt-len and --output-len)", f"pass smaller {SIZES}"),
    (r"pass a smaller --kv-tokens, --max-batch or --prefill-chunk", f"pass a smaller --chunk, {SIZES}"),
    (r"pass shorter --prompt-len or --output-len", f"pass smaller {SIZES}"),
    (r", or --checkpoint DIR", ""),
    (r"to try the load test", "to try it"),
    (r"--nproc_per_node", "--tensor-parallel-gpus"),
    (r"(--fp8-mode|--kv-dtype) [\w-]+", "--precisions {precision}"),
)


@contextmanager
def own_flags(precision: str) -> Iterator[None]:
    """Raise the load test's refusals anew; `precision` is the one of --precisions that is being set up."""
    try:
        yield
    except Refused as refusal:
        sentence = str(refusal)
        for theirs, ours in OWN_FLAGS:
            sentence = re.sub(theirs, ours.format(precision=precision), sentence)
        raise Refused(sentence) from refusal
