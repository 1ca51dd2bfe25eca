"""`--predict-only`: what fits, from the shape and the free memory. Starts no rank and allocates nothing."""

from typing import Any

from llmval_runners.long_context.last_screen import last_screen, verdict_of
from llmval_runners.long_context.options import LongContextOptions
from llmval_runners.long_context.predict.advice import fits, refusal
from llmval_runners.long_context.predict.peak_memory import longest_fit, predict
from llmval_runners.long_context.record import prediction_json, prediction_table
from llmval_runners.long_context.result import Result
from llmval_runners.long_context.settings import decide, free_bytes
from llmval_runners.process.errors import FAILED_EXIT
from llmval_runners.process.output import OutputFile, say, show, where_of
from llmval_runners.process.placement import Placement


def predict_only(options: LongContextOptions, ranks: int) -> int:
    """Print the predictions and write them to `--output-json`. Returns 0 if every length fits, else 1."""
    settings = decide(options, Placement(0, ranks, 0, ranks, ranks))
    free = free_bytes(settings)
    predictions = [(length, predict(settings.setup, length)) for length in settings.lengths]
    if not options.report.quiet:
        say(prediction_table(settings.setup, predictions, free), to_stderr=options.report.as_json)
    reasons = [
        refusal(settings.setup, length, free) for length in settings.lengths if not fits(settings.setup, length, free)
    ]
    result = Result(settings, ranks)
    result.add_predictions(predictions, free)
    if options.find_max:
        longest = longest_fit(settings.setup, free)
        maximum: dict[str, Any] = {"length": longest, "free_bytes": free, "proved": False}
        if longest:
            maximum["prediction"] = prediction_json(predict(settings.setup, longest), free)
        result.value["find_max"] = maximum
    result.value["reasons"] = ["only predicted (--predict-only): nothing was run", *reasons]
    verdict = verdict_of(result.value)
    result.value["verdict"] = verdict.as_json()
    file = OutputFile(options.output_json) if options.output_json is not None else None
    if file is not None:
        file.write(result.value)
        file.release()
    where = where_of(options.output_json, file)
    shown = show(options.report, result.value, result.value["verdict"], lambda: last_screen(result.value, where))
    return verdict.exit_code if shown else FAILED_EXIT
