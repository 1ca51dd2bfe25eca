"""The rotary embedding that `config.json` asks for. No torch.

The rules are those of transformers 5 (modeling_rope_utils.py). Its field is `rope_parameters`; earlier files have
`rope_theta` and `rope_scaling`, and the earliest call a scaling's kind `type`.
"""

import math
from dataclasses import dataclass
from typing import Any

from llmval_runners.engine.checkpoint.fields import ELSEWHERE, LARGEST, Fields
from llmval_runners.engine.checkpoint.safetensors_header import short
from llmval_runners.engine.shapes import ContextLimit, DividedRope, RopeScaling, YarnRope

DEFAULT_THETA = 10_000.0  # of every family here, if the file names none


@dataclass(frozen=True, slots=True)
class Rope:
    """Frequencies and positions of a model. `attention_factor` multiplies the rotated queries and keys."""

    theta: float
    scaling: RopeScaling | DividedRope | YarnRope | None
    max_positions: int
    attention_factor: float = 1.0
    limit: ContextLimit | None = None


def read_rope(config: Fields, head_dim: int) -> Rope:
    """The rotary embedding of a configuration.

    Raises:
        Refused: a field is malformed, or asks for something else than transformers' default, linear, dynamic, yarn,
            longrope and llama3 embeddings of whole heads.
    """
    positions = config.integer("max_position_embeddings")
    config.only("partial_rotary_factor", (1, 1.0), "rotary embeddings of a part of each head")
    config.only("rope_interleaved", (False,), "interleaved rotary embeddings")
    old, new = config.raw("rope_scaling"), config.raw("rope_parameters")
    for name, value in (("rope_scaling", old), ("rope_parameters", new)):
        if value is not None and not isinstance(value, dict):
            raise config.refusal(f"{name} is {short(value)} and must be an object or null", "correct the file")
    if old and new and old != new:
        raise config.refusal("rope_scaling and rope_parameters differ", "keep the one that the model was trained with")
    values: dict[str, Any] = new or old or {}
    rope = Fields(values, f"{config.where}, {'rope_parameters' if new else 'rope_scaling'}")
    theta = config.number("rope_theta", DEFAULT_THETA, above=1.0)
    theta = rope.number("rope_theta", theta, above=1.0)
    rope.only("partial_rotary_factor", (1, 1.0), "rotary embeddings of a part of each head")
    kind = _kind(rope)
    original = config.raw("original_max_position_embeddings")
    if original is not None:
        config.integer("original_max_position_embeddings")
        rope.values = {**rope.values, "original_max_position_embeddings": original}
    found = _KINDS[kind](rope, theta, positions, head_dim)
    rope.refuse_rest(())
    if not 1e-3 < found.attention_factor < 1e3:
        raise rope.refusal(f"an attention factor of {found.attention_factor:g} cannot be right", "correct the file")
    return found


def _kind(rope: Fields) -> str:
    names = [rope.text(name) for name in ("rope_type", "type") if rope.given(name)]
    rope.raw("rope_type"), rope.raw("type")
    if len(set(names)) > 1:
        raise rope.refusal(f"rope_type is {short(names[0])} and type is {short(names[1])}", "keep one of the two")
    kind = names[0] if names else "default"
    if kind not in _KINDS:
        raise rope.refusal(
            f"the rotary scaling {short(kind)} is not one of {', '.join(_KINDS)}, which this engine implements"
        )
    if not names and any(rope.given(name) for name in rope.values if name not in ("rope_theta", "rope_type", "type")):
        raise rope.refusal("there is a scaling without rope_type", f"add its rope_type, or {ELSEWHERE}")
    return kind


def _default(rope: Fields, theta: float, positions: int, head_dim: int) -> Rope:
    return Rope(theta, None, positions)


def _linear(rope: Fields, theta: float, positions: int, head_dim: int) -> Rope:
    factor = rope.number("factor")
    return Rope(theta, DividedRope((factor,)), _scaled(positions, factor))


def _dynamic(rope: Fields, theta: float, positions: int, head_dim: int) -> Rope:
    """Frequencies depend on the length of a sequence that is longer than the original context."""
    rope.number("factor")
    rope.raw("original_max_position_embeddings")  # transformers does not read it either
    limit = ContextLimit(positions, "has dynamic rotary scaling, which changes with the length of a longer context")
    return Rope(theta, None, positions, limit=limit)


def _llama3(rope: Fields, theta: float, positions: int, head_dim: int) -> Rope:
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    if high <= low:
        raise rope.refusal("high_freq_factor is not above low_freq_factor", "correct the file")
    original = rope.integer("original_max_position_embeddings", positions)
    return Rope(theta, RopeScaling(rope.number("factor"), low, high, original), positions)


def _yarn(rope: Fields, theta: float, positions: int, head_dim: int) -> Rope:
    original = rope.integer("original_max_position_embeddings", positions)
    factor = rope.number("factor")
    fast, slow = (
        rope.number(name) if rope.given(name) else default
        for name, default in (("beta_fast", 32.0), ("beta_slow", 1.0))
    )
    mscale, mscale_all = (
        rope.number(name, above=-1.0) if rope.given(name) else 0.0 for name in ("mscale", "mscale_all_dim")
    )
    for name in ("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate"):
        rope.raw(name)
    if fast <= slow:
        raise rope.refusal("beta_fast is not above beta_slow", "correct the file")
    if rope.given("attention_factor"):
        attention = rope.number("attention_factor")
    elif mscale > 0 and mscale_all > 0:
        attention = _mscale(factor, mscale) / _mscale(factor, mscale_all)
    else:
        attention = _mscale(factor, 1.0)
    # transformers and vLLM take null as false, and a missing field as true.
    truncate = rope.flag("truncate") if rope.given("truncate") else "truncate" not in rope.values
    scaling = YarnRope(factor, original, fast, slow, truncate)
    return Rope(theta, scaling, max(positions, _scaled(original, factor)), attention)


def _mscale(scale: float, mscale: float) -> float:
    """transformers' `get_mscale`, after DeepSeek-V2 (arXiv:2405.04434)."""
    return 1.0 if scale <= 1 else 0.1 * mscale * math.log(scale) + 1.0


def _longrope(rope: Fields, theta: float, positions: int, head_dim: int) -> Rope:
    """A longer context than the original one has other frequencies for all its tokens (arXiv:2402.13753)."""
    original = rope.integer("original_max_position_embeddings", positions)
    factor = rope.number("factor") if rope.given("factor") else positions / original
    if rope.given("attention_factor"):
        attention = rope.number("attention_factor")
    else:
        attention = 1.0 if factor <= 1 or original < 2 else math.sqrt(1 + math.log(factor) / math.log(original))
    rope.raw("factor"), rope.raw("attention_factor")
    for name in ("short_factor", "long_factor"):
        value = rope.raw(name)
        if not (isinstance(value, list) and len(value) == head_dim // 2 and all(map(_is_divisor, value))):
            raise rope.refusal(f"{name} must be a list of {head_dim // 2} positive numbers", "correct the file")
    short_factor = tuple(map(float, rope.values["short_factor"]))
    if rope.values["short_factor"] == rope.values["long_factor"]:
        limit = None
    else:
        limit = ContextLimit(original, "has longrope, which gives a longer context other frequencies")
    return Rope(theta, DividedRope(short_factor), positions, attention, limit)


def _is_divisor(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < 1e30  # type: ignore[operator]  # the type was checked


def _scaled(positions: int, factor: float) -> int:
    """The context that a scaling by `factor` reaches, as vLLM derives it."""
    return min(LARGEST, max(positions, round(positions * factor)))


_KINDS = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _llama3,
}
