"""The fields of config.json of public models, as published, and the same in a size that a test can run."""

from typing import Any

_LLAMA31 = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}  # fmt: skip


def _model(architecture: str, model_type: str, sizes: tuple[int, ...], **more: Any) -> dict[str, Any]:
    """`sizes`: hidden, FFN, layers, heads, KV heads, vocabulary, positions."""
    names = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size", "max_position_embeddings",
    )  # fmt: skip
    common = {
        "architectures": [architecture], "model_type": model_type, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "initializer_range": 0.02, "rms_norm_eps": 1e-05, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "transformers_version": "4.43.0", "use_cache": True,
    }  # fmt: skip
    return {**common, **dict(zip(names, sizes, strict=True)), **more}


def _llama(*sizes: int, **more: Any) -> dict[str, Any]:
    plain = {"attention_bias": False, "attention_dropout": 0.0, "pretraining_tp": 1, "rope_scaling": None}
    return _model("LlamaForCausalLM", "llama", sizes, **(plain | more))


def _qwen2(*sizes: int, **more: Any) -> dict[str, Any]:
    window = {"use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 28, "attention_dropout": 0.0}
    return _model("Qwen2ForCausalLM", "qwen2", sizes, **({"rope_theta": 1e6, "rms_norm_eps": 1e-06} | window | more))


def _qwen3(*sizes: int, **more: Any) -> dict[str, Any]:
    own = {"attention_bias": False, "head_dim": 128, "rope_theta": 1000000, "rms_norm_eps": 1e-06, "rope_scaling": None}
    window = {"use_sliding_window": False, "sliding_window": None, "max_window_layers": 36, "attention_dropout": 0.0}
    return _model("Qwen3ForCausalLM", "qwen3", sizes, **(own | window | more))


def _mistral(*sizes: int, **more: Any) -> dict[str, Any]:
    return _model("MistralForCausalLM", "mistral", sizes, **({"sliding_window": None} | more))


SERVED: dict[str, dict[str, Any]] = {
    "Llama-2-7b": _llama(
        4096, 11008, 32, 32, 32, 32000, 4096, pretraining_tp=1, _name_or_path="meta-llama/Llama-2-7b-hf"
    ),
    "Llama-3-8B": _llama(4096, 14336, 32, 32, 8, 128256, 8192, rope_theta=500000.0),
    "Llama-3.1-8B": _llama(
        4096, 14336, 32, 32, 8, 128256, 131072, rope_theta=500000.0, rope_scaling=_LLAMA31, mlp_bias=False
    ),
    "Llama-3.2-1B": _llama(
        2048, 8192, 16, 32, 8, 128256, 131072, rope_theta=500000.0, rope_scaling=_LLAMA31 | {"factor": 32.0},
        mlp_bias=False, head_dim=64, tie_word_embeddings=True, eos_token_id=[128001, 128008, 128009],
    ),
    "DeepSeek-R1-Distill-Llama-8B": _llama(
        4096, 14336, 32, 32, 8, 128256, 131072, rope_theta=500000.0, rope_scaling=_LLAMA31, mlp_bias=False
    ),
    "deepseek-coder-6.7b": _llama(
        4096, 11008, 32, 32, 32, 32256, 16384, rope_theta=100000, rope_scaling={"factor": 4.0, "type": "linear"},
        rms_norm_eps=1e-06,
    ),
    "TinyLlama-1.1B": _llama(2048, 5632, 22, 32, 4, 32000, 2048),
    "SmolLM2-135M": _llama(
        576, 1536, 30, 9, 3, 49152, 8192, rope_theta=100000, tie_word_embeddings=True, rope_interleaved=False,
        is_llama_config=True, **{"transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}},
    ),
    "Yi-6B": _llama(4096, 11008, 32, 32, 4, 64000, 4096, rope_theta=5000000.0, pad_token_id=0),
    "Falcon3-7B": _llama(3072, 23040, 28, 12, 4, 131072, 32768, rope_theta=1000042, head_dim=256, mlp_bias=False),
    "Qwen2-7B": _qwen2(3584, 18944, 28, 28, 4, 152064, 131072),
    "Qwen2.5-0.5B": _qwen2(896, 4864, 24, 14, 2, 151936, 32768, tie_word_embeddings=True, max_window_layers=24),
    "Qwen2.5-7B, YaRN": _qwen2(
        3584, 18944, 28, 28, 4, 152064, 32768,
        rope_scaling={"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"},
    ),
    "DeepSeek-R1-Distill-Qwen-1.5B": _qwen2(
        1536, 8960, 28, 12, 2, 151936, 131072, rope_theta=10000, use_mrope=False, sliding_window=4096,
        max_window_layers=21,
    ),
    "Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, 8, 151936, 40960, tie_word_embeddings=True, max_window_layers=28),
    "Qwen3-8B": _qwen3(4096, 12288, 36, 32, 8, 151936, 40960),
    "Mistral-7B-v0.1": _mistral(4096, 14336, 32, 32, 8, 32000, 32768, rope_theta=10000.0, sliding_window=4096),
    "Mistral-7B-v0.3": _mistral(4096, 14336, 32, 32, 8, 32768, 32768, rope_theta=1000000.0),
    "Mistral-Nemo-12B": _mistral(5120, 14336, 40, 32, 8, 131072, 131072, rope_theta=1000000.0, head_dim=128),
}  # fmt: skip

# Value: (config.json, words of the refusal)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "Phi-3-mini-128k": (
        _model(
            "Phi3ForCausalLM", "phi3", (3072, 8192, 32, 32, 32, 32064, 131072), sliding_window=262144,
            original_max_position_embeddings=4096, embd_pdrop=0.0, resid_pdrop=0.0, attention_bias=False,
            rope_scaling={"long_factor": [1.08] * 48, "short_factor": [1.0] * 48, "type": "longrope"},
            auto_map={"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
        ),
        "Phi3ForCausalLM has Phi's fused projections",
    ),
    "Phi-4": (
        _model("Phi3ForCausalLM", "phi3", (5120, 17920, 40, 40, 10, 100352, 16384), rope_theta=250000),
        "Phi3ForCausalLM has Phi's fused projections",
    ),
    "Gemma-2-9b": (
        _model(
            "Gemma2ForCausalLM", "gemma2", (3584, 14336, 42, 16, 8, 256000, 8192), head_dim=256,
            attn_logit_softcapping=50.0, final_logit_softcapping=30.0, query_pre_attn_scalar=256, sliding_window=4096,
            hidden_activation="gelu_pytorch_tanh", hidden_act="gelu_pytorch_tanh",
        ),
        "Gemma2ForCausalLM has Gemma's norms",
    ),
    "Gemma-3-4b": (
        {
            "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "mm_tokens_per_image": 256,
            "text_config": {"hidden_size": 2560, "model_type": "gemma3_text"}, "vision_config": {},
        },
        "Gemma3ForConditionalGeneration has Gemma's norms",
    ),
    "gpt-oss-20b": (
        _model(
            "GptOssForCausalLM", "gpt_oss", (2880, 2880, 24, 64, 8, 201088, 131072), num_local_experts=32,
            num_experts_per_tok=4, sliding_window=128, quantization_config={"quant_method": "mxfp4"}, swiglu_limit=7.0,
        ),
        "GptOssForCausalLM has a mixture of experts",
    ),
    "Mixtral-8x7B": (
        _model(
            "MixtralForCausalLM", "mixtral", (4096, 14336, 32, 32, 8, 32000, 32768), num_local_experts=8,
            num_experts_per_tok=2,
        ),
        "MixtralForCausalLM has a mixture of experts",
    ),
    "Qwen3-30B-A3B": (
        _model("Qwen3MoeForCausalLM", "qwen3_moe", (2048, 6144, 48, 32, 4, 151936, 40960), num_experts=128),
        "Qwen3MoeForCausalLM has a mixture of experts",
    ),
    "DeepSeek-V2-Lite": (
        _model("DeepseekV2ForCausalLM", "deepseek_v2", (2048, 10944, 27, 16, 16, 102400, 163840), kv_lora_rank=512),
        "DeepseekV2ForCausalLM has a mixture of experts",
    ),
    "DeepSeek-V3": (
        _model("DeepseekV3ForCausalLM", "deepseek_v3", (7168, 18432, 61, 128, 128, 129280, 163840), q_lora_rank=1536),
        "DeepseekV3ForCausalLM has a mixture of experts",
    ),
    "Llama-4-Scout": (
        {"architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4", "text_config": {}},
        "Llama4ForConditionalGeneration has a mixture of experts",
    ),
    "Qwen2.5-VL-7B": (
        _model("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", (3584, 18944, 28, 28, 4, 152064, 128000)),
        "Qwen2_5_VLForConditionalGeneration has an encoder for pictures",
    ),
    "falcon-7b": (
        {
            "architectures": ["FalconForCausalLM"], "model_type": "falcon", "hidden_size": 4544, "multi_query": True,
            "num_attention_heads": 71, "num_hidden_layers": 32, "parallel_attn": True, "vocab_size": 65024,
        },
        "FalconForCausalLM has Falcon's parallel layers",
    ),
    "OLMo-2-7B": (
        _model("Olmo2ForCausalLM", "olmo2", (4096, 11008, 32, 32, 32, 100352, 4096), rope_theta=500000),
        "Olmo2ForCausalLM has OLMo's norms",
    ),
    "Granite-3.1-8b": (
        _model(
            "GraniteForCausalLM", "granite", (4096, 12800, 40, 32, 8, 49155, 131072), embedding_multiplier=12.0,
            logits_scaling=16.0, residual_multiplier=0.22, attention_multiplier=0.0078125,
        ),
        "GraniteForCausalLM has Granite's multipliers",
    ),
    "InternLM2-7b": (
        _model(
            "InternLM2ForCausalLM", "internlm2", (4096, 14336, 32, 32, 8, 92544, 32768), bias=False,
            rope_scaling={"type": "dynamic", "factor": 2.0}, auto_map={"AutoModel": "modeling_internlm2.X"},
        ),
        "InternLM2ForCausalLM has InternLM's own",
    ),
    "GLM-4-9B": (
        _model("Glm4ForCausalLM", "glm4", (4096, 13696, 40, 32, 2, 151552, 32768), partial_rotary_factor=0.5),
        "Glm4ForCausalLM has GLM's fused projections",
    ),
    "Command-R": (
        _model("CohereForCausalLM", "cohere", (8192, 22528, 40, 64, 64, 256000, 8192), logit_scale=0.0625),
        "CohereForCausalLM has Cohere's parallel layers",
    ),
    "StableLM-2-1.6b": (
        _model("StableLmForCausalLM", "stablelm", (2048, 5632, 24, 32, 32, 100352, 4096), partial_rotary_factor=0.25),
        "StableLmForCausalLM has StableLM's layer norms",
    ),
    "SmolLM3-3B": (
        _model("SmolLM3ForCausalLM", "smollm3", (2048, 11008, 36, 16, 4, 128256, 65536), no_rope_layer_interval=4),
        "SmolLM3ForCausalLM has SmolLM3's layers without rotary",
    ),
    "Yarn-Llama-2-7b-128k": (
        _llama(
            4096, 11008, 32, 32, 32, 32000, 131072,
            auto_map={"AutoModelForCausalLM": "modeling_llama_together_yarn.LlamaForCausalLM"},
            rope_scaling={
                "factor": 32.0, "finetuned": True, "original_max_position_embeddings": 4096, "type": "yarn"
            },
        ),
        "auto_map names code of its own",
    ),
    "Llama-3.1-8B, GPTQ": (
        _llama(
            4096, 14336, 32, 32, 8, 128256, 131072, rope_scaling=_LLAMA31, rope_theta=500000.0,
            quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True},
        ),
        "gptq quantisation is not one of fp8",
    ),
    "Llama-3.1-8B, AWQ": (
        _llama(
            4096, 14336, 32, 32, 8, 128256, 131072, rope_scaling=_LLAMA31, rope_theta=500000.0,
            quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"},
        ),
        "awq quantisation is not one of fp8",
    ),
    "Llama-3.1-8B, bitsandbytes": (
        _llama(
            4096, 14336, 32, 32, 8, 128256, 131072, rope_scaling=_LLAMA31, rope_theta=500000.0,
            quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True},
        ),
        "bitsandbytes quantisation is not one of fp8",
    ),
}  # fmt: skip


def shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """The same model with two small layers: the ratio of heads to KV heads and every other choice stay."""
    small = dict(config)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    ratio = heads // kv_heads
    small |= {"num_hidden_layers": 2, "vocab_size": 128, "intermediate_size": 96, "max_position_embeddings": 256}
    small["num_attention_heads"] = 2 * ratio  # so that two ranks can share it
    small["num_key_value_heads"] = 2
    dim = 8
    small["hidden_size"] = 2 * ratio * dim
    if config.get("head_dim") is not None:
        own = config["head_dim"] * heads == config["hidden_size"]
        small["head_dim"] = dim if own else 2 * dim
    if config.get("sliding_window") is not None:
        small["sliding_window"] = 64
    scaling = config.get("rope_scaling")
    if scaling is not None and "original_max_position_embeddings" in scaling:
        small["rope_scaling"] = scaling | {"original_max_position_embeddings": 32}
    return small
