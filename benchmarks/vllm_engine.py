"""`python -m benchmarks.vllm_engine MODEL OUT.json`: rows of `engine_benchmark.py` on vLLM's engine, without a server.

Needs vLLM 0.25 and one GPU. MODEL is a folder with `config.json` and any tokenizer; the weights are random, as those of
`engine_benchmark.py` are.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODES: dict[str, dict[str, str]] = {"bf16": {}, "fp8": {"quantization": "fp8", "kv_cache_dtype": "fp8"}}
REPEATS = 3

# From a number of random prompts, the tokens of each and the new tokens of each: the seconds that the engine took.
Call = Callable[[int, int, int], float]


def engine(model: str, precision: str) -> Call:
    import vllm

    llm = vllm.LLM(
        model=model, load_format="dummy", dtype="bfloat16", max_model_len=66_048, enable_prefix_caching=False,
        max_num_batched_tokens=8192, max_num_seqs=256, gpu_memory_utilization=0.85, **MODES[precision],
    )  # fmt: skip
    draw = random.Random(0)

    def call(count: int, length: int, new: int) -> float:
        prompts = [{"prompt_token_ids": [draw.randrange(10, 128_000) for _ in range(length)]} for _ in range(count)]
        sampling = vllm.SamplingParams(
            temperature=0, max_tokens=new, min_tokens=new, ignore_eos=True, detokenize=False
        )  # fmt: skip
        start = time.perf_counter()
        answers = llm.generate(prompts, sampling, use_tqdm=False)
        took = time.perf_counter() - start
        assert [len(answer.outputs[0].token_ids) for answer in answers] == [new] * count
        return took

    return call


def rows(call: Call) -> dict[str, Any]:
    """Medians. A decode step is (a call with `new` tokens − a call with one) / (`new` − 1), host time included."""
    call(4, 1024, 8)

    def prefill_and_step(count: int, length: int, new: int) -> tuple[float, float]:
        one = statistics.median(call(count, length, 1) for _ in range(REPEATS))
        more = statistics.median(call(count, length, new) for _ in range(REPEATS))
        return one, (more - one) / (new - 1) * 1000

    decode = {batch: prefill_and_step(batch, 1024, 129)[1] for batch in (1, 32, 256)}
    call(2, 4096, 1)
    prompts = statistics.median(call(16, 4096, 1) for _ in range(REPEATS))
    long_s, long_step_ms = prefill_and_step(1, 65_536, 65)
    return {
        "decode_step_ms": decode,
        "prefill_tokens_per_s": 16 * 4096 / prompts,
        "long_prefill_s": long_s,
        "long_decode_step_ms": long_step_ms,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vllm_engine")
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--precision", choices=MODES, default="bf16")
    options = parser.parse_args()
    record = {"precision": options.precision, **rows(engine(options.model, options.precision))}
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
