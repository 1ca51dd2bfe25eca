"""The load of a load test: lengths, rate, service level, search and profile. The engine has its own configuration."""

from dataclasses import dataclass
from pathlib import Path

from llmval_runners.engine.config import EngineConfig, configure, model_shape
from llmval_runners.engine.settings import FlagNames
from llmval_runners.engine.shapes import ModelShape
from llmval_runners.load_test.generator import Lengths, Load, arrival_times, schedule
from llmval_runners.load_test.load_flags import SearchOptions
from llmval_runners.load_test.metrics import Slo
from llmval_runners.load_test.options import LoadTestOptions, ProfileOptions
from llmval_runners.process.files import check_writable

SMALL_MODEL = 100_000_000  # parameters; smaller models have short prompts and outputs by default


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """The offered load and the limits for its answers. Rates in requests/s, lengths in tokens."""

    prompt: Lengths
    output: Lengths
    target_qps: float
    duration_s: float
    burstiness: float
    warmup: int
    drain_timeout_s: float
    max_in_flight: int | None
    seed: int
    slo: Slo
    search: SearchOptions | None
    profile: ProfileOptions
    output_json: Path | None

    @classmethod
    def of(cls, options: LoadTestOptions, shape: ModelShape) -> "LoadConfig":
        """The load for a model. Raises Refused if a length is not a distribution."""
        small = shape.parameters < SMALL_MODEL
        return cls(
            prompt=Lengths.parse(options.prompt_len or ("uniform:16:64" if small else "uniform:512:1024")),
            output=Lengths.parse(options.output_len or ("8" if small else "512")),
            target_qps=options.target_qps,
            duration_s=options.duration_s,
            burstiness=options.burstiness,
            warmup=options.warmup,
            drain_timeout_s=options.drain_timeout_s,
            max_in_flight=options.max_in_flight,
            seed=options.engine.seed,
            slo=options.slo,
            search=options.search,
            profile=options.profile,
            output_json=options.output_json,
        )

    @property
    def longest_context(self) -> int:
        """The longest context of a request, in tokens. For a search, the longest possible: each trial draws again."""
        if self.search is not None:
            return self.prompt.most + self.output.most - 1
        load = self.load()
        return max(a.input_tokens + a.output_tokens - 1 for a in load.arrivals + load.warmup)

    def load(self, qps: float | None = None, seed: int | None = None) -> Load:
        """The requests of one window. `qps` and `seed`: of a trial; None: the configured ones.

        Raises:
            Refused: fewer than two requests.
        """
        qps, seed = self.target_qps if qps is None else qps, self.seed if seed is None else seed
        times = arrival_times(qps, self.duration_s, self.burstiness, seed)
        warmup = schedule([0.0] * self.warmup, self.prompt, self.output, seed + 1)
        return Load(schedule(times, self.prompt, self.output, seed), warmup, qps, self.duration_s, seed)


def configure_load_test(
    options: LoadTestOptions, *, world_size: int, local_rank: int
) -> tuple[EngineConfig, LoadConfig]:
    """Decide everything that needs no weights.

    Raises:
        Refused: this machine or this release cannot run it, or the result cannot be written.
    """
    shape = model_shape(options.engine, FlagNames())
    load = LoadConfig.of(options, shape)
    engine = configure(options.engine, shape, load.longest_context, world_size=world_size, local_rank=local_rank)
    if load.output_json is not None:
        check_writable(load.output_json, "--output-json")
    return engine, load
