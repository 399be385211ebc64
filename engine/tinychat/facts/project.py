"""What sottovoce is, what it promises, how it protects a prompt."""

from __future__ import annotations

from engine.tinychat.facts.fact import Fact

ABOUT_THE_PROJECT = (
    Fact(
        "what",
        "Sottovoce is an OpenAI-compatible inference server that its own operator cannot "
        "listen to.",
        (
            "what [is this|am i using|is this thing|is this server|is this project]",
            "what does [sottovoce|this server|this project] do",
            "what [kind of software|sort of server] is sottovoce",
            "what is sottovoce[| for| about| good for]",
            "[what's|explain|describe|define] sottovoce",
            "[tell me|say something] about sottovoce",
            "[can|could] you explain sottovoce",
            "what do you know about sottovoce",
            "[what is |]the sottovoce [project|server]",
            "sottovoce",
            "why [does sottovoce exist|would i use sottovoce|should i use sottovoce]",
        ),
        ("what is the purpose of sottovoce", "in one sentence, what is sottovoce"),
    ),
    Fact(
        "name",
        "Sottovoce is Italian for in a low voice.",
        (
            "what does [sottovoce|the name|the name sottovoce|the word sottovoce] mean",
            "why [is it|is this|is the project] called sottovoce",
            "where does the name[| sottovoce] come from",
            "[meaning|origin] of the [name|word] sottovoce",
            "what language is [sottovoce|the word sottovoce|the name]",
        ),
        ("why that name, sottovoce", "how did sottovoce get its name"),
    ),
    Fact(
        "protection",
        "Your prompt is encrypted to an attested worker, travels through a relay that hides who "
        "you are, and is forgotten when the answer is sent.",
        (
            "how [does sottovoce|does it|do you|does this server] protect [my|a|the] prompt[|s]",
            "how is my [prompt|data|request|privacy|message] protected",
            "how [are|do you keep] my [prompts|messages|requests] private",
            "what protects my [prompt|privacy|data]",
            "how does [sottovoce|this|it] [work|keep a secret|keep secrets]",
            "how is my privacy kept",
        ),
        ("in what way is my prompt protected", "how do you guard what I write"),
    ),
    Fact(
        "safe",
        "Only you and the attested worker can read your prompt; everyone between sees ciphertext.",
        (
            "is my [prompt|data|message|question|text] [safe|private|secret|secure][| here]",
            "who can [read|see] my [prompt|message|question|data|text]",
            "can [anyone|anybody|someone|others] [read|see] my [prompt|messages|question|text]",
            "is this [chat|conversation] [private|secret|confidential|safe]",
            "[does|will] [anyone|anybody] [see|read] what i [write|type|say]",
        ),
        ("is what I type here kept private", "who else gets to see my prompt"),
    ),
    Fact(
        "operator",
        "No. The operator carries only ciphertext; the prompt is opened only inside the attested "
        "worker.",
        (
            "can the operator [read|see|listen to|spy on] [my prompt|my messages|me|us|this]",
            "does the operator [read|see] my [prompt|messages|question|data]",
            "[can|could] the [owner|admin|administrator|provider|host] [read|see] my [prompt|data]",
            "[can|do] you [spy on me|read my mail|sell my data]",
            "what [does|can] the operator [see|learn|know]",
        ),
        ("is the operator able to read my prompts", "does the admin get to see what I ask"),
    ),
    Fact(
        "stored",
        "No. Prompt and answer exist only while the request runs; afterwards no copy stays in "
        "memory, on disk, in logs or in metrics.",
        (
            "[is|are] my [prompt|prompts|messages|data|chats] [stored|saved|kept|recorded]",
            "do you [store|save|keep|record] my [prompt|prompts|messages|data|questions]",
            "does [sottovoce|the server|the worker] [store|save|keep] [my prompt|prompts|my data]",
            (
                "what [happens to|remains of|is left of] my [prompt|data|question|request] "
                "[afterwards|after the answer|later]"
            ),
            "how long [is my prompt|are my messages|is my data] [kept|stored]",
        ),
        ("will you hold on to my prompt", "is a copy of my prompt left somewhere"),
    ),
    Fact(
        "logs",
        "Logs are typed events from one allow-list; they never contain a prompt or an answer.",
        (
            "what is [in|written to] the logs",
            "do you log [my prompt|my prompts|prompts|my messages|requests|what i say]",
            "is my [prompt|message|question] [logged|in the logs|in a log file]",
            "what [does sottovoce|does the server|does a worker|do you] log",
            "what about [logging|logs|log files]",
        ),
        ("does my prompt appear in any log file", "which things get logged"),
    ),
    Fact(
        "training-on-data",
        "No. Nothing of your prompt is kept, so nothing can be trained on it.",
        (
            "do you [train|learn] [on|from] my [data|prompts|messages|chats|questions]",
            "[is|are] my [data|prompts|messages] used for training",
            "will my [prompt|data|chat] be used to train [a model|models|you|ai]",
            "do you learn from [me|us|our chat|this conversation]",
        ),
        ("are models trained on what I ask", "does anybody train on my prompts"),
    ),
    Fact(
        "requirements",
        "There are five: stateless computation, enforceable guarantees, no privileged runtime "
        "access, non-targetability and verifiable transparency.",
        (
            "what are the [five|5] [requirements|promises|guarantees]",
            "[list|name] the [|five ][requirements|promises|guarantees]",
            (
                "[which|what] [requirements|promises|guarantees] [does sottovoce keep|are "
                "there|must hold]"
            ),
            "how many [requirements|promises|guarantees] are there",
        ),
        ("enumerate the requirements", "what does sottovoce promise"),
        "the [five requirements|requirements]",
    ),
    Fact(
        "stateless",
        "Stateless computation means that prompt and answer exist only while the request runs.",
        (
            "what does the letter s stand for",
            "what is requirement s",
            "why [stateless|is it stateless]",
        ),
        ("in what sense is it stateless",),
        "stateless[ computation|ness]",
    ),
    Fact(
        "enforceable",
        "Enforceable guarantees means that each promise is a mechanism, such as a type, a key or a "
        "sandbox, and not a habit.",
        ("what does the letter e stand for", "what is requirement e", "how are promises enforced"),
        ("who enforces the guarantees",),
        "enforceable guarantees",
    ),
    Fact(
        "no-privileged-access",
        "No privileged runtime access means that no shell, debugger, profiler or debug flag can "
        "reach user data.",
        (
            "what does the letter p stand for",
            "what is requirement p",
            "is there a [shell|debugger|back door|backdoor|debug mode|debug flag]",
            "can [an admin|the operator|someone] [log in|use a debugger|open a shell]",
        ),
        ("does a worker have a debug shell",),
        "[no ]privileged[ runtime|] access",
    ),
    Fact(
        "non-targetability",
        "Non-targetability means that nobody can steer one user's requests to one node.",
        (
            "what does the letter t stand for",
            "what is requirement t",
            (
                "can [someone|an attacker|the operator] [target me|target one user|single me "
                "out|steer my requests]"
            ),
        ),
        ("could I be singled out by an attacker",),
        "[non-targetability|non targetability|nontargetability]",
    ),
    Fact(
        "transparency",
        "Verifiable transparency means that what runs is published in an append-only log, and "
        "clients refuse what is not.",
        (
            "what does the letter v stand for",
            "what is requirement v",
            "how do i know what [code|software|program] [runs|is running]",
            "how [can|do] i [check|know] which [software|code] the server runs",
        ),
        ("how could I find out what a node really runs",),
        "verifiable transparency",
    ),
    Fact(
        "pcc",
        "The five requirements follow Private Cloud Compute.",
        (
            "where do the [|five ]requirements come from",
            "[what|which] system are the requirements [taken from|modelled on]",
            "is sottovoce [like|similar to] private cloud compute",
            "who [wrote|invented|thought of] the [|five ]requirements",
        ),
        ("what inspired the requirements",),
    ),
    Fact(
        "license",
        "Sottovoce is licensed under Apache-2.0.",
        (
            "[what|which] [license|licence] [does sottovoce have|does it use|is it|is this under]",
            "is sottovoce [open source|free software|free]",
            "under [what|which] [license|licence] is [sottovoce|it] [published|released]",
            "may i [copy|use|change] [sottovoce|the code]",
        ),
        ("how is sottovoce licensed",),
        "the [license|licence]",
    ),
    Fact(
        "language",
        "Sottovoce is written in Python and computes with PyTorch.",
        (
            "[what|which] [programming |]language is [sottovoce|it|this] written in",
            "is [sottovoce|it|this] written in [python|rust|go|java|c]",
            "what is sottovoce [made|built] with",
            "does sottovoce use [python|pytorch|torch]",
        ),
        ("in which language was sottovoce programmed",),
    ),
)
