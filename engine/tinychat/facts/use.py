"""Starting and using sottovoce, its modes and its policies."""

from __future__ import annotations

from engine.tinychat.facts.fact import Fact

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
            (
                "[which|what] [platforms|hardware|tees] [are supported|do you support|does "
                "it support|can i use]"
            ),
            "does it support [tdx|snp|nvidia|amd|intel]",
        ),
        ("on which platforms does it run",),
        "the platforms",
    ),
    Fact(
        "policy",
        "By default a client accepts only tdx and snp nodes with a logged release, verified "
        "compute and sealed transfers.",
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
