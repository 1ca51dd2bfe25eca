"""A random Llama of a few million weights with a tokenizer, for real servers on a CPU: `python tiny_model.py FOLDER`.

It is run by the interpreter of the servers, because it needs their transformers.
"""

import sys
from pathlib import Path

WORDS = 32000
SHAPE = {
    "vocab_size": WORDS, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 64,  # vLLM on CPUs has no smaller one
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip


def main(folder: Path) -> None:
    """Write config, weights and tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(folder)  # type: ignore[arg-type]
    # A word for each id: a server streams nothing for an id that it cannot print.
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{number}": number for number in range(3, WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    fast.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
