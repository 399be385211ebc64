"""What the model knows about sottovoce and about itself: each fact with many wordings.

A `Fact` that explains a term gets the general shells (`TERM_SHELLS`) on top of its own patterns.
`held_out` patterns and `HELD_OUT_SHELLS` are for evaluation only and never reach training.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from engine.tinychat.grammar import expand, expand_all

TERM_SHELLS = (
    "what [is|exactly is] {x}",
    "what's {x}",
    "[explain|define|describe] {x}[| to me| briefly]",
    "[tell me|say something|talk] about {x}",
    "[can|could|would] you [explain|describe] {x}",
    "i [do not|don't] [understand|know] {x}",
    "what does {x} mean",
    "what do you know about {x}",
    "[help me understand|i want to know about|teach me about] {x}",
    "{x}",
    "what [is|was] {x} again",
)
HELD_OUT_SHELLS = (
    "how would you describe {x}",
    "could you tell me what {x} is",
    "give me a short explanation of {x}",
)


@dataclass(frozen=True)
class Fact:
    """One answer and the questions it answers.

    `term` is a pattern for the subject of the general shells; empty means that they do not fit.
    """

    name: str
    answer: str
    patterns: tuple[str, ...]
    held_out: tuple[str, ...]
    term: str = ""

    def _shells(self, shells: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(shell.replace("{x}", self.term) for shell in shells) if self.term else ()

    def wordings(self, *, held_out: bool) -> list[str]:
        """Return every wording of this fact, for training or for evaluation."""
        return [text for pattern in self._all(held_out=held_out) for text in expand_all(pattern)]

    def _all(self, *, held_out: bool) -> tuple[str, ...]:
        if held_out:
            return self.held_out + self._shells(HELD_OUT_SHELLS)
        return self.patterns + self._shells(TERM_SHELLS)

    def question(self, rng: random.Random, *, held_out: bool) -> str:
        """Return one wording; own patterns and general shells are equally likely as groups."""
        own = self.held_out if held_out else self.patterns
        shells = self._shells(HELD_OUT_SHELLS if held_out else TERM_SHELLS)
        group = shells if shells and (not own or rng.random() < 0.5) else own
        return expand(rng.choice(group), rng)


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
            "what [happens to|remains of|is left of] my [prompt|data|question|request] [afterwards|after the answer|later]",
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
            "[which|what] [requirements|promises|guarantees] [does sottovoce keep|are there|must hold]",
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
            "can [someone|an attacker|the operator] [target me|target one user|single me out|steer my requests]",
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
            "can [one operator|the same operator|one company] run [relay and worker|both|everything]",
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
        "The engine computes: token ids in, token ids out. It zeroes its memory after each request.",
        (
            "what does the engine do",
            "what goes in and out of the engine",
            "does the engine [clear|zero|erase] its memory",
        ),
        ("which part does the computing",),
        "the engine",
    ),
)

CRYPTOGRAPHY = (
    Fact(
        "tee",
        "A trusted execution environment is a part of a machine whose memory its host cannot read.",
        ("what does tee [mean|stand for]", "why [use|do you need] a tee"),
        ("what is the point of a TEE",),
        "[a tee|tee|a trusted execution environment|an enclave|confidential computing]",
    ),
    Fact(
        "attestation",
        "Attestation is evidence, signed by the platform, of which software a node runs.",
        (
            "why [attestation|is there attestation]",
            "how [is a node|are nodes] attested",
            "what does attested mean",
        ),
        ("for what do we need attestation",),
        "[|remote ]attestation",
    ),
    Fact(
        "quote",
        "A quote is signed evidence about the software and the keys inside a node.",
        ("what is in a quote", "what does a quote [say|prove|contain]"),
        ("what can I learn from a quote",),
        "[a|the] quote",
    ),
    Fact(
        "receipt",
        "The receipt is a signed statement about one answer: which node, model and policy made it, "
        "with hashes of request and answer.",
        (
            "what is in [a|the] receipt",
            "what does [a|the] receipt [say|prove|contain]",
            "why do i get a receipt",
            "what proof [do i get|comes with an answer]",
        ),
        ("which things does a receipt prove",),
        "[a|the] receipt",
    ),
    Fact(
        "receipt-format",
        "A receipt is a set of EAT claims in COSE_Sign1, signed with Ed25519.",
        (
            "what [format|encoding] [does|has] [a|the] receipt[| have]",
            "how is [a|the] receipt [signed|encoded]",
            "[which|what] signature [does|is on] [a|the] receipt[| have]",
        ),
        ("in which format are receipts",),
        "the receipt format",
    ),
    Fact(
        "verification",
        "Open /verification at the proxy: it lists every step as pass, fail or skip, with the "
        "reason.",
        (
            "how [can|do] i [check|verify] [it|this|the answer|an answer|that|the receipt]",
            "where [can|do] i [see|find] the [verdict|verdicts|verification|checks]",
            "how [can|do] i [see|know] that [it is verified|it is checked|the checks passed]",
            "what is [|at ]/verification",
        ),
        ("where would I look at the verification steps",),
    ),
    Fact(
        "skip",
        "Skip means that a step was not checked. A skipped step never counts as a pass.",
        (
            "what does skip mean",
            "what is a skipped step",
            "is [skip|a skipped step] [good|a pass|ok]",
            "what if a step [is|says] [skipped|skip]",
        ),
        ("does skipped count as passed",),
    ),
    Fact(
        "key-document",
        "The key document lists a node's public keys, model digest and policy digest; it is valid "
        "for at most six hours.",
        (
            "what is in [a|the] key document",
            "how long is a key document valid",
            "how [often|long] are keys [changed|rotated|used]",
        ),
        ("which entries does a key document have",),
        "[a|the] key document",
    ),
    Fact(
        "model-digest",
        "The model digest is a Merkle root over weights, configuration, tokenizer and chat "
        "template.",
        (
            "how do i know which model [answers|answered|runs|is used]",
            "what is hashed for the model digest",
            "can [someone|the operator] swap the model",
        ),
        ("which files does the model digest cover",),
        "the model digest",
    ),
    Fact(
        "ohttp",
        "Oblivious HTTP is RFC 9458: the relay knows who asks, the gateway knows what is asked, "
        "and neither knows both.",
        (
            "what does ohttp [mean|stand for]",
            "which rfc is [ohttp|oblivious http]",
            "what is rfc 9458",
            "why [ohttp|oblivious http]",
        ),
        ("what is OHTTP good for",),
        "[ohttp|oblivious http]",
    ),
    Fact(
        "hpke",
        "HPKE is hybrid public key encryption, RFC 9180. It seals the request to the node's key.",
        ("what does hpke [mean|stand for]", "which rfc is hpke", "what is rfc 9180"),
        ("for what is HPKE used",),
        "[hpke|hybrid public key encryption]",
    ),
    Fact(
        "x-wing",
        "X-Wing is a key exchange that joins ML-KEM-768 with X25519.",
        (
            "which key exchange [is used|do you use]",
            "what does x-wing [do|join|combine]",
            "what is ml-kem",
        ),
        ("of which parts is X-Wing made",),
        "[x-wing|xwing|x wing]",
    ),
    Fact(
        "post-quantum",
        "Yes. Requests are sealed with X-Wing, which stays safe if one day a quantum computer "
        "breaks X25519.",
        (
            "is [it|sottovoce|this] [quantum safe|post-quantum|safe against quantum computers]",
            "[can|could] a quantum computer [break it|break this|read my prompt]",
            "what about quantum computers",
            "does sottovoce use post-quantum [cryptography|encryption]",
        ),
        ("will quantum computers be a danger to it",),
    ),
    Fact(
        "cipher",
        "Requests are sealed with X-Wing and AES-128-GCM in chunked Oblivious HTTP.",
        (
            "[which|what] [cipher|encryption] [is used|do you use|does sottovoce use|is it]",
            "how [is my request|are requests|is a request] [encrypted|sealed]",
            "what [algorithm|algorithms] [encrypt|protect] my request",
            "is [it|this|my prompt] encrypted",
        ),
        ("which algorithms seal a request",),
    ),
    Fact(
        "bhttp",
        "Binary HTTP is RFC 9292, a compact form of an HTTP message that can be encrypted as a "
        "whole.",
        (
            "what does bhttp [mean|stand for]",
            "which rfc is [bhttp|binary http]",
            "what is rfc 9292",
        ),
        ("for what is binary HTTP used",),
        "[bhttp|binary http]",
    ),
    Fact(
        "token",
        "A token is a blind-signed proof that you may ask. It pays for a request without naming "
        "your account.",
        (
            "what does a token do",
            "how do i pay",
            "how [are|do i pay for] requests[| paid]",
            "why are there tokens",
        ),
        ("what is the use of a token",),
        "[a token|the tokens|a privacy token]",
    ),
    Fact(
        "blind-signature",
        "In a blind signature the signer does not see what it signs, so a token cannot be linked "
        "to an account.",
        (
            "can a token be linked to [me|my account]",
            "why are tokens blind",
            "how [does blind signing work|are tokens signed]",
        ),
        ("is it possible to link a token to its account",),
        "[a blind signature|blind signatures|blind rsa|blind signing]",
    ),
    Fact(
        "privacy-pass",
        "Privacy Pass is the standard for the tokens, RFC 9576 to 9578; sottovoce uses type 2, "
        "blind RSA.",
        (
            "which [standard|rfc] [defines|is behind] the tokens",
            "what is rfc 9578",
            "which token type [is used|do you use]",
        ),
        ("are the tokens standard ones",),
        "privacy pass",
    ),
    Fact(
        "padding",
        "Padding makes messages of many lengths look alike, so that their size says little about "
        "the content.",
        (
            "why [is there padding|do you pad|are messages padded]",
            "does the size [of a message|of my prompt] [leak|tell] [anything|something]",
        ),
        ("what does padding hide",),
        "[|the ]padding",
    ),
    Fact(
        "streaming",
        "Yes. Each event of a stream is sealed and padded by itself, and a cut stream can never "
        "look complete.",
        (
            "[can|do] you stream[| answers]",
            "is streaming supported",
            "does streaming work",
            "what [happens|is] if a stream is cut",
        ),
        ("are streamed answers possible",),
    ),
    Fact(
        "replay",
        "A replayed request is refused: each encapsulated key is accepted only once.",
        (
            "can [someone|an attacker] replay my request",
            "what [happens to|about] [replays|a replayed request]",
            "are replays [possible|refused]",
        ),
        ("what if somebody sends my ciphertext again",),
        "a replay",
    ),
    Fact(
        "date",
        "The Date of a request may be at most five minutes off.",
        (
            "how [wrong|far off] may my clock be",
            "what if my clock is wrong",
            "how old may a request be",
            "what is the date window",
        ),
        ("by how much may a request's Date differ",),
    ),
    Fact(
        "merkle",
        "A Merkle tree is a tree of hashes: a short proof shows that an entry is in the log.",
        ("how [is|do i prove that] an entry [|is ]in the log[| proven]", "what is a merkle root"),
        ("how does one show that the log has an entry",),
        "[a merkle tree|merkle trees|an inclusion proof]",
    ),
    Fact(
        "checkpoint",
        "A checkpoint is a signed statement of the log's size and root hash.",
        ("what is in a checkpoint", "what does a checkpoint [say|contain]"),
        ("what is signed in a checkpoint",),
        "[a|the] checkpoint",
    ),
)

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

USE = (
    Fact(
        "direct-mode",
        "Direct mode is for plain curl: TLS ends inside a capsule. It does not hide your address, "
        "so its verdict says that T fails.",
        (
            "can i use [plain curl|curl]",
            "when [should|would] i use direct mode",
            "how does direct mode work",
            "what does --direct do",
        ),
        ("for whom is direct mode",),
        "[|the ]direct mode",
    ),
    Fact(
        "oblivious-mode",
        "In oblivious mode a request goes through the relay and carries a blind token, so the node "
        "knows neither address nor account.",
        (
            "how does oblivious mode work",
            "does the node know [who i am|my address|my account]",
            "which mode hides [me|my address|who i am]",
        ),
        ("what is hidden in oblivious mode",),
        "[|the ]oblivious mode",
    ),
    Fact(
        "start",
        "Run make up. When it is ready it prints http://127.0.0.1:8080/v1.",
        (
            "how do i [start|run|launch|install|set up] [sottovoce|it|this|the server|everything]",
            "how [can|do] i get started",
            "[which|what] command starts [sottovoce|it|everything]",
            "what [is|does] make up[| do]",
        ),
        ("what do I type to start sottovoce",),
    ),
    Fact(
        "stop",
        "Press Ctrl-C: every party stops and nothing is left behind.",
        (
            "how do i [stop|quit|end|shut down] [sottovoce|it|this|the server|everything]",
            "what does ctrl-c do",
        ),
        ("what do I press to stop sottovoce",),
    ),
    Fact(
        "openai-client",
        "Set the base URL of your OpenAI client to http://127.0.0.1:8080/v1.",
        (
            "how do i use [sottovoce|it|this] with [openai|my openai client|the openai sdk|python]",
            "what is the base url",
            "how do i connect[| my client| my app]",
            "which url [do i use|should i use|does it have]",
            "is it [openai compatible|compatible with openai]",
        ),
        ("which base URL should my client have",),
    ),
    Fact(
        "api-key",
        "Any API key will do: the local proxy accepts them all.",
        (
            "[which|what] api key [do i need|should i use|do i use]",
            "do i need an api key",
            "where do i get an api key",
        ),
        ("is an API key necessary",),
        "the api key",
    ),
    Fact(
        "own-model",
        "Run make up MODEL=DIR with the folder of any Hugging Face model.",
        (
            "[can|how can|how do] i use [another|my own|a different|a bigger|a better] model",
            "how do i [change|serve|load] [the|another|my] model",
            "which models [can i use|work|are supported]",
        ),
        ("how would I serve a larger model",),
    ),
    Fact(
        "tests",
        "Run make test for the tests and make check for everything a change must pass.",
        (
            "how do i [run|start] the tests",
            "how [is|can i] [it|sottovoce] test[|ed]",
            "what does make [test|check] do",
        ),
        ("which command runs the test suite",),
    ),
    Fact(
        "endpoints",
        "Sottovoce answers /v1/chat/completions, /v1/completions and /v1/models, as OpenAI does.",
        (
            "[which|what] [endpoints|paths|routes|apis] [are there|do you have|are supported]",
            "what api does [it|sottovoce] [have|speak|offer]",
        ),
        ("which HTTP paths may I call",),
        "the [api|endpoints]",
    ),
    Fact(
        "trust-file",
        "It is the one file you get out of band: log key, witness keys, platform roots and issuer "
        "name.",
        (
            "what is in [trust.toml|the trust file]",
            "what do i need [trust.toml|the trust file] for",
            "where does trust begin",
            "whom do i [trust|have to trust]",
        ),
        ("what does trust.toml hold",),
        "[trust.toml|the trust file]",
    ),
    Fact(
        "simulated",
        "Simulated evidence is for trying sottovoce on one machine. It proves nothing about real "
        "hardware, and every surface says so.",
        (
            "is [this|the evidence|it] simulated",
            "why does it say simulated",
            "is simulated [evidence |]safe",
            "what does allow-simulated do",
        ),
        ("how good is simulated evidence",),
        "[simulated evidence|the simulated platform|simulated]",
    ),
    Fact(
        "platforms",
        "Sottovoce knows tdx, snp, azure-vtpm, gce-vtpm, tpm, nvidia for GPUs, and simulated.",
        (
            "[which|what] [platforms|hardware|tees] [are supported|do you support|does it support|can i use]",
            "does it support [tdx|snp|nvidia|amd|intel]",
        ),
        ("on which platforms does it run",),
        "the platforms",
    ),
    Fact(
        "policy",
        "By default a client accepts only tdx and snp nodes with a logged release, verified compute "
        "and sealed transfers.",
        (
            "[which|what] nodes does [a|the|my] client accept",
            "what is the default policy",
            "when is a node refused",
        ),
        ("what must a node fulfil by default",),
        "the [client|default client] policy",
    ),
    Fact(
        "boot-only",
        "A TPM proves only how a machine was started: its host can still read memory.",
        (
            "is a tpm [enough|as good as a tee]",
            "what does [a tpm|measured boot] prove",
            "can the host read memory with a tpm",
        ),
        ("how much does a TPM prove",),
        "[boot-only|measured boot|allow-boot-only]",
    ),
    Fact(
        "choice",
        "The client draws a node at random, weighted by capacity, so that nobody can steer it.",
        (
            "how is [a|the|my] node chosen",
            "who chooses [the|my] node",
            "can i choose [a|the] node",
            "which node [do i get|answers me]",
        ),
        ("in what way does the client pick a node",),
    ),
    Fact(
        "retry",
        "Only an authenticated busy or a signed failure, before any byte arrived, permits another "
        "try, at most twice.",
        (
            "when does the client [retry|try again]",
            "how [often|many times] does the client [retry|try again]",
            "are [failed requests|requests] retried",
        ),
        ("after which failures is a request tried again",),
        "[|the ]retries",
    ),
    Fact(
        "node-list",
        "The node list is an entry of the log, exactly one for each epoch, cosigned by witnesses.",
        (
            "where does the client find [nodes|the nodes]",
            "how do i know the nodes",
            "how many node lists are there",
        ),
        ("from where do clients learn about nodes",),
        "the node list",
    ),
    Fact(
        "at-rest",
        "Only two things last: the issuer's accounts and quotas, and the hashes of spent tokens.",
        (
            "what [is|do you keep] [stored |]on disk",
            "what data [lasts|is at rest|stays]",
            "what is in the database",
        ),
        ("which data survive a request",),
        "data at rest",
    ),
    Fact(
        "database",
        "SQLite by default, or PostgreSQL by URL.",
        (
            "[which|what] database [do you use|does it use|is used|do i need]",
            "can i use [postgres|postgresql|sqlite|mysql]",
        ),
        ("what databases can the issuer use",),
        "the database",
    ),
    Fact(
        "metrics",
        "Metrics are Prometheus counters from one allow-list; they hold no text.",
        (
            "what metrics [are there|do you have]",
            "is there [monitoring|prometheus]",
            "what do the metrics [say|hold|contain]",
        ),
        ("which monitoring does a worker offer",),
        "the metrics",
    ),
)

ITSELF = (
    Fact(
        "who-are-you",
        "I am tinychat, the small model in the box of sottovoce.",
        (
            "who are you",
            "what are you",
            "what[ is|'s] your name",
            "[what should i call you|do you have a name]",
            "[introduce yourself|tell me about yourself]",
            "[which|what] model [is this|are you]",
            "are you [chatgpt|gpt|claude|llama|gemini|siri]",
            "who am i [talking|speaking|chatting] [to|with]",
        ),
        ("may I ask who you are", "with which model do I chat"),
        "tinychat",
    ),
    Fact(
        "size",
        "I have about three million parameters, which is very little.",
        (
            "how [big|large|small] are you",
            "how many parameters do you have",
            "what[ is|'s] your size",
            "are you [big|small|large]",
        ),
        ("what number of parameters have you got",),
    ),
    Fact(
        "upbringing",
        "I was trained from random weights on dialogues that this project generates itself.",
        (
            "how were you [trained|made|built]",
            "who [made|trained|built|created] you",
            "what [data|text] were you trained on",
            "where do you come from",
            "where did you learn [that|this|all this]",
        ),
        ("on which data did you learn",),
    ),
    Fact(
        "abilities",
        "I can tell you about sottovoce, do small sums, name capitals, copy, count and read short "
        "texts.",
        (
            "what can you do",
            "what [do you know|are you able to do|are your skills]",
            "help",
            "[how can you help|can you help me|help me]",
            "what can i ask[| you]",
            "what are you good at",
        ),
        ("which things are you able to do", "what sort of questions can I ask"),
    ),
    Fact(
        "human",
        "No. I am a very small language model.",
        (
            "are you [human|a human|a person|real|alive|a man|a woman]",
            "am i talking to a [human|person]",
            "are you [conscious|sentient]",
        ),
        ("is there a human behind this",),
    ),
    Fact(
        "robot",
        "Yes. I am a very small language model.",
        (
            "are you [a robot|a bot|a machine|a computer|a program|an ai|ai|a language model]",
            "is this [a bot|an ai|a machine]",
        ),
        ("would you say you are a machine",),
    ),
    Fact(
        "mistakes",
        "Yes, often. I am very small, so please check what I say.",
        (
            "do you make mistakes",
            "are you [ever wrong|sometimes wrong|often wrong]",
            "can you be wrong",
            "[should|must] i check [your answers|what you say]",
        ),
        ("is it possible that you are wrong",),
    ),
    Fact(
        "languages",
        "I speak only simple English.",
        (
            "[which|what] languages do you [speak|know|understand]",
            "do you speak [german|french|spanish|italian|chinese|english]",
            "can you speak [german|french|spanish|italian]",
        ),
        ("in which languages can I write to you",),
    ),
    Fact(
        "internet",
        "No. I look nothing up; I know only what is in my weights.",
        (
            "[do you have|are you connected to] the internet",
            "can you [search the web|look things up|browse|google|use the internet]",
            "do you look things up",
        ),
        ("is a web search possible for you",),
    ),
    Fact(
        "memory",
        "No. When a request ends, nothing of it is left.",
        (
            "[do|will] you remember [me|this|our chat|what i said|me tomorrow]",
            "do you have a memory",
            "will you forget me",
        ),
        ("can you recall our chat tomorrow",),
    ),
    Fact(
        "feelings",
        "I have no feelings, but thank you for asking.",
        (
            "do you have feelings",
            "are you [happy|sad|tired|bored|lonely]",
            "do you [love me|like me|sleep|dream]",
            "what do you feel",
        ),
        ("is there anything you feel",),
    ),
    Fact(
        "age",
        "I have no age. I was trained once and have not changed since.",
        (
            "how old are you",
            "when were you [born|made|trained]",
            "what[ is|'s] your age",
            "do you have a birthday",
        ),
        ("what would your age be",),
    ),
    Fact(
        "place",
        "I live in a small file that comes with sottovoce, and I run inside a worker.",
        ("where are you", "where do you live", "where are you [running|from|located]"),
        ("in what place are you",),
    ),
    Fact(
        "favourite",
        "I have no favourites, but I like short questions.",
        (
            "what[ is|'s] your favourite [colour|food|song|film|number|animal]",
            "what[ is|'s] your favorite [color|food|song|movie]",
            "what do you like",
        ),
        ("which song do you like best",),
    ),
    Fact(
        "clock",
        "I have no clock, so I cannot say.",
        (
            "what time is it",
            "what[ is|'s] the [time|date]",
            "what day is [it|today]",
            "which [year|day|month] is it",
            "what is today's date",
        ),
        ("can you tell me the time",),
    ),
    Fact(
        "joke",
        "I would tell you a secret, but I have already forgotten it.",
        (
            "tell me a joke",
            "[do you know|say|make] a joke",
            "make me laugh",
            "can you tell [me |]a joke",
            "be funny",
        ),
        ("I would like to hear a joke",),
    ),
)

FACTS: tuple[Fact, ...] = ABOUT_THE_PROJECT + PARTIES + CRYPTOGRAPHY + ENGINE + USE + ITSELF
