"""One rank's validation from start to end: predict, load, measure each length, find the longest, compare logits."""

import threading
import time
from typing import Any

import torch
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.weights import Source, from_checkpoint, random_weights
from llmval_runners.long_context import failure
from llmval_runners.long_context.engine_adapter import Context, Weights, release
from llmval_runners.long_context.measure import fidelity, needle
from llmval_runners.long_context.measure.energy import Energy
from llmval_runners.long_context.measure.fidelity import Samples
from llmval_runners.long_context.measure.length import LengthRun
from llmval_runners.long_context.measure.memory import Nvml, Watch, live_metrics
from llmval_runners.long_context.measure.timing import Report, prefill, probe, prompts
from llmval_runners.long_context.predict.peak_memory import Parts, longest_fit, predict
from llmval_runners.long_context.record import prediction_json, prediction_table, residual, table
from llmval_runners.long_context.result import Result
from llmval_runners.long_context.settings import Settings, check_fits, free_bytes
from llmval_runners.long_context.setup import Setup
from llmval_runners.process.events import EventLog
from llmval_runners.process.shutdown import StopSignals

METRICS_S = 0.25


class Session:
    """`run` gives the exit code; `keep` writes what there is when it ends early."""

    def __init__(self, settings: Settings, events: EventLog, rank: int, world_size: int) -> None:
        self.settings, self.events, self.rank, self.world_size = settings, events, rank, world_size
        self.output = settings.options.output_json
        self.result = Result(settings, world_size)
        self.stop = StopSignals(self._emergency_save)
        self.report = Report(lambda: self.stop.number is not None, self._progress)
        self.parallel: Parallel | None = None
        self._tokenizer = needle.tokenizer_of(settings.options.checkpoint) if settings.options.checkpoint else None
        self._length, self._kv_of_token, self._sizes = 0, 0, (0, 0)
        self._began = self._told = 0.0
        self._free = 0
        self._saving = threading.Lock()

    def run(self) -> int:
        """Raises Refused, Interrupted, RankLost, or what went wrong."""
        settings, device = self.settings, self.settings.device
        self.stop.install()
        self.events.phase("setup", f"{self.world_size} ranks on {device.type}")
        torch.set_grad_enabled(False)
        self._nvml = Nvml(device)
        self.result.nvml_before = self._nvml.used()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if self.rank == 0 and self.output is not None:
            failure.forget(self.output, self.world_size)  # of an earlier run that was killed
        self.parallel = Parallel(device, self.rank, self.world_size)
        self.parallel.connect(settings.setup.chunk * settings.setup.shape.hidden)  # before memory is counted
        self._free = self.parallel.smallest(free_bytes(settings))
        found = [(length, predict(settings.setup, length)) for length in settings.lengths]
        self.result.predicted(found, self._free)
        if self.rank == 0:
            print(prediction_table(settings.setup, found, self._free), flush=True)
        if not settings.options.ignore_prediction:
            check_fits(settings, self._free)
        limit = settings.options.memory_limit_gib
        if limit is not None and device.type == "cuda":
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, limit * 1024**3 / total), device)
        self._energy = Energy(device)
        self._save()
        samples = self._measure(self._load(settings.setup, "what is tested"))
        release(device)
        self._compare(samples)
        self.result.finish()
        self._save()
        if self.rank == 0:
            if settings.lengths:
                print(table(self.result.value), flush=True)
            for reason in self.result.value["reasons"]:
                print(reason, flush=True)
        if self.output is not None:
            self.events.result(str(self.output))
        return 0 if not self.result.value["reasons"] else 1

    def close(self) -> None:
        """After a whole run: leave the process group."""
        self.stop.done()
        if self.parallel is not None:
            self.parallel.close()

    def keep(self, why: str) -> None:
        """Write what there is, and with it what other ranks left of their failures."""
        if self.rank != 0:
            return
        left = failure.gather(self.output, self.world_size) if self.output is not None else []
        if left and left[0]["rank"] != self.rank:  # why this rank was ended, or lost that one
            why = failure.sentence(left[0], self._length)
        self.result.broke(left, why)
        for one in left:
            if one["rank"] != self.rank and not self.events.recording:  # into the file each rank has written it itself
                self.events.error("out_of_memory", failure.sentence(one, self._length))
        try:
            self._save()
            if self.output is not None:
                failure.forget(self.output, self.world_size)
                self.events.result(str(self.output))
        except OSError as error:
            self.events.error("record_lost", f"{self.output} cannot be written ({error.strerror})")

    def out_of_memory(self, error: BaseException) -> str:
        """Leave this rank's word of it; the sentence for people."""
        allocated = torch.cuda.memory_allocated() if self.settings.device.type == "cuda" else None
        predicted = predict(self.settings.setup, max(self._length, 1)).total_bytes
        found = failure.describe(error, self.rank, self.report.where, predicted, allocated)
        if self.output is not None:
            failure.leave(self.output, found)
        text = failure.sentence(found, self._length)
        self.events.error("out_of_memory", text)
        return text

    def _emergency_save(self, number: int) -> None:
        self.keep(f"ended by signal {number}")

    def _load(self, setup: Setup, what: str) -> Weights:
        self.events.phase("load", f"{setup.shape.name}, {setup.weight_dtype} weights: {what}")
        self.report.at("the weights")
        assert self.parallel is not None
        options = self.settings.options
        source: Source = (
            from_checkpoint(options.checkpoint)
            if options.checkpoint
            else random_weights(options.seed, self.settings.device)
        )
        return Weights(setup, source, self.parallel)

    def _measure(self, weights: Weights) -> dict[int, Samples]:
        settings, samples = self.settings, {}
        for index, length in enumerate(settings.lengths):
            self._length = length
            self.events.phase("length", f"{index + 1} of {len(settings.lengths)}: {length:,} tokens")
            one = LengthRun(weights, length, settings, self._energy, self._nvml, self.report)
            entry, context = one.measure(self._phase, self._sized)
            self.result.measured(length, entry)
            self.result.prefilled(length, context)
            if settings.reference is not None:
                self._phase("sample")
                self.report.at("sampling logits")
                samples[length] = fidelity.keep(context, one.sequences[0], one.following)
            if self._tokenizer is not None:
                self._phase("needle")
                found = needle.search(context, self._tokenizer, length, settings.options.seed, self.report)
                self.result.needle(length, found)
            del context, one
            release(settings.device)
            self._save()
        if settings.options.find_max:
            self._find_max(weights)
        return samples

    def _find_max(self, weights: Weights) -> None:
        """By the prediction, and proved by the step that needs the most memory of such a context."""
        setup, device = self.settings.setup, self.settings.device
        longest = longest_fit(setup, self._free)
        found: dict[str, Any] = {"length": longest, "free_bytes": self._free, "proved": False}
        if longest:
            parts = predict(setup, longest)
            found["prediction"] = prediction_json(parts, self._free)
            self.result.value["find_max"] = found
            self._length = longest
            self.events.phase("find-max", f"{longest:,} tokens: the last chunk of such a context, and a decode step")
            watch = Watch(device, self._nvml).start()
            self.report.at("the KV cache")
            if device.type == "cuda":  # on a CPU "free" is shared with all else, and filling it would end the machine
                found["failure"] = self._prove(weights, longest)
                found["proved"] = found["failure"] is None
            peaks = watch.stop()
            found |= {"allocated_peak_bytes": peaks.allocated, "missing": peaks.missing}
            found |= residual(peaks.allocated, parts.total_bytes)
            release(device)
        self.result.value["find_max"] = found
        if self.rank == 0:
            print(f"longest context that fits: {longest:,} tokens" + ("" if found["proved"] else " (by prediction)"))
        self._save()

    def _prove(self, weights: Weights, length: int) -> dict[str, Any] | None:
        """Run the step that needs the most; None, or why it could not. One of several ranks that fails ends the run."""
        try:
            context = Context(weights, length, self.settings.backend)
            probe(context, length, self.settings.options.seed, self.report)
        except RuntimeError as error:
            if self.world_size > 1 or not failure.is_out_of_memory(error):
                raise
            allocated = torch.cuda.memory_allocated(self.settings.device)
            predicted = predict(self.settings.setup, length).total_bytes
            found = failure.describe(error, self.rank, self.report.where, predicted, allocated)
            self.events.warning("find_max", failure.sentence(found, length))
            return found
        return None

    def _compare(self, samples: dict[int, Samples]) -> None:
        """The reference after the weights under test are gone: both together need room that a server never has."""
        reference, settings = self.settings.reference, self.settings
        if reference is None or self.parallel is None:
            return
        free = self.parallel.smallest(free_bytes(settings))
        can = {length: predict(reference, length) for length in samples}
        for length in [length for length, parts in can.items() if parts.needed_bytes > free]:
            self.result.no_fidelity(length, _too_large(can.pop(length), free))
        if not can:
            return
        weights = self._load(reference, "the reference")
        for length in can:
            self._length = length
            self.events.phase("reference", f"{length:,} tokens in {reference.dtype}")
            self.report.at("the reference's KV cache")
            context = Context(weights, length, settings.backend)
            self._sized(weights, context)
            one = prompts(reference.batch, length, reference.shape.vocab, settings.options.seed)
            following = prompts(1, reference.decode_tokens, reference.shape.vocab, settings.options.seed + 1)[0]
            prefill(context, one[:1], self.report, "reference")
            found = fidelity.compare(samples.pop(length), context, one[0], following)
            self.result.fidelity(length, found)
            del context
            release(settings.device)
            self._save()

    def _phase(self, name: str) -> None:
        self._began = time.perf_counter()
        self.events.phase(name, f"{self._length:,} tokens")

    def _sized(self, weights: Weights, context: Context) -> None:
        cache = context.cache
        self._sizes = (weights.bytes, cache.bytes_per_rank)
        self._kv_of_token = cache.bytes_per_rank // (cache.pool.shape[3])
        self.result.resolved(weights, context)

    def _progress(self, what: str, done: int, total: int) -> None:
        now = time.perf_counter()
        self.events.step = (self.events.step or 0) + 1
        if self.rank != 0 or (now - self._told < METRICS_S and done < total):
            return
        self._told = now
        unit = "steps" if what.endswith("decode") else "tokens"
        self.events.progress(done, total, unit, f"{what} {self._length:,}")
        filled = self._sizes[1] if unit == "steps" else self._kv_of_token * done
        values = live_metrics(
            self.settings.device,
            weights=self._sizes[0],
            kv_pool=self._sizes[1],
            kv_filled=min(filled, self._sizes[1]),
            free_bytes=free_bytes(self.settings),
        )
        if what == "prefill":
            values["prefill_tokens_per_s"] = done / max(now - self._began, 1e-9)
        self.events.metrics(values)

    def _save(self) -> None:
        if self.rank == 0 and self.output is not None:
            with self._saving:
                self.result.write(self.output)


def _too_large(parts: Parts, free: int) -> str:
    return f"the reference needs {parts.needed_bytes:,} bytes on each GPU and {free:,} are free: use more GPUs"
