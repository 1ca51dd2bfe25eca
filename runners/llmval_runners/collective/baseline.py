"""The comparison with an earlier record of the same node. No torch."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmval_runners.collective.options import CollectiveOptions
from llmval_runners.collective.verdict import KIND, SMALLEST_COMPARED
from llmval_runners.process.errors import Refused
from llmval_runners.process.files import check_writable


def check_files(options: CollectiveOptions) -> dict[str, Any] | None:
    """The baseline, if any. Raises Refused: the record could not be written, or the baseline is not one."""
    path = options.output_json
    if path is not None:
        check_writable(path, "--output-json")
        if path.suffix != ".json":
            raise Refused(f"--output-json {path} does not end in .json: pass such a name.")
    return None if options.baseline is None else read(options.baseline, options.tolerance_percent)


def read(path: Path, tolerance_percent: float) -> dict[str, Any]:
    """The earlier record with its hash. Raises Refused: it cannot be read, or is something else."""
    try:
        data = path.read_bytes()
        record = json.loads(data)
        if record["kind"] != KIND:
            raise ValueError(f"kind {record['kind']}")
        figures = dict(_figures(record))
    except OSError as error:
        raise Refused(f"--baseline {path} cannot be read ({error.strerror}): pass an earlier --output-json.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(
            f"--baseline {path} is not a record of this program ({error}): pass an earlier --output-json."
        ) from None
    return {
        "path": str(path),
        "sha256": hashlib.sha256(data).hexdigest(),
        "date": record["date"],
        "ranks": len(record["gpus"]),
        "gpu": record["gpus"][0]["name"],
        "tolerance_percent": tolerance_percent,
        "figures": figures,
    }


def compared(baseline: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison for the record: every figure that both have, in GB/s, and the ratio of now to before."""
    found = []
    for what, now in _figures(record):
        before = baseline["figures"].get(what)
        if before:
            found.append({"what": what, "before": before, "now": now, "ratio": now / before})
    return {key: value for key, value in baseline.items() if key != "figures"} | {"compared": found}


def _figures(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for one in record["rows"]:
        if one["busbw_gb_per_s"] is not None and one["bytes"] >= SMALLEST_COMPARED:
            yield f"{one['operation']} {one['bytes']} {one['dtype']} {one['mode']} busbw", float(one["busbw_gb_per_s"])
    for one in record["pairs"]["cells"]:
        if one["gb_per_s"] is not None:
            how = "both ways" if one["directions"] == 2 else "one way"
            access = f" {one['access']}" if one["access"] else ""
            yield f"{one['method']}{access} {one['from']}→{one['to']} {how}", float(one["gb_per_s"])
