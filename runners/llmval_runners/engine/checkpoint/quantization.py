"""The field `quantization_config`: the formats that are read, and those that are refused by name. No torch.

Which tensor is quantised, and with how many scales, is read from the tensors (`tensors.py`). The field only has to
name a format in which a weight is `stored value · scale`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmval_runners.engine.checkpoint.fields import ELSEWHERE, Fields
from llmval_runners.engine.checkpoint.safetensors_header import short

_FP8, _INT8 = "F8_E4M3", "I8"


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the matrices of a checkpoint are stored: in `dtype`, times scales. `block`: rows and columns of a scale's
    block, if it has such scales."""

    method: str  # `quant_method` of `quantization_config`
    dtype: str  # F8_E4M3 or I8
    block: tuple[int, int] | None = None


def read_quantization(config: Fields, modelopt: Fields | None = None) -> Quantization | None:
    """The format of the checkpoint's matrices; None if they are not quantised.

    Args:
        config: the fields of `config.json`.
        modelopt: those of `hf_quant_config.json`, which ModelOpt writes. It counts if `config.json` says nothing.

    Raises:
        Refused: the format is not one of those above, or the field is malformed.
    """
    values = config.raw("quantization_config")
    compression = config.raw("compression_config")  # the earlier name of compressed-tensors
    values = values if values is not None else compression
    if values is None:
        return _modelopt(modelopt) if modelopt is not None else None
    if not isinstance(values, dict):
        raise config.refusal(f"quantization_config is {short(values)} and must be an object", "correct the file")
    own = Fields(values, f"{config.where}, quantization_config")
    method = own.text("quant_method") if own.given("quant_method") else own.raw("quant_method")
    if method is None:
        raise own.refusal(
            "quant_method is missing, so it is unclear how the weights are stored",
            f"pass a checkpoint in 16 bits or FP8, or {ELSEWHERE}",
        )
    read = _METHODS.get(str(method))
    if read is None:
        raise own.refusal(
            f"{short(method)} quantisation is not one of {', '.join(_METHODS)}, which this engine reads",
            f"pass a checkpoint in 16 bits or FP8, or {ELSEWHERE}",
        )
    found = read(own)
    own.refuse_rest(())
    return found


def _fp8(own: Fields) -> Quantization:
    """FP8 by AutoFP8, vLLM's llm-compressor before compressed-tensors, DeepSeek (in blocks) and transformers."""
    own.only("activation_scheme", ("static", "dynamic"), "other schemes for activations")
    own.only("fmt", ("e4m3",), "other 8-bit formats than E4M3")
    own.only("scale_fmt", ("float",), "scales that are powers of two")
    own.only("dequantize", (False, True), "it")
    own.only("weight_per_tensor", (True, False), "it")
    for name in ("ignored_layers", "modules_to_not_convert", "kv_cache_scheme", "kv_cache_quant_method"):
        own.raw(name)  # the tensors themselves show what is quantised; the KV cache here has no scale
    return Quantization("fp8", _FP8, _block(own, own.raw("weight_block_size")))


def _compressed_tensors(own: Fields) -> Quantization:
    """vLLM's llm-compressor: `float-quantized` (FP8) and `int-quantized` (int8)."""
    formats = {"float-quantized": _FP8, "int-quantized": _INT8, "naive-quantized": None}
    name = own.text("format")
    if name not in formats:
        raise own.refusal(f"format {short(name)} is not one of {', '.join(formats)}, which this engine reads")
    # Early files of the library say frozen. The dtype of each matrix shows whether it is compressed.
    own.only("quantization_status", ("compressed", "frozen"), "a checkpoint that is not compressed yet")
    for irrelevant in ("ignore", "kv_cache_scheme", "global_compression_ratio", "version"):
        own.raw(irrelevant)
    for sparse in ("sparsity_config", "transform_config"):
        value = own.raw(sparse)
        if value not in (None, {}) and not (isinstance(value, dict) and value.get("format") == "dense"):
            raise own.refusal(f"{sparse} is {short(value)}: this engine reads dense, untransformed weights")
    groups = own.raw("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise own.refusal("config_groups must be an object with a group", "correct the file")
    kinds = {_group(own, group, str(key)) for key, group in groups.items()}
    if len(kinds) > 1:
        raise own.refusal("its groups have different formats of weights")
    dtype, block = kinds.pop()
    if formats[name] not in (None, dtype):
        raise own.refusal(f"format {name} does not have weights in {dtype}", "correct the file")
    return Quantization("compressed-tensors", dtype, block)


def _group(own: Fields, group: Any, key: str) -> tuple[str, tuple[int, int] | None]:
    if not isinstance(group, dict) or not isinstance(group.get("weights"), dict):
        raise own.refusal(f"the group {short(key)} must be an object with weights", "correct the file")
    fields = Fields(group, f"{own.where}, {short(key)}")
    weights = Fields(fields.raw("weights"), f"{fields.where}, weights")
    for irrelevant in ("targets", "format"):
        fields.raw(irrelevant)
    # Activations are quantised by the engine's own rule, one scale a row, or not at all.
    for activations in ("input_activations", "output_activations"):
        value = fields.raw(activations)
        if value is not None and not (isinstance(value, dict) and value.get("num_bits") == 8):
            raise fields.refusal(f"{activations} is {short(value)}: this engine has activations of 8 or 16 bits")
    fields.refuse_rest(())
    kind = weights.text("type", "int")
    if weights.integer("num_bits") != 8 or kind not in ("float", "int"):
        raise weights.refusal(
            f"weights are {short(weights.values['num_bits'])}-bit {short(kind)}, not 8-bit float or int"
        )
    weights.only("strategy", ("tensor", "channel", "block"), "scales for groups of a row")
    weights.only("symmetric", (True,), "zero points")
    weights.only("dynamic", (False,), "weights that are quantised at run time")
    weights.only("actorder", (), "reordered columns")
    weights.only("group_size", (), "scales for groups of a row")
    for irrelevant in ("observer", "observer_kwargs", "scale_dtype", "zp_dtype"):
        weights.raw(irrelevant)
    block = _block(weights, weights.raw("block_structure")) if weights.values.get("strategy") == "block" else None
    if block is None:
        weights.raw("block_structure")
    weights.refuse_rest(())
    return (_FP8 if kind == "float" else _INT8), block


def _block(own: Fields, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2 and all(type(n) is int and 0 < n < 2**20 for n in value)):
        raise own.refusal(f"the block of a scale is {short(value)} and must be two sizes", "correct the file")
    return value[0], value[1]


def _modelopt(own: Fields) -> Quantization | None:
    """NVIDIA's ModelOpt, in FP8 with one scale a matrix. None: its own file states a quantised KV cache alone.

    `quantization_config` has the fields itself, or in `quantization`, as `hf_quant_config.json` always has them.
    """
    nested = own.raw("quantization")
    if nested is not None:
        if not isinstance(nested, dict):
            raise own.refusal(f"quantization is {short(nested)} and must be an object", "correct the file")
        own.raw("producer"), own.raw("quant_method")
        own.refuse_rest(())
        own = Fields(nested, f"{own.where}, quantization")
        if "quant_algo" in nested and nested["quant_algo"] is None:
            return None
    own.only("quant_algo", ("FP8",), "ModelOpt's other formats than FP8")
    if not own.given("quant_algo"):
        raise own.refusal("quant_algo is missing", "correct the file")
    for name in ("producer", "ignore", "exclude_modules", "kv_cache_quant_algo", "kv_cache_scheme", "config_groups"):
        own.raw(name)
    own.refuse_rest(())
    return Quantization("modelopt", _FP8)


_METHODS: dict[str, Callable[[Fields], Quantization | None]] = {
    "fp8": _fp8,
    "compressed-tensors": _compressed_tensors,
    "modelopt": _modelopt,
}
