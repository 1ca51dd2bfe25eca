"""The families of models that the engine serves, and what it lacks for others. No torch."""

from dataclasses import dataclass

from llmval_runners.engine.checkpoint.fields import ELSEWHERE
from llmval_runners.engine.checkpoint.safetensors_header import short
from llmval_runners.process.errors import Refused


@dataclass(frozen=True, slots=True)
class Family:
    """What distinguishes a family from Llama. The defaults are those of its configuration class in transformers."""

    architecture: str
    qkv_bias: bool = False  # always, whatever `attention_bias` says
    has_attention_bias: bool = False  # whether `attention_bias` is a field of this family
    has_mlp_bias: bool = False
    qk_norm: bool = False
    optional_kv_heads: bool = False  # a missing `num_key_value_heads` means one for each query head
    optional_head_dim: bool = True  # a missing `head_dim` means hidden size / heads
    window: int | None = None  # in tokens, if `sliding_window` is missing
    window_switch: bool = False  # `sliding_window` counts only if `use_sliding_window` is true
    window_everywhere: bool = False  # in each layer, whatever `layer_types` says


FAMILIES = {
    "llama": Family("LlamaForCausalLM", has_attention_bias=True, has_mlp_bias=True, optional_kv_heads=True),
    "mistral": Family("MistralForCausalLM", window=4096, window_everywhere=True),
    "qwen2": Family("Qwen2ForCausalLM", qkv_bias=True, window=4096, window_switch=True),
    "qwen3": Family(
        "Qwen3ForCausalLM", has_attention_bias=True, qk_norm=True, optional_head_dim=False, window=4096,
        window_switch=True,
    ),
}  # fmt: skip

_EXPERTS = "a mixture of experts"
_PICTURES = "an encoder for pictures or sound"
LACKS = {
    **dict.fromkeys(
        ("mixtral", "qwen2_moe", "qwen3_moe", "qwen3_next", "deepseek", "deepseek_v2", "deepseek_v3", "deepseek_v32",
         "gpt_oss", "granitemoe", "granitemoehybrid", "phimoe", "olmoe", "dbrx", "jamba", "llama4", "llama4_text",
         "glm4_moe", "ernie4_5_moe", "hunyuan_v1_moe", "minimax", "minimax_m2", "kimi_k2", "grok-1", "arctic"),
        _EXPERTS,
    ),
    **dict.fromkeys(
        ("llava", "llava_next", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen2_audio", "mllama",
         "mistral3", "pixtral", "idefics3", "internvl", "internvl_chat", "phi3_v", "phi4_multimodal", "phi4mm",
         "gemma3n", "paligemma", "smolvlm", "aria", "fuyu", "kimi_vl", "glm4v", "whisper"),
        _PICTURES,
    ),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), "Gemma's norms with an offset and its scaled embeddings"),
    "gemma3": f"Gemma's norms with an offset, and {_PICTURES}",
    **dict.fromkeys(("phi", "phi3", "phi4flash"), "Phi's fused projections and partial rotary embedding"),
    **dict.fromkeys(("olmo", "olmo2", "olmo3"), "OLMo's norms after attention and MLP or over whole projections"),
    "granite": "Granite's multipliers of embeddings, residuals and logits",
    **dict.fromkeys(("cohere", "cohere2"), "Cohere's parallel layers and scaled logits"),
    **dict.fromkeys(("stablelm", "stablelm_epoch"), "StableLM's layer norms and partial rotary embedding"),
    **dict.fromkeys(("glm", "glm4", "chatglm"), "GLM's fused projections and partial rotary embedding"),
    **dict.fromkeys(("internlm", "internlm2", "internlm3"), "InternLM's own projections and code"),
    **dict.fromkeys(("falcon", "RefinedWeb", "RefinedWebModel"), "Falcon's parallel layers and layer norms"),
    "smollm3": "SmolLM3's layers without rotary embedding",
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "falcon_h1", "rwkv", "zamba2", "nemotron_h", "bamba"),
                    "state-space layers"),
    **dict.fromkeys(("gpt2", "gpt_neo", "gpt_neox", "gptj", "bloom", "opt", "mpt", "gpt_bigcode", "starcoder2",
                     "baichuan", "qwen", "xverse", "minicpm", "minicpm3", "nemotron", "exaone", "exaone4",
                     "seed_oss", "apertus", "arcee"), "layers of that family"),
    **dict.fromkeys(("bert", "roberta", "t5", "mt5", "bart"), "encoders"),
}  # fmt: skip


def family_of(model_type: object, architectures: object, where: str) -> Family:
    """The family that the two fields of `config.json` name.

    Raises:
        Refused: the engine does not implement it; the message names it and says what it has.
    """
    listed = architectures is None or (
        isinstance(architectures, list) and architectures and all(isinstance(one, str) for one in architectures)
    )
    if not listed or not isinstance(model_type, str | None):
        raise Refused(f"{where}: architectures must be a list of names and model_type a name: correct the file.")
    names = architectures if isinstance(architectures, list) else []
    if not names and model_type is None:
        raise Refused(f"{where} has neither architectures nor model_type: download the file again.")
    called = short(names[0] if names else model_type)
    if model_type is None:
        model_type = next((kind for kind, one in FAMILIES.items() if names == [one.architecture]), None)
    family = FAMILIES.get(model_type or "")
    if family is not None and (not names or names == [family.architecture]):
        return family
    served = ", ".join(one.architecture for one in FAMILIES.values())
    if model_type in LACKS:
        raise Refused(
            f"{where}: {called} has {LACKS[model_type]}, which this engine does not implement (it serves {served}): "
            f"{ELSEWHERE}."
        )
    raise Refused(
        f"{where}: {called} ({short(model_type)}) is not one of {served}, which this engine serves: {ELSEWHERE}."
    )
