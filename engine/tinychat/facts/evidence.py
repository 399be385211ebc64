"""Evidence, receipts, tokens, the log, and the cryptography under them."""

from __future__ import annotations

from engine.tinychat.facts.fact import Fact

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
