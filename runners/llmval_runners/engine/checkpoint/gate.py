"""The one gate for checkpoints: reads everything that a folder states, and refuses what the engine would get wrong.

It reads `config.json` and the headers of the safetensors files; no tensor is loaded. Each field and each tensor is
used, known to be irrelevant, or refused by name. No torch, so that a refusal is quick and `llmval doctor` can ask.
"""

from dataclasses import dataclass
from pathlib import Path

from llmval_runners.engine.checkpoint.families import Family, family_of
from llmval_runners.engine.checkpoint.fields import ELSEWHERE, Fields
from llmval_runners.engine.checkpoint.quantization import Quantization, read_quantization
from llmval_runners.engine.checkpoint.rope import Rope, read_rope
from llmval_runners.engine.checkpoint.safetensors_header import StoredTensor, read_json, short
from llmval_runners.engine.checkpoint.tensors import GGUF, Stored, match, read_headers, refuse_gguf
from llmval_runners.engine.shapes import HEAD, ContextLimit, ModelShape
from llmval_runners.process.errors import Refused

ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu",
}  # fmt: skip
# Fields that do not change the logits of a decoder: ids of special tokens, training, sampling, and bookkeeping.
IRRELEVANT = frozenset(
    {
        "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "cls_token_id",
        "mask_token_id", "decoder_start_token_id", "tokenizer_class", "prefix",
        "dtype", "torch_dtype", "use_bfloat16", "torchscript", "use_cache", "pretraining_tp", "transformers_version",
        "_name_or_path", "_attn_implementation", "_attn_implementation_autoset", "attn_implementation",
        "_flash_attn_2_enabled", "_commit_hash",
        "initializer_range", "attention_dropout", "hidden_dropout", "hidden_dropout_prob",
        "attention_probs_dropout_prob", "resid_pdrop", "embd_pdrop", "classifier_dropout", "gradient_checkpointing",
        "neftune_noise_alpha",
        "output_attentions", "output_hidden_states", "output_scores", "return_dict", "return_dict_in_generate",
        "id2label", "label2id", "num_labels", "problem_type", "task_specific_params", "finetuning_task",
        "temperature", "top_k", "top_p", "typical_p", "min_p", "do_sample", "repetition_penalty", "length_penalty",
        "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "num_beams",
        "num_beam_groups", "diversity_penalty", "early_stopping", "max_length", "min_length", "max_new_tokens",
        "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
        "suppress_tokens", "begin_suppress_tokens",
        "max_sequence_length", "model_max_length", "tokenizer_model_max_length", "unsloth_fixed", "unsloth_version",
        "is_llama_config", "transformers.js_config", "cache_implementation",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that the engine serves. `tied_head`: a stored head that must equal the embedding."""

    folder: Path
    architecture: str
    shape: ModelShape
    quantization: Quantization | None
    weights: dict[str, Stored]
    tied_head: StoredTensor | None

    @property
    def in_fp8(self) -> bool:
        """Whether its matrices are in FP8."""
        return self.quantization is not None and self.quantization.dtype == "F8_E4M3"


def read_checkpoint(folder: Path) -> Checkpoint:
    """Everything that a Hugging Face folder states about its model.

    Raises:
        Refused: the folder is damaged or incomplete, or holds something that the engine does not implement. The message
            is one sentence that names it.
    """
    try:
        return _read(folder)
    except RecursionError:
        raise Refused(f"{folder}: its JSON is nested too deeply: download the checkpoint again.") from None
    except OSError as error:
        raise _unreadable(folder, error) from None


def read_model_shape(folder: Path) -> ModelShape:
    """The shape of a Hugging Face folder of which only `config.json` is used, and the weights need not be there.

    Raises:
        Refused: as `read_checkpoint`, for `config.json` alone.
    """
    try:
        return _read_config(folder)[1]
    except OSError as error:
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: OSError) -> Refused:
    return Refused(f"{short(str(folder))} cannot be read ({error.strerror}): pass the folder of a checkpoint.")


def _read(folder: Path) -> Checkpoint:
    family, shape, quantization = _read_config(folder)
    if (folder / "adapter_config.json").exists():
        raise Refused(
            f"{folder} has a LoRA adapter (adapter_config.json) beside the model, which this engine does not add to "
            f"its weights: merge it into them, remove it, or {ELSEWHERE}."
        )
    stored = read_headers(folder)
    weights = match(folder, shape, stored, quantization)
    tied_head = stored.get(HEAD) if shape.tied_embeddings else None
    return Checkpoint(folder, family.architecture, shape, quantization, weights, tied_head)


def _read_config(folder: Path) -> tuple[Family, ModelShape, Quantization | None]:
    if not folder.is_dir():
        if folder.suffix.lower() == ".gguf":
            raise Refused(f"{short(str(folder))} is in GGUF, {GGUF}.")
        raise Refused(f"{folder} is not a folder: pass the folder of a Hugging Face checkpoint.")
    if not (folder / "config.json").exists():
        if (folder / "params.json").exists():
            raise Refused(
                f"{folder} is in Mistral's own format (params.json), which this engine does not read: pass the folder "
                f"in the format of Hugging Face, or {ELSEWHERE}."
            )
        refuse_gguf(folder)
        lora = ", only a LoRA adapter" if (folder / "adapter_config.json").exists() else ""
        raise Refused(f"{folder} has no config.json{lora}: pass the folder of a Hugging Face checkpoint.")
    config = Fields(read_json(folder / "config.json"), f"{folder}/config.json")
    _refuse_tensorrt(config)
    family = family_of(config.raw("model_type"), config.raw("architectures"), config.where)
    shape = read_shape(config, family, folder.resolve().name)
    modelopt = folder / "hf_quant_config.json"
    own = Fields(read_json(modelopt), str(modelopt)) if modelopt.exists() else None
    quantization = read_quantization(config, own)
    config.refuse_rest(IRRELEVANT)
    return family, shape, quantization


def _refuse_tensorrt(config: Fields) -> None:
    """Refuse the configurations of TensorRT-LLM: of an engine, and of a checkpoint before it is built."""
    engine = {"builder_config", "build_config", "pretrained_config"} & config.values.keys()
    if engine or ("architecture" in config.values and "architectures" not in config.values):
        raise Refused(
            f"{config.where} is one of TensorRT-LLM, which this engine does not read: serve it with trtllm-serve, or "
            "pass the Hugging Face checkpoint that it was made from."
        )


def read_shape(config: Fields, family: Family, name: str) -> ModelShape:
    """The shape that a configuration of `family` describes. Raises Refused if a field is missing or malformed."""
    _check_switches(config)
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if config.values.get("num_key_value_heads", 0) is None:  # there, and null: transformers takes the query heads
        kv_heads = heads
    elif family.optional_kv_heads:
        kv_heads = config.integer("num_key_value_heads", heads)
    else:
        kv_heads = config.integer("num_key_value_heads")
    if heads % kv_heads:
        raise config.refusal(
            f"{heads} query heads (num_attention_heads) cannot share {kv_heads} KV heads (num_key_value_heads) evenly",
            "correct the file",
        )
    if not config.given("head_dim") and not family.optional_head_dim:
        config.integer("head_dim")  # refuses
    if not config.given("head_dim") and hidden % heads:
        raise config.refusal(f"hidden_size {hidden} is not divisible by {heads} heads", "add head_dim to the file")
    head_dim = config.integer("head_dim") if config.given("head_dim") else hidden // heads
    config.raw("head_dim")
    if head_dim % 2:
        raise config.refusal(f"a head_dim of {head_dim} cannot be rotated in pairs", "correct the file")
    rope = read_rope(config, head_dim)
    attention_bias, mlp_bias = _biases(config, family)
    layers = config.integer("num_hidden_layers")
    return ModelShape(
        name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=config.integer("intermediate_size"),
        vocab=config.integer("vocab_size"),
        max_positions=rope.max_positions,
        rope_theta=rope.theta,
        rope_scaling=rope.scaling,
        norm_eps=config.number("rms_norm_eps", below=1.0),
        tied_embeddings=config.flag("tie_word_embeddings", False),
        activation=_activation(config),
        qkv_bias=family.qkv_bias or attention_bias,
        output_bias=attention_bias,
        mlp_bias=mlp_bias,
        qk_norm=family.qk_norm,
        query_scale=rope.attention_factor**2,
        context_limit=_context_limit(config, family, layers, rope),
    )


def _check_switches(config: Fields) -> None:
    """Refuse the fields that switch on what no family here has."""
    config.only("is_encoder_decoder", (False,), "encoders")
    config.only("is_decoder", (False, True), "it")
    config.only("add_cross_attention", (False,), "cross-attention")
    config.only("cross_attention_hidden_size", (), "cross-attention")
    config.only("tie_encoder_decoder", (False,), "encoders")
    if "is_causal" in config.values and config.raw("is_causal") is not True:  # transformers reads null as false
        value = short(config.values["is_causal"])
        raise config.refusal(f"is_causal is {value}: this engine does not implement attention to later tokens")
    config.only("chunk_size_feed_forward", (0,), "chunked MLPs")
    config.only("pruned_heads", ({},), "pruned heads")
    config.only("attention_multiplier", (), "Granite's multipliers")
    config.only("attn_logit_softcapping", (), "soft caps of scores")
    config.only("final_logit_softcapping", (), "soft caps of logits")
    config.only("use_mrope", (False,), "multimodal rotary embeddings")
    code = config.raw("auto_map")
    if isinstance(code, dict) and not any("ForCausalLM" in str(name) or name == "AutoModel" for name in code):
        return
    if code is not None:
        raise config.refusal("auto_map names code of its own for the model, which this engine does not run")


def _biases(config: Fields, family: Family) -> tuple[bool, bool]:
    """Whether attention and MLP have biases besides those that the family always has."""
    if family.has_attention_bias:
        attention = config.flag("attention_bias", False)
    else:
        attention = False
        config.only("attention_bias", (family.qkv_bias,), f"{family.architecture} with other biases than its own")
    if family.has_mlp_bias:
        return attention, config.flag("mlp_bias", False)
    config.only("mlp_bias", (False,), f"{family.architecture} with biases in its MLP")
    return attention, False


def _activation(config: Fields) -> str:
    name = config.text("hidden_act", "silu")
    if name not in ACTIVATIONS:
        raise config.refusal(f"hidden_act {short(name)} is not one of {', '.join(ACTIVATIONS)}, which this engine has")
    other = config.raw("hidden_activation")
    if other is not None and other != name:
        raise config.refusal(
            f"hidden_act is {short(name)} and hidden_activation is {short(other)}", "keep one of the two"
        )
    return ACTIVATIONS[name]


def _context_limit(config: Fields, family: Family, layers: int, rope: Rope) -> ContextLimit | None:
    """The shorter of the rotary embedding's limit and the sliding window of any layer."""
    kinds = config.raw("layer_types")
    if kinds is not None and not (isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds)):
        raise config.refusal(f"layer_types is {short(kinds)} and must be a list of names", "correct the file")
    if kinds is not None and len(kinds) != layers:
        raise config.refusal(f"layer_types has {len(kinds)} names for {layers} layers", "correct the file")
    for kind in kinds or ():
        if kind not in ("full_attention", "sliding_attention"):
            raise config.refusal(f"layer_types has {short(kind)}, which this engine does not implement")
    full = config.integer("max_window_layers", least=0) if config.given("max_window_layers") else 28
    config.raw("max_window_layers")
    # Only families with a switch read `use_sliding_window`; in the others transformers applies the window all the same.
    switched_on = config.flag("use_sliding_window", False) or not family.window_switch
    window = family.window
    if "sliding_window" in config.values:
        window = config.integer("sliding_window") if config.given("sliding_window") else None
    config.raw("sliding_window")
    slides = "sliding_attention" in kinds if kinds is not None else not family.window_switch or full < layers
    limits = [] if rope.limit is None else [rope.limit]
    if window is not None and switched_on and (slides or family.window_everywhere):
        limits.append(ContextLimit(window, "has layers that attend to a sliding window of tokens only"))
    elif kinds is not None and slides:
        raise config.refusal("layer_types has sliding_attention, and no sliding_window is set")
    return min(limits, key=lambda limit: limit.tokens, default=None)
