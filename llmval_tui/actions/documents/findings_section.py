"""A long-context result as a dated section of Markdown, added between the markers of a document."""

from typing import Any

from llmval_tui.actions.documents.marker_block import newline_of, with_markers
from llmval_tui.actions.judges.long_context import LongContextResult, peak_bytes
from llmval_tui.foundation.text import GIB, clean_line
from llmval_tui.runs.records import Intent

BEGIN, END = "<!-- llmval:findings:begin -->", "<!-- llmval:findings:end -->"
NEW_DOCUMENT = f"""# Long-context playbook

The cost of each context length on this node, one section for each accepted run.

{BEGIN}
{END}
"""
_NOTHING_YET = "Not measured yet."
_COLUMNS = (
    "tokens", "state", "predicted GiB", "peak GiB", "error %", "NVML GiB", "prefill s", "tokens/s", "MFU %", "TTFT ms",
    "step ms", "MBU %", "tokens/J prefill", "tokens/J decode", "relative error", "top-1 %", "KL nats",
)  # fmt: skip


def section_of(result: LongContextResult, intent: Intent, artifact: str, sha256: str) -> list[str]:
    """The lines of the section. An unmeasured figure is a dash; percentages relate to the first peak named."""
    identity, setup = result.identity, result.value["setup"]
    copies = f"{len(result.replicas)} × " if len(result.replicas) > 1 else ""
    device = f"{copies}{identity['tensor_parallel']} × {identity['device_name']}" if result.on_gpu else "CPU"
    date = str(result.value["started_utc"])[:10]
    types = f"weights {identity['matrix_dtype']}, KV cache {identity['kv_dtype']}"
    head = f"### {date}: {identity['model']}, {device}, {types}"
    driver = intent.host.get("driver_version") or (intent.host.get("gpu") or {}).get("driver_version") or "unknown"
    lines = [
        _plain(head),
        "",
        f"- run `{intent.run_id}`, artifact `{_plain(artifact)}`, SHA-256 `{sha256}`",
        _plain(
            f"- {identity['weights']} weights, batch {setup['batch']}, chunks of {setup['chunk']}, attention "
            f"{identity['attention_backend']} ({identity['attention_kernel']}), decode by {identity['decode_steps']}, "
            f"torch {identity['torch_version']}, driver {driver}"
        ),
        *(_plain(f"- deviation: {line}") for line in intent.deviations),
    ]
    peaks = sorted({share["peak_source"] for entry in result.lengths for share in _first_shares(entry)})
    lines += [_plain(f"- peaks of MFU and MBU: {'; '.join(peaks)}")] if peaks else []
    found = result.value["find_max"]
    if found is not None:
        how = "proved by a step" if found["proved"] else "by prediction"
        lines.append(f"- longest context that fits: {found['length']:,} tokens ({how})")
    return [*lines, "", *_table(result), ""]


def _table(result: LongContextResult) -> list[str]:
    rows = [f"| {' | '.join(_row(entry))} |" for entry in result.lengths]
    return [f"| {' | '.join(_COLUMNS)} |", "|" + "---|" * len(_COLUMNS), *rows]


def _row(entry: dict[str, Any]) -> list[str]:
    prefill, decode = entry["prefill"] or {}, entry["decode"] or {}
    peak, total = peak_bytes(entry), entry["prediction"]["total_bytes"]
    nvml = [rank["nvml_peak_bytes"] for rank in entry["memory"]]
    fidelity = entry["fidelity"]["prompt"] or {}
    mfu, mbu = ((part.get(name) or [{}])[0].get("percent") for part, name in ((prefill, "mfu"), (decode, "mbu")))
    joules = [(part.get("energy") or {}).get("tokens_per_joule") for part in (prefill, decode)]
    top1 = fidelity.get("top1_agreement")
    return [
        f"{entry['sequence_length']:,}",
        str(entry["status"]).replace("_", " "),
        _number(total / GIB, 2),
        _number(None if peak is None else peak / GIB, 2),
        _number(None if peak is None else 100 * (peak - total) / total, 2, sign=True),
        _number(None if not nvml or None in nvml else max(nvml) / GIB, 2),
        _number(prefill.get("seconds"), 3),
        _number(prefill.get("tokens_per_s"), 0),
        _number(mfu, 1),
        _number(prefill.get("ttft_ms"), 1),
        _number(decode.get("step_ms"), 3),
        _number(mbu, 1),
        _number(joules[0], 2),
        _number(joules[1], 3),
        _number(fidelity.get("relative_error"), 4),
        _number(None if top1 is None else 100 * top1, 1),
        _number(fidelity.get("kl_mean_nats"), 5),
    ]


def _first_shares(entry: dict[str, Any]) -> list[dict[str, Any]]:
    parts = ((entry["prefill"] or {}).get("mfu"), (entry["decode"] or {}).get("mbu"))
    return [shares[0] for shares in parts if shares]


def _number(value: float | None, digits: int, *, sign: bool = False) -> str:
    return "–" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def _plain(text: str) -> str:
    """Text of a result or a host, safe for a line of Markdown: no control characters, no markup."""
    return clean_line(text.replace("\n", " ")).replace("<", "‹").replace(">", "›").replace("|", "/")


def with_section(text: str, section: list[str], document: str) -> str:
    """The document with one more section between its markers, after the existing ones; every other byte stays.

    Raises:
        Refused: the markers do not pair up.
    """
    text, (start, end) = with_markers(text, BEGIN, END, "## Findings", document)
    newline = newline_of(text)
    # Only the placeholder's line is removed; anything that an operator wrote beside it stays.
    kept = "".join(line for line in text[start:end].splitlines(keepends=True) if not line.startswith(_NOTHING_YET))
    kept = kept.rstrip("\r\n")
    before = f"{kept}{newline}{newline}" if kept.strip() else newline
    return text[:start] + before + newline.join(section) + newline + text[end:]
