"""One rank's run from start to end: predict, load, measure each length, find the longest, compare logits."""

import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from llmval_runners.engine.checkpoint.gate import read_checkpoint
from llmval_runners.engine.checkpoint.load import from_checkpoint
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.replicas import Replicas
from llmval_runners.engine.weights import Source, random_weights
from llmval_runners.long_context import failure
from llmval_runners.long_context.engine_adapter import Context, Weights, release
from llmval_runners.long_context.last_screen import last_screen
from llmval_runners.long_context.measure import fidelity, needle
from llmval_runners.long_context.measure.energy import EnergyMeter
from llmval_runners.long_context.measure.fidelity import Samples
from llmval_runners.long_context.measure.length import LengthRun
from llmval_runners.long_context.measure.memory import NvmlMemory, PeakWatch, live_metrics
from llmval_runners.long_context.measure.timing import Interrupted, RunControl, prefill, probe, prompts
from llmval_runners.long_context.predict.peak_memory import Parts, longest_fit, predict
from llmval_runners.long_context.record import prediction_json, prediction_table, residual
from llmval_runners.long_context.result import Result
from llmval_runners.long_context.settings import Settings, check_fits, free_bytes
from llmval_runners.long_context.setup import GIB, Setup
from llmval_runners.long_context.together import replica_json, together
from llmval_runners.process.errors import FAILED_EXIT, GOOD_EXIT, RankLost, Refused, ended_by
from llmval_runners.process.events import EventLog
from llmval_runners.process.output import OutputFile, show, where_of
from llmval_runners.process.placement import Placement, replica_path
from llmval_runners.process.screen import plural
from llmval_runners.process.shutdown import StopSignals

METRICS_S = 0.25


class Session:
    """`run` returns the exit code. If it ends early, `save_partial` writes the results so far."""

    def __init__(self, settings: Settings, events: EventLog, place: Placement) -> None:
        self.settings, self.events, self.place, self.rank = settings, events, place, place.rank
        output = settings.options.output_json
        # The record is rank 0's. Another leader has only its own part, until all of them have ended.
        self.output = None if output is None else replica_path(output, place.replica)
        self.report = settings.options.report
        self.file = OutputFile(self.output) if self.output is not None and place.leads else None
        self.result = Result(settings, place.tensor_parallel, place.data_parallel)
        self.peers = Replicas(place)
        self._others: dict[int, dict[str, Any]] = {}
        self.stop = StopSignals(self._emergency_save)
        self.control = RunControl(self._stopped, self._progress)
        self.parallel: Parallel | None = None
        checkpoint = settings.options.checkpoint
        self._tokenizer = needle.tokenizer_of(checkpoint) if checkpoint else None
        self.value = self.result.value  # the record: of all replicas once they are gathered
        self._length = 0
        self._weights_bytes = self._kv_pool_bytes = self._kv_bytes_per_token = 0
        self._phase_began = self._reported_at = 0.0
        self._free = 0
        self._saving = threading.Lock()

    def run(self) -> int:
        """Raises Refused, Interrupted, RankLost, or the error that ended the run."""
        try:
            return self._run()
        except Refused as refusal:
            self.peers.end(str(refusal), refused=True)
            raise

    def _run(self) -> int:
        settings, device, place = self.settings, self.settings.device, self.place
        self.stop.install()
        copies = f", {place.data_parallel} replicas of the model" if self.peers.several else ""
        self.events.phase("setup", f"{plural(place.world_size, 'rank')} on {device.type}{copies}")
        torch.set_grad_enabled(False)
        self._nvml = NvmlMemory(device)
        self.result.nvml_before = self._nvml.used()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if place.leads and self.output is not None:
            failure.delete_rank_failures(self.output, place.ranks)  # of an earlier run that was killed
        self.peers.start(self._check_signal)
        self.parallel = Parallel(
            device, place.tensor_rank, place.tensor_parallel, store=self.peers.store_for_ranks(),
            first_rank=place.first_rank,
        )  # fmt: skip
        self.parallel.warm_up_nccl(settings.setup.chunk * settings.setup.shape.hidden)  # before memory is counted
        self._free = self.parallel.min_over_ranks(free_bytes(settings))
        predictions = [(length, predict(settings.setup, length)) for length in settings.lengths]
        self.result.add_predictions(predictions, self._free)
        self.events.say(prediction_table(settings.setup, predictions, self._free))
        if not settings.options.ignore_prediction:
            check_fits(settings, self._free)
        limit = settings.options.memory_limit_gib
        if limit is not None and device.type == "cuda":
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, limit * GIB / total), device)
        self._energy = EnergyMeter(device)
        self._save()
        samples = self._measure(self._load(settings.setup, "under test"))
        release(device)
        self._compare(samples)
        self.result.finish()
        code = self._gather() if self.peers.several else 0
        if self.rank != 0:
            return code
        self.value = self._together()
        if self.file is not None:
            with self.stop.protect_write(), self._saving:
                self.file.write(self.value)
            self.events.result(str(self.output), shown=False)
        shown = self._show(self.output)
        is_judged = self.file is not None and self.events.recording  # by llmval, from the complete record
        code = GOOD_EXIT if is_judged else int(self.value["verdict"]["exit_code"]) if shown else FAILED_EXIT
        self.peers.tell_verdict(self.value["verdict"], code)
        return code

    def _stopped(self) -> bool:
        """Whether a signal came. Raises RankLost if another replica has ended."""
        self.peers.check()
        return self.stop.number is not None

    def _check_signal(self) -> None:
        if self.stop.number is not None:
            raise Interrupted

    def _gather(self) -> int:
        """Bring the records of all replicas to rank 0, and wait elsewhere until it has written that of all.

        Returns the exit code of a rank other than 0.
        """
        if self.rank == 0:
            for replica in self.peers.others():
                self._others[replica] = json.loads(self.peers.take("record", replica, self._check_signal))
        elif self.place.leads:
            self.peers.give("record", json.dumps(self._own()).encode(), self._check_signal)
            code = self.peers.hear_verdict(self._check_signal)
            if self.file is not None:
                self.file.discard_partial()
            return code
        return 0

    def _own(self) -> dict[str, Any]:
        place, facts = self.place, {"replica": self.place.replica, "host": self.peers.node}
        return replica_json(self.result.value, facts | {"ranks": list(place.ranks_of(place.replica))})

    def _together(self, early: str | None = None) -> dict[str, Any]:
        """Rank 0: the record of all replicas; of the only one its own."""
        if not self.peers.several:
            return self.result.value
        for replica in self.peers.others():
            self._others.setdefault(replica, self._absent(replica))
        replicas = [self._own(), *(self._others[replica] for replica in self.peers.others())]
        return together(self.result.value, replicas, self.place.tensor_parallel, early)

    def _absent(self, replica: int) -> dict[str, Any]:
        why = "its record did not reach rank 0; if its node lives, it keeps it in a file of its own"
        return {
            "replica": replica, "host": self.peers.nodes.get(replica), "ranks": list(self.place.ranks_of(replica)),
            "device_name": None, "verdict": {"word": "ended early", "reason": why}, "partial": True, "reasons": [why],
            "memory": None, "lengths": [], "find_max": None,
        }  # fmt: skip

    def close(self, code: int) -> None:
        """Leave the process group after a complete run. `code`: with which this rank exits."""
        self.stop.done()
        self.peers.close(code)
        if self.file is not None:
            self.file.release()
        if self.parallel is not None:
            self.parallel.close()

    def save_partial(self, why: str) -> None:
        """Write the results so far, with the failures that other ranks recorded.

        Of several replicas each leader saves its own, and rank 0 all that reach it.
        """
        if self.rank == 0 or not self.place.leads:
            self.peers.end(why)  # now: the others give what they have
        if not self.place.leads:
            return
        failures = failure.read_rank_failures(self.output, self.place.ranks) if self.output is not None else []
        if failures and failures[0]["rank"] != self.rank:  # the reason why this rank was ended, or lost that one
            why = failure.sentence(failures[0], self._length)
        self.result.end_early(failures, why)
        for one in failures:
            if one["rank"] != self.rank and not self.events.recording:  # each rank writes its own into an event file
                self.events.error("out_of_memory", failure.sentence(one, self._length))
        self.value = self.result.value
        if self.rank == 0 and self.peers.several:
            with self.stop.protect_write():  # the others have a few seconds
                early = self.peers.take_early("early")
            self._others |= {replica: json.loads(data) for replica, data in early.items()}
            self.value = self._together(why)
        partial = None
        try:
            if self.file is not None and self.output is not None:
                with self.stop.protect_write(), self._saving:
                    # Memory ran out: that is what this run found.
                    if self.rank == 0 and self.value["verdict"]["word"] == "failed":
                        self.file.write(self.value)
                        partial = self.output
                    else:
                        self.file.write_partial(self.value)
                        partial = self.file.partial
                failure.delete_rank_failures(self.output, self.place.ranks)
                self.events.result(str(partial), shown=False)
        except OSError as error:
            where = self.file.partial if self.file is not None else "the record"
            self.events.error("record_lost", f"{where} cannot be written ({error.strerror})")
        if self.rank == 0:
            self._show(partial)
            return
        self.peers.end(why)
        with suppress(RankLost):
            self.peers.give("early", json.dumps(self._own()).encode(), asked=False)

    def _show(self, path: Path | None) -> bool:
        self.events.clear()
        value, where = self.value, where_of(path, self.file)
        return show(self.report, value, value["verdict"], lambda: last_screen(value, where))

    def record_out_of_memory(self, error: BaseException) -> str:
        """Record this rank's failure for rank 0. Returns it as a sentence."""
        allocated = torch.cuda.memory_allocated() if self.settings.device.type == "cuda" else None
        predicted = predict(self.settings.setup, max(self._length, 1)).total_bytes
        found = failure.describe(error, self.rank, self.control.where, predicted, allocated)
        if self.output is not None:
            failure.write_rank_failure(self.output, found)
        text = failure.sentence(found, self._length)
        self.events.error("out_of_memory", text)
        return text

    def _emergency_save(self, number: int) -> None:
        self.save_partial(ended_by(number))

    def _load(self, setup: Setup, what: str) -> Weights:
        self.events.phase("load", f"{setup.shape.name}, {setup.weight_dtype} weights: {what}")
        self.control.begin("the weights")
        assert self.parallel is not None
        options = self.settings.options
        source: Source = (
            from_checkpoint(read_checkpoint(options.checkpoint), self.settings.device)
            if options.checkpoint
            else random_weights(options.seed, self.settings.device)
        )
        return Weights(setup, source, self.parallel)

    def _measure(self, weights: Weights) -> dict[int, Samples]:
        settings = self.settings
        samples: dict[int, Samples] = {}
        for index, length in enumerate(settings.lengths):
            self._length = length
            self.events.phase("length", f"{index + 1} of {len(settings.lengths)}: {length:,} tokens")
            self.peers.meet(f"length/{index}", self._check_signal)  # all measure at the same time
            run = LengthRun(weights, length, settings, self._energy, self._nvml, self.control)
            entry, context = run.measure(self._enter_phase, self._on_context)
            self.result.add_measurement(length, entry)
            self.result.set_prefill_attention(length, context)
            if settings.reference is not None:
                self._enter_phase("sample")
                self.control.begin("sampling logits")
                samples[length] = fidelity.collect_samples(context, run.sequences[0], run.following)
            if self._tokenizer is not None:
                self._enter_phase("needle")
                found = needle.search(context, self._tokenizer, length, settings.options.seed, self.control)
                self.result.add_needle(length, found)
            del context, run
            release(settings.device)
            self._save()
        if settings.options.find_max:
            self._find_max(weights)
        return samples

    def _find_max(self, weights: Weights) -> None:
        """Predict the longest context, then prove it by its most memory-hungry step."""
        setup, device = self.settings.setup, self.settings.device
        limit = setup.shape.context_limit
        most = [] if limit is None else [max(limit.tokens - setup.decode_tokens, 0)]
        longest = min([longest_fit(setup, self._free), *most])
        found: dict[str, Any] = {"length": longest, "free_bytes": self._free, "proved": False}
        if longest:
            parts = predict(setup, longest)
            found["prediction"] = prediction_json(parts, self._free)
            self.result.value["find_max"] = found
            self._length = longest
            self.events.phase("find-max", f"{longest:,} tokens: the last chunk of such a context, and a decode step")
            watch = PeakWatch(device, self._nvml).start()
            self.control.begin("the KV cache")
            if device.type == "cuda":  # a CPU shares its memory with all processes: filling it would end the machine
                found["failure"] = self._prove(weights, longest)
                found["proved"] = found["failure"] is None
            peaks = watch.stop()
            found |= {"allocated_peak_bytes": peaks.allocated, "missing": peaks.missing}
            found |= residual(peaks.allocated, parts.total_bytes)
            release(device)
        self.result.value["find_max"] = found
        self._save()

    def _prove(self, weights: Weights, length: int) -> dict[str, Any] | None:
        """Run the step that needs the most memory. Returns None, or the failure.

        With several ranks, a failure ends the run: the other ranks wait in a collective.
        """
        try:
            context = Context(weights, length, self.settings.backend)
            probe(context, length, self.settings.options.seed, self.control)
        except RuntimeError as error:
            if self.place.tensor_parallel > 1 or not failure.is_out_of_memory(error):
                raise
            allocated = torch.cuda.memory_allocated(self.settings.device)
            predicted = predict(self.settings.setup, length).total_bytes
            found = failure.describe(error, self.rank, self.control.where, predicted, allocated)
            self.events.warning("find_max", failure.sentence(found, length))
            return found
        return None

    def _compare(self, samples: dict[int, Samples]) -> None:
        """Compare with the reference. Its weights are loaded only now: both sets together would not fit."""
        reference, settings = self.settings.reference, self.settings
        if reference is None or self.parallel is None:
            return
        free = self.parallel.min_over_ranks(free_bytes(settings))
        comparable = {length: predict(reference, length) for length in samples}
        for length in [length for length, parts in comparable.items() if parts.needed_bytes > free]:
            self.result.skip_fidelity(length, _too_large(comparable.pop(length), free))
        if not comparable:
            return
        weights = self._load(reference, "the reference")
        for length in comparable:
            self._length = length
            self.events.phase("reference", f"{length:,} tokens in {reference.dtype}")
            self.control.begin("the reference's KV cache")
            context = Context(weights, length, settings.backend)
            self._on_context(weights, context)
            sequences = prompts(reference.batch, length, reference.shape.vocab, settings.options.seed)
            following = prompts(1, reference.decode_tokens, reference.shape.vocab, settings.options.seed + 1)[0]
            prefill(context, sequences[:1], self.control, "reference")
            found = fidelity.compare(samples.pop(length), context, sequences[0], following)
            self.result.add_fidelity(length, found)
            del context
            release(settings.device)
            self._save()

    def _enter_phase(self, name: str) -> None:
        self._phase_began = time.perf_counter()
        self.events.phase(name, f"{self._length:,} tokens")

    def _on_context(self, weights: Weights, context: Context) -> None:
        cache = context.cache
        self._weights_bytes, self._kv_pool_bytes = weights.bytes, cache.bytes_per_rank
        self._kv_bytes_per_token = cache.bytes_per_rank // (cache.pool.shape[3])
        self.result.set_identity(weights, context)

    def _progress(self, what: str, done: int, total: int) -> None:
        now = time.perf_counter()
        self.events.step = (self.events.step or 0) + 1
        if self.rank != 0 or (now - self._reported_at < METRICS_S and done < total):
            return
        self._reported_at = now
        unit = "steps" if what.endswith("decode") else "tokens"
        self.events.progress(done, total, unit, f"{what} {self._length:,}")
        filled = self._kv_pool_bytes if unit == "steps" else self._kv_bytes_per_token * done
        values = live_metrics(
            self.settings.device,
            weights=self._weights_bytes,
            kv_pool=self._kv_pool_bytes,
            kv_filled=min(filled, self._kv_pool_bytes),
            free_bytes=free_bytes(self.settings),
        )
        if what == "prefill":
            values["prefill_tokens_per_s"] = done / max(now - self._phase_began, 1e-9)
        self.events.metrics(values)

    def _save(self) -> None:
        """Save the record so far; a killed run leaves it."""
        if self.file is not None:
            with self._saving:
                self.file.write_partial(self.result.value)


def _too_large(parts: Parts, free: int) -> str:
    return f"the reference needs {parts.needed_bytes:,} bytes on each GPU and {free:,} are free: use more GPUs"
