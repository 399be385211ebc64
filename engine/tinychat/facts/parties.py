"""The parties, and the processes inside a worker."""

from __future__ import annotations

from engine.tinychat.facts.fact import Fact

PARTIES = (
    Fact(
        "client",
        "The client encrypts the request, checks every node and every receipt, and sees only its "
        "own user's data.",
        ("what does the client [do|see|know|check]", "what is the client's [job|task|role]"),
        ("which work is done by the client",),
        "[the|a] client",
    ),
    Fact(
        "proxy",
        "The proxy is a small server on your machine: your OpenAI client talks to it, and it "
        "encrypts, forwards and checks.",
        (
            "what does the proxy [do|see]",
            "why [is there|do i need] a proxy",
            "where does the proxy run",
        ),
        ("what is the job of the proxy",),
        "[the|a|the local] proxy",
    ),
    Fact(
        "relay",
        "The relay passes ciphertext on to a node. It sees your address, but never the content, "
        "the account or the tokens.",
        (
            "what does the relay [do|see|know|learn]",
            "can the relay [read|see] my [prompt|messages|data]",
            "why is there a relay",
            "what is the relay [for|good for]",
        ),
        ("is a relay able to read my question", "what can be seen by the relay"),
        "[the|a] relay",
    ),
    Fact(
        "relay-operator",
        "Relay and workers must have different operators: together they could link your address "
        "to your prompt, apart neither can.",
        (
            "who [runs|operates|should run] the relay",
            "why must the relay be [another|a different] operator",
            (
                "can [one operator|the same operator|one company] run [relay and "
                "worker|both|everything]"
            ),
            "what if relay and worker [work together|collude|belong to one operator]",
        ),
        ("may the worker's operator also run the relay",),
    ),
    Fact(
        "issuer",
        "The issuer gives blind-signed tokens to accounts. It never learns which token is used "
        "where.",
        (
            "what does the issuer [do|see|know|learn]",
            "who [issues|gives out|signs] the tokens",
            "where do tokens come from",
        ),
        ("which party hands out tokens",),
        "[the|an|the token] issuer",
    ),
    Fact(
        "spent-store",
        "The spent-token store keeps hashes of used tokens, so that no token pays twice. It sees "
        "neither account nor content.",
        (
            "can i use a token twice",
            "what [prevents|stops] [double spending|using a token twice]",
            "what does the [spent store|spent-token store] [do|keep|see]",
            "where are [used|spent] tokens [kept|stored|remembered]",
        ),
        ("how is double spending of a token prevented",),
        "the [spent-token store|spent store|spent token store]",
    ),
    Fact(
        "worker",
        "A worker is an attested node inside a trusted execution environment, the only place where "
        "a prompt is opened.",
        (
            "what does [a|the] worker [do|see]",
            "where is my prompt [opened|decrypted|read]",
            "where does the model run",
        ),
        ("at which place is a prompt decrypted",),
        "[a|the] [worker|worker node|node]",
    ),
    Fact(
        "accelerator",
        "The accelerator does the heavy matrix work. Its results are checked, not trusted.",
        (
            "what does the [gpu|accelerator] do",
            "do you trust the [gpu|accelerator]",
            "can the [gpu|accelerator] [cheat|lie]",
            "what [happens|is] if the gpu [lies|cheats|is wrong]",
        ),
        ("is the GPU trusted",),
        "the [gpu|accelerator]",
    ),
    Fact(
        "log",
        "The transparency log is an append-only list of releases, models, policies, keys and nodes "
        "that anyone can check.",
        (
            "what does the [log|transparency log] [do|contain|hold]",
            "why is there a [log|transparency log]",
            "what is written in the transparency log",
        ),
        ("which entries does the transparency log have",),
        "[the|a] transparency log",
    ),
    Fact(
        "witness",
        "A witness cosigns the log's checkpoints, so that the log cannot show different histories "
        "to different people.",
        (
            "what does a witness do",
            "why [are there|do we need] witnesses",
            "what are [the witnesses|witnesses] for",
        ),
        ("what good is a witness",),
        "[a witness|the witnesses|witnesses]",
    ),
    Fact(
        "quorum",
        "On one machine there are three witnesses, and two of them must cosign.",
        (
            "how many witnesses [are there|do you have|must sign|are needed|must cosign]",
            "what is the quorum",
        ),
        ("what number of witnesses has to cosign",),
        "[the|a] quorum",
    ),
    Fact(
        "capsule",
        "A capsule is a process for one request: it opens the request, seals the answer and exits.",
        (
            "what does a capsule do",
            "why one [process|capsule] for each request",
            "how long does a capsule live",
        ),
        ("when does a capsule end",),
        "[a|the] capsule",
    ),
    Fact(
        "keeper",
        "The keeper holds a node's private keys and gives each capsule only the context of its own "
        "request.",
        (
            "what does the keeper do",
            "who [holds|has|keeps] the [private|secret] keys",
            "where are the [private|secret] keys",
        ),
        ("which process holds the private keys",),
        "[the|a] keeper",
    ),
    Fact(
        "front",
        "The front is the worker's web server. It sees only ciphertext and has no key.",
        (
            "what does the front [do|see|know]",
            "what is the worker's web server",
            "does the front have [a key|keys]",
        ),
        ("can the front read anything",),
        "the front",
    ),
    Fact(
        "launcher",
        "The launcher starts the other processes of a worker and asks the platform for quotes.",
        (
            "what does the launcher do",
            "who starts the [processes|other processes]",
            "what starts a worker",
        ),
        ("which process starts the others",),
        "[the|a] launcher",
    ),
    Fact(
        "engine",
        (
            "The engine computes: token ids in, token ids out. It zeroes its memory after "
            "each request."
        ),
        (
            "what does the engine do",
            "what goes in and out of the engine",
            "does the engine [clear|zero|erase] its memory",
        ),
        ("which part does the computing",),
        "the engine",
    ),
)
