"""The load of a load test: lengths, rate, service level, search and profile. The engine has its own configuration."""

from dataclasses import dataclass
from pathlib import Path

from llmval_runners.engine.config import EngineConfig, configure, model_shape
from llmval_runners.engine.settings import FlagNames
from llmval_runners.engine.shapes import ModelShape
from llmval_runners.load_test.generator import Lengths, Load, arrival_times, schedule
from llmval_runners.load_test.load_flags import SearchOptions
from llmval_runners.load_test.metrics import LEAST_REQUESTS, Slo
from llmval_runners.load_test.options import LoadTestOptions, ProfileOptions
from llmval_runners.process.errors import Refused
from llmval_runners.process.files import check_writable
from llmval_runners.process.placement import Placement

REPLICA_SEEDS_APART = 1_000_003  # far from those of a search's trials (rate_search.py)
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
    replica: int = 0  # this one, of `replicas`
    replicas: int = 1

    @classmethod
    def of(cls, options: LoadTestOptions, shape: ModelShape, replica: int = 0, replicas: int = 1) -> "LoadConfig":
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
            replica=replica,
            replicas=replicas,
        )

    @property
    def longest_context(self) -> int:
        """The longest context of a request, in tokens. For a search, the longest possible: each trial draws again."""
        if self.search is not None:
            return self.prompt.most + self.output.most - 1
        load = self.load()
        return max(a.input_tokens + a.output_tokens - 1 for a in load.arrivals + load.warmup)

    def load(self, qps: float | None = None, seed: int | None = None, replica: int | None = None) -> Load:
        """The requests of one window on a replica (None: this one). `qps` and `seed`: of a trial over all replicas;
        None: the configured ones.

        Each replica has arrivals of its own, at its share of the rate and from a seed of its own. Poisson arrivals at
        all of them together are then Poisson arrivals at the whole rate.

        Raises:
            Refused: fewer than two requests.
        """
        qps, seed = self.target_qps if qps is None else qps, self.seed if seed is None else seed
        qps = qps / self.replicas
        seed += REPLICA_SEEDS_APART * (self.replica if replica is None else replica)
        try:
            times = arrival_times(qps, self.duration_s, self.burstiness, seed)
        except Refused as refusal:
            if self.replicas == 1:
                raise
            raise Refused(f"each of {self.replicas} replicas takes its share of the rate: {refusal}") from None
        warmup = schedule([0.0] * self.warmup, self.prompt, self.output, seed + 1)
        return Load(schedule(times, self.prompt, self.output, seed), warmup, qps, self.duration_s, seed)


def configure_load_test(options: LoadTestOptions, place: Placement) -> tuple[EngineConfig, LoadConfig]:
    """Decide everything that needs no weights.

    Raises:
        Refused: this machine or this release cannot run it, or the result cannot be written.
    """
    if place.data_parallel > 1 and options.profile.kind != "none":
        raise Refused("--profile traces one replica, and this launch has several: run it on one node.")
    shape = model_shape(options.engine, FlagNames())
    load = LoadConfig.of(options, shape, place.replica, place.data_parallel)
    engine = configure(
        options.engine, shape, load.longest_context, world_size=place.tensor_parallel, local_rank=place.local_rank,
        local_ranks=place.local_world_size,
    )  # fmt: skip
    requests = round(load.target_qps / load.replicas * load.duration_s)
    if load.search is not None and requests < LEAST_REQUESTS:  # load_flags.py has looked at all replicas together
        raise Refused(
            f"each of {load.replicas} replicas takes its share of --target-qps {load.target_qps:g}: {requests} "
            f"requests a trial, and {LEAST_REQUESTS} show whether a queue grows: pass a longer --trial-duration."
        )
    if load.output_json is not None:
        check_writable(load.output_json, "--output-json")
    return engine, load
