"""Turn a trained run into the model folder: `python -m engine.tinychat.export --run DIR`.

The folder (`--to`; by default the shipped one) is what `AutoModelForCausalLM` and `AutoTokenizer`
load offline: configuration, weights in bf16, tokenizer and chat template. Nothing in it says when
or where it was made, so equal weights give equal bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, PreTrainedTokenizerFast

from engine.tinychat import MODEL_FOLDER
from engine.tinychat import model as shape
from engine.tinychat import tokenizer as bpe
from engine.tinychat.chat import BEGIN, CHAT_TEMPLATE, END, PAD, ROLES
from engine.tinychat.train import trained


def stock_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Return the tokenizer as transformers wraps it, with the chat template."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES.values()),
        model_max_length=shape.CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def export(run: Path, folder: Path) -> None:
    """Write the model of `run` to `folder`.

    Raises:
        NothingTrained: `run` holds no checkpoint.
    """
    model = trained(run).to(torch.bfloat16)
    tokenizer = bpe.load(run / "tokenizer.json")
    ids = {name: tokenizer.token_to_id(token) for name, token in _ID_TOKENS.items()}
    model.generation_config = GenerationConfig(**ids, do_sample=False)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    stock_tokenizer(tokenizer).save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # weights come out readable by their owner alone


_ID_TOKENS = {"bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": PAD}


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description="Export a trained run as a model folder.")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--to", type=Path, default=MODEL_FOLDER, help="the model folder")
    given = parser.parse_args()
    export(given.run, given.to)


if __name__ == "__main__":
    main()
