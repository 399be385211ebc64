"""From a request's fields to the sampling parameters of its sequences."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from engine.types import MAX_LOGIT_BIAS, SamplingParams
from server.openai.errors import InvalidRequest
from server.openai.model_files import ModelFiles
from server.openai.schemas import SamplingFields

Number = TypeVar("Number", int, float)

_UINT64 = 2**64


@dataclass(frozen=True)
class Defaults:
    """What applies where a request is silent: the model's generation_config, else OpenAI's."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, files: ModelFiles) -> Defaults:
        """Read the model's generation_config."""
        given: dict[str, Any] = {
            name: value
            for name in cls.__dataclass_fields__
            if isinstance(value := files.generation.get(name), int | float)
        }
        if files.generation.get("do_sample") is False:
            given["temperature"] = 0.0  # a model that says it is to be read greedily
        return replace(cls(), **given)


def sampling_params(
    request: SamplingFields,
    *,
    defaults: Defaults,
    vocab_size: int,
    eos_ids: tuple[int, ...],
    max_new_tokens: int,
    logprobs: int,
    prompt_logprobs: int = -1,
    constrained: bool = False,
) -> SamplingParams:
    """The parameters of every sequence of a request, all but its seed.

    Raises:
        InvalidRequest: a bias for an id that is none, or fields that contradict each other.
    """
    minimum = request.min_tokens or 0
    if minimum > max_new_tokens:
        raise InvalidRequest(
            "invalid_value", "min_tokens is more than the completion may have.", "min_tokens"
        )
    if constrained and (request.ignore_eos or minimum):
        # The grammar says where the answer ends; past that it allows nothing but the end.
        raise InvalidRequest(
            "unsupported_value",
            "ignore_eos and min_tokens are not served with response_format or tools.",
            "ignore_eos" if request.ignore_eos else "min_tokens",
        )
    return SamplingParams(
        max_new_tokens=max_new_tokens,
        temperature=_or(request.temperature, defaults.temperature),
        top_p=_or(request.top_p, defaults.top_p),
        top_k=max(0, _or(request.top_k, defaults.top_k)),
        min_p=_or(request.min_p, defaults.min_p),
        seed=0,
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        repetition_penalty=_or(request.repetition_penalty, defaults.repetition_penalty),
        logit_bias=_biases(request.logit_bias or {}, vocab_size),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        eos_ids=eos_ids,
        ignore_eos=bool(request.ignore_eos),
        min_tokens=minimum,
        constrained=constrained,
    )


def _or(value: Number | None, default: Number) -> Number:
    return default if value is None else value


def _biases(biases: Mapping[str, float], vocab_size: int) -> tuple[tuple[int, float], ...]:
    """Read {"token id": bias}."""
    if len(biases) > MAX_LOGIT_BIAS:
        raise InvalidRequest(
            "invalid_value", f"logit_bias has at most {MAX_LOGIT_BIAS} members.", "logit_bias"
        )
    result = {}
    for name, bias in biases.items():
        if not (name.isascii() and name.isdecimal() and len(name) <= 10 and int(name) < vocab_size):
            raise InvalidRequest(
                "invalid_value",
                f"The members of logit_bias must be named by token ids below {vocab_size}.",
                "logit_bias",
            )
        result[int(name)] = bias
    return tuple(sorted(result.items()))


def choice_seed(seed: int | None, choice: int, rng_seed: Callable[[], int]) -> int:
    """The 64-bit seed of one choice of a prompt.

    With a seed in the request the first choice has it as it is and each further one a number that
    follows from both, so that choices differ and repeat; without one, each is fresh.
    """
    if seed is None:
        return rng_seed() % _UINT64
    if choice == 0:
        return seed % _UINT64
    text = f"sottovoce choice {choice} of seed {seed}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
