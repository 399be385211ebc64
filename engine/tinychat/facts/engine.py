"""How the engine computes and how its work is checked."""

from __future__ import annotations

from engine.tinychat.facts.fact import Fact

ENGINE = (
    Fact(
        "verified-compute",
        "Verified compute means that the trusted side checks the accelerator's work before a token "
        "is released.",
        (
            "how is the [gpu|accelerator|computation] checked",
            "what is checked before a token is released",
            "how do you know that the gpu [is right|computed correctly]",
        ),
        ("in what way is the computation verified",),
        "verified [compute|computation]",
    ),
    Fact(
        "freivalds",
        "A Freivalds check multiplies by a random vector, so that verifying a matrix product is "
        "much cheaper than computing it.",
        (
            "how [do you|is it possible to] check a matrix product",
            "who is freivalds",
            "how does freivalds work",
        ),
        ("how can a product of matrices be verified cheaply",),
        "[a freivalds check|freivalds|the freivalds check]",
    ),
    Fact(
        "sides",
        "T is the trusted CPU side, which samples and checks; U is the accelerator, which does the "
        "matrix work.",
        (
            "what are [t and u|the two sides|the sides of the engine]",
            "what is the trusted side",
            "which side [samples|checks|is trusted]",
        ),
        ("what does U do and what does T do",),
        "[t and u|the two sides]",
    ),
    Fact(
        "pipeline",
        "The encrypted pipeline seals blocks on their way to and from the accelerator, encrypted "
        "ahead of time.",
        (
            "how is data sent to the [gpu|accelerator]",
            "is data between cpu and gpu encrypted",
            "what is sealed on the way to the gpu",
        ),
        ("how do blocks travel to the accelerator",),
        "[the|an] encrypted pipeline",
    ),
    Fact(
        "kv-cache",
        "The KV cache holds the keys and values of earlier tokens. Its blocks are zeroed when the "
        "request ends.",
        (
            "what happens to the kv cache",
            "is the kv cache [erased|cleared|zeroed|kept]",
            "what does the kv cache hold",
        ),
        ("when is the KV cache cleared",),
        "[the|a] kv cache",
    ),
    Fact(
        "batching",
        "Continuous batching lets new requests join the running batch at any step.",
        (
            "how are requests batched",
            "can many requests run [together|at once|at the same time]",
            "do you batch requests",
        ),
        ("when may a new request join the batch",),
        "[|continuous ]batching",
    ),
    Fact(
        "prefix-cache",
        "Within one request only. Across requests a shared prefix cache could betray another "
        "user's prompt, so oblivious mode never has one.",
        (
            "is there [a prefix cache|prefix caching]",
            "do you cache [prompts|my prompt|prefixes]",
            "why is there no [prompt cache|shared cache]",
        ),
        ("are prompts cached between users",),
        "[the prefix cache|prefix caching|prompt caching]",
    ),
    Fact(
        "scheduling",
        "Requests are served first come, first served; priorities are refused.",
        (
            "who [is served|goes|comes] first",
            "is there [a priority|priority|a queue|a fast lane]",
            "can i [pay for priority|skip the queue|be served first]",
            "how are requests scheduled",
        ),
        ("in which order are requests served",),
        "[scheduling|the scheduler]",
    ),
    Fact(
        "speculation",
        "Speculation uses a draft model or n-grams of the same request, never a database of past "
        "requests.",
        (
            "do you use [speculation|speculative sampling|speculative decoding]",
            "what is a draft model [for|good for]",
        ),
        ("from where do speculative tokens come",),
        "[speculation|speculative sampling|speculative decoding]",
    ),
    Fact(
        "scale",
        "Workers are stateless, so more users simply means more workers.",
        (
            "how does [sottovoce|it] scale",
            "what if there are [many|more|too many] users",
            "how do i serve [more|many] users",
            "can i add [workers|more workers]",
        ),
        ("what must I do for more users",),
    ),
    Fact(
        "upstream",
        "Yes. vLLM or SGLang can run in the engine's place; the receipt then says that compute is "
        "unverified.",
        (
            "[can|may] i use [vllm|sglang]",
            "does [vllm|sglang] work[| with sottovoce]",
            "does [sottovoce|it] [support|work with] [vllm|sglang]",
        ),
        ("is it possible to run vLLM behind it",),
    ),
)
