"""Prompts as token ids."""

from typing import Any

from torch import Tensor

from tokenflow.events import notice


def notice_long_prompt(tokenizer: Any, prompt: str, length: int) -> None:
    """A notice that says what a model ignores of a prompt that is longer than it reads."""
    whole = tokenizer(prompt, truncation=False, verbose=False).input_ids
    # What is kept ends in the same special tokens, of which the rest has one copy more.
    special = tokenizer.num_special_tokens_to_add() - _leading_special_tokens(tokenizer, whole)
    if len(whole) > length:
        ignored = whole[length - special : len(whole) - special]
        notice(
            f"the prompt {prompt!r} is longer than the {length} tokens this model reads; it ignores "
            f"{tokenizer.decode(ignored)!r}. Shorten the prompt"
        )


def _leading_special_tokens(tokenizer: Any, ids: list[int]) -> int:
    return int(bool(ids) and ids[0] == tokenizer.bos_token_id)


def token_ids(tokenizer: Any, prompt: str, length: int) -> Tensor:
    """A prompt's token ids, 1 n, padded to `length`; what does not fit is cut off with a notice."""
    notice_long_prompt(tokenizer, prompt, length)
    padded = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return padded.input_ids
