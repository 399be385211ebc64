"""Further wordings of every fact: a line each, the name of the fact and patterns between slashes.

They say the same in other words than `Fact.patterns`, so that a fact hangs on the sense of a
question and not on one mould.
"""

from __future__ import annotations

_REPHRASED = """
what: what purpose does sottovoce [serve|have] / in [short|a few words|brief], what is sottovoce \
/ what [is sottovoce used for|can sottovoce do for me|would i need sottovoce for] / sottovoce: \
what is it / [give me|write] a [summary|short description] of sottovoce / [i am new here|never \
heard of it], what is sottovoce / what have i [installed|started] here
name: [what is|tell me] the [meaning|origin] of the name / why [the|this] name / who \
[chose|picked] that name and why / how come it [is called|has the name] sottovoce / is sottovoce \
an italian word / translate the word sottovoce / what [sort of|kind of] name is sottovoce
protection: [in what manner|by what means] [is|do you protect] my prompt[| protected] / how \
[is|do you make sure] what i write [kept safe|stays secret] / explain how [my prompt is|prompts \
are] protected / what [happens with|becomes of|way takes] my prompt on its way / how [do you \
guard|do you shield|are you guarding] [prompts|my data|my messages]
safe: [is it|am i] safe to [type|write|share] [secrets|private things|something private] here / \
is [anybody|someone|anyone] [reading|watching] [along|this|what i write] / [who|what people] [has \
access to|gets to read|gets to see] my [prompt|messages|text] / [does|do] [somebody|other \
people|others] [see|read] my [prompt|messages] / is what i [say|write|ask] here \
[private|confidential|secret|kept private] / can my prompt leak
operator: is the operator [able to|allowed to] [see|look at|listen to] [my messages|my data|me] / \
does [the admin|the provider|the host|whoever runs this] [get to see|look at|read] what i \
[write|type] / [will|would] the [admin|operator|owner] [know|find out] what i [ask|asked|write] / \
[could|can] [the people running this|the company|your owner] [read along|read this|listen in] / \
is the [provider|host|owner] [listening|reading along]
stored: [will|do] you [hold on to|retain|archive] my [messages|data|question|prompts] / is there \
a [copy|record|history] of my [prompts|chat|messages] / [do|will] [any copies|traces] of my \
prompt [remain|stay behind] / is anything [stored|saved|kept|left] [after|when] [my request|the \
answer|we are done] / when [is my prompt|is my data|are my messages] [deleted|erased|forgotten] / \
does anything of my [request|prompt|question] stay[| behind]
logs: [which|what] things [do you log|are logged|get written down] / does [anything|something] of \
my prompt [go into|show up in|land in] [the|a|any] log / [do|can] logs [contain|hold|include] \
[prompts|user data|my prompt|answers] / is there [a log file|a log of prompts|any logging] / what \
stands in the log files
training-on-data: does [anyone|someone|anybody] train on my [data|messages|questions] / \
[are|will] [models|you|your weights] be[|ing] [trained|improved] [on|with] my [chats|data] / is \
my [prompt|chat|question] [training data|used to improve you] / do my \
[messages|prompts|questions] [become|end up in|go into] training[| data] / [am i|is this] \
training [you|a model]
requirements: [enumerate|tell me|give me] the [five requirements|guarantees|promises] / what [do \
you|does it|does the server] promise / [which|what] five things [are required|does sottovoce \
guarantee|must hold] / what are [s, e, p, t and v|the letters s e p t v] / [which|what] \
guarantees do i [get|have]
stateless: in [which|what] way is [it|sottovoce] stateless / what [makes|keeps] it stateless / \
does it [keep|have] [any |]state / what is meant by stateless / is the computation stateless
enforceable: [who|what] enforces the [promises|rules] / what [makes|keeps] the guarantees \
[enforceable|enforced] / are the [promises|guarantees] [enforced|just words|only a habit] / why \
should i believe the promises
no-privileged-access: does a [worker|node] have a [shell|debugger|back door] / [is|could] there \
[be |]a secret [door|entrance|way in] / [can|may] [admins|engineers|operators] [debug|log in to] \
a [worker|node] / is there [ssh|remote access|root access] to [a worker|the workers]
non-targetability: [can|could] i be [targeted|singled out|picked out] / [can|could] \
[they|someone|an attacker] [pick|choose] [which node i get|my node for me] / is it possible to \
target [me|one user|a user] / can my [requests|prompts] be [sent|steered|directed] to [one|a \
certain] node
transparency: how [could|would] i [find out|learn|verify] what [a node|the server|a worker] runs \
/ [can|may] i [see|inspect] [what|the code that] runs / where is it published what runs / how is \
it [transparent|made transparent] / what does transparent mean here
pcc: what [was|is] the [model|source|inspiration] [of|for] the requirements / [are|were] the \
requirements [taken|copied] from [apple|private cloud compute|somewhere] / who inspired the \
requirements / what [has|does] private cloud compute [to do with|mean for] this / what is private \
cloud compute
license: [under|with] which [terms|conditions] [can|may] i use [it|sottovoce] / what are the \
license terms / [is|are] the [code|source|sources] [open|free] / is it open source / [can|may] i \
[fork|modify|redistribute|sell] [it|sottovoce] / is it [apache|mit|gpl]
language: what [is the code|was it|was sottovoce] [written|programmed|coded] in / [which|what] \
language [did they use|is used|is the code in] / is it python[| code] / [which|what] \
[framework|library] [does it compute with|does it use|is underneath] / what tools is it built \
with
client: which [task|job|work|duty] has the client / what [work|is] the client does / what is the \
client [responsible for|there for|good for] / [who|which party] [encrypts|checks nodes] / does \
the client [see|know] other users' data
proxy: what is the [job|task|purpose|role] of [the|a] [local |]proxy / why [does it need|run] a \
proxy / [which|what] [program|process] runs on my machine / who talks to my openai client / \
[is|does] the proxy [local|run locally|run on my machine]
relay: is the relay [able|allowed] to [read|see] [prompts|content|my text] / what [is visible \
to|can be learned by] the relay / what [is a relay good for|role has the relay] / [does|will] the \
relay [know|see|learn] [my address|my name|who i am|what i ask] / who passes [on |]the \
ciphertext[| on]
relay-operator: [may|could] the operator of the [worker|workers] [run|operate|own] [the|a] relay \
/ must the relay [have another operator|be run by somebody else|be independent] / [should|must] \
[the|a] relay and [the|a] worker [be separate|have different operators] / what if [the same \
people|one firm] [run|runs|own|owns] [both|relay and worker]
issuer: [who|which party|what part] [hands out|makes|mints|sells] [the |]tokens / what is the \
[job|task|role|purpose] of the issuer / from whom do i get [my |]tokens / does the issuer \
[know|learn|see] [where i use a token|what i ask|my prompt]
spent-store: how [is|do you prevent|do you stop] [double spending|spending a token twice][| \
prevented|] / what if i [spend|use] [a|the same] token [twice|two times|again] / who \
[remembers|knows|stores] [the |]used tokens / can a token be [reused|used again|spent twice]
worker: [at|in] [which|what] place is [my prompt|a request] [opened|decrypted] / who \
[opens|decrypts] [my prompt|requests|the request] / what is the [job|task|role] of a worker / \
what [is a node|are nodes|are workers|are the workers] / where is [the|an] answer [made|computed]
accelerator: [is|are] the [gpus|accelerators] trusted / [must|should] i trust the gpu / what is \
the gpu [used for|there for|doing] / [who|what] does the [heavy|matrix] work / what is the \
[job|role|task] of the [gpu|accelerator] / does a [bad|broken|lying] gpu matter
log: [which|what] [entries|things] [are in|does one find in|stand in] the [transparency |]log / \
what is [the log|the transparency log] [for|good for] / [who|can anyone] [checks|check] the log / \
[is|are] [releases|models|policies] [logged|in the log] / which list is append-only
witness: what [good|use|help] [are|is] [witnesses|a witness] / what is the [job|role|task] of a \
witness / [who|which party] cosigns[| checkpoints| the log] / how do witnesses help / can the log \
[lie|show different histories]
quorum: [what number of|how many] witnesses [do i need|is enough|have to sign|sign] / how \
[large|big] is the quorum / how many [signatures|cosignatures] [are needed|does it need] / how \
many of the witnesses must [agree|sign]
capsule: when does a capsule [end|exit|start|stop] / what is the [job|role|task] of a capsule / \
[is there|do you start] [a|one] process [for each|per] request / what [opens|handles] a request / \
does each request have its own process
keeper: [which|what] process [holds|keeps|has] the [keys|private keys|secret keys] / what is the \
[job|role|task] of the keeper / where [does|do] the [node's|worker's] [private |]keys live / who \
gives a capsule its key
front: [can|could] the front [read|decrypt|see] [anything|prompts|my prompt|plaintext] / what is \
the [job|role|task] of the front / which [process|part] is the web server / what does the [front \
process|worker's front] see
launcher: which [process|part] [starts|launches] [the rest|everything|other processes|a worker] / \
what is the [job|role|task] of the launcher / who asks [the platform |]for quotes / what runs \
first in a worker
engine: which [part|process] [computes|does the computing|does the computation|runs the model] / \
what is the [job|role|task] of the engine / what [comes out of|goes into] the engine / is the \
engine's memory [zeroed|erased|cleared]
tee: what is the [point|use|purpose] of [a tee|an enclave] / what [are|is a] [enclaves|trusted \
environments] / [which|what] part of a machine can its host not read / what do you mean by tee / \
the letters tee stand for what
attestation: [for what|why] do [you|we] [need|use|have] attestation / what is attestation \
[for|good for] / what does attestation [prove|show|tell me] / what do you mean by attested / what \
is an attested [node|worker]
quote: what can i [learn|see|read] [from|in] a quote / what [things|facts] does a quote \
[hold|show] / what does the platform sign / what is a quote [for|good for] / who signs quotes
receipt: [which|what] things does [a|the] receipt [show|list|tell] / what is [the|a] receipt \
[for|good for|about] / do i get [a receipt|proof|a proof] / what [comes with|is signed about] \
[each|an|every] answer / what can i do with the receipt
receipt-format: in [which|what] [form|encoding|way] [is|are] [a receipt|receipts] \
[written|stored|signed] / [is|are] [a receipt|receipts] [cose|cbor|json|a jwt] / what kind of \
signature has the receipt / which standard do receipts follow
verification: where [would|should|must] i look [for|to see] [the checks|the verdict|the \
verification] / [which|what] page shows the [checks|verdict|verification] / how [would|could] i \
[check|verify] [an answer|what i got] / show me the verification steps / how do i open the \
verification page / was my answer verified
skip: [does|is|can] [a skip|skip|skipped] [count as|be] [a pass|passed|good] / what [does it mean \
if|if] a [check|step] [is|was] skipped / why does a step say skip / explain [skip|skipped|skipped \
steps]
key-document: [which|what] [entries|fields|things] [does|has] [a|the] key document[| have] / for \
how [long|many hours] is a key document [good|valid] / when does a key document expire / where \
are a node's public keys [listed|published]
model-digest: [which|what] files [are in|are covered by|go into|does] the model digest[| cover] / \
could [somebody|you|they] [give me|use|run] another model secretly / how can i be sure [of the \
model|which model i get] / what does the model digest cover
ohttp: what is [ohttp|oblivious http] [good for|used for|about] / what do you mean by ohttp / how \
does [ohttp|oblivious http] work / [what is special about|why use] oblivious http
hpke: what is hpke [used|good|there] for / what do you mean by hpke / how does hpke work / with \
what is the request sealed to the node's key / why hpke
x-wing: what [is x-wing made of|are the parts of x-wing] / what [do you mean by|is meant by] \
x-wing / which [kem|key agreement|key exchange] does [it|sottovoce] use / how does x-wing work / \
what is x25519 used for
post-quantum: [will|would|are] quantum computers [be |]a [danger|problem|threat][| to it| to \
this] / [is|are] [my prompts|it|my data] safe [from|against] quantum [computers|attacks] / is it \
[quantum resistant|quantum proof|quantum-safe] / can quantum computers [break|read|open] it
cipher: [which|what] [algorithms|ciphers] [seal|encrypt|protect] [a request|requests|my prompt] / \
with what [is my prompt|are requests] [encrypted|sealed] / is it aes / what [sort|kind] of \
encryption [is this|is it|do you use] / are my requests encrypted
bhttp: what is [bhttp|binary http] [used for|good for|about] / what do you mean by bhttp / how \
does [bhttp|binary http] work / what is the binary form of http / why binary http
token: what [is|good is] the [use|purpose|point] of [a token|tokens] / what [are tokens for|is a \
token for|are the tokens] / how [is a request|are requests] paid for / what do tokens do / do i \
[need|have] to pay
blind-signature: [is it possible to|can you|could someone] link [a|my] token to [an|my] account / \
[why|how] [is|are] [the token|tokens] [signed|made] [blindly|blind] / what is blind about [a \
token|the signature] / does the signer see the token
privacy-pass: [are|is] [the tokens|a token] standard / [which|what] standard do [the |]tokens \
follow / what are the tokens [based on|called] / how does privacy pass work / which rfcs describe \
privacy pass / do you use privacy pass
padding: what [does padding hide|is hidden by padding] / what is padding [for|good for] / \
[can|could] [someone|anyone] [learn|guess] [something|anything] from the [size|length] / why do \
all messages have [the same|like] [size|sizes|length] / do you pad messages
streaming: [can|may|could] [answers|the answer|an answer] be streamed / is it possible to stream \
/ [do|does] you [support|have] streaming / are streams [sealed|encrypted|padded|safe] / what if \
[the|a] stream [breaks|ends early|is interrupted]
replay: what if [someone|somebody|an attacker] [sends|repeats|records] my [request|ciphertext] \
[again|twice] / [can|could] [a|my] request be [replayed|sent twice|repeated] / are replay attacks \
possible / how are replays [stopped|prevented|refused]
date: [how many minutes|by how much|how much] may the [date|clock] [be off|differ|be wrong] / \
[must|should] my clock be right / my clock is wrong, is that bad / is an old request \
[refused|accepted] / how long is a request [valid|good]
merkle: how [does one|can you|would i] [show|prove|check] that the log has [an|my] entry / what \
is a tree of hashes / [how do|why use] merkle trees[| work] / what [proves|shows] that something \
is in the log
checkpoint: what [is signed|stands] in a checkpoint / what is a checkpoint [for|good for] / [who \
signs|which statement has] the log's [size|root] / what do you mean by checkpoint
verified-compute: [how|in what way] is [the computation|compute|the work] [verified|checked] / \
[does|do] [someone|you|anyone] check the [gpu's|accelerator's] [work|results] / is the compute \
verified / what do you mean by verified compute / who checks the gpu
freivalds: how [can|could] [one|you] [verify|check] [a product of matrices|matrix products|a \
matmul] [cheaply|quickly] / what do you mean by freivalds / what is the freivalds trick / why is \
checking cheaper than computing / what was freivalds' idea
sides: [what|which] [does|is] [u|t] [do|for] / what [is|do] [t|u] [|side ]mean[|s] / which two \
sides are there / what are t and u for / what is the [untrusted|other] side
pipeline: how [does data|do blocks] [travel|go|get] to the [gpu|accelerator] / [are|is] \
[transfers|traffic] to the [gpu|accelerator] [encrypted|sealed] / [can|could] someone read [the \
bus|pcie|data on its way to the gpu] / what does the pipeline do
kv-cache: when is the [kv |]cache [erased|zeroed|emptied] / what is in the kv cache / what do you \
mean by kv cache / are [cache blocks|kv blocks|keys and values] [zeroed|erased|kept] / why is \
there a kv cache
batching: when [may|can] a [new |]request join / are [several|many] [users|requests] served \
[together|at once] / how does [continuous |]batching work / what is continuous batching for / can \
two [users|people] ask at once
prefix-cache: are [prompts|prefixes] [cached|shared] [between|across|among] [users|requests] / \
[can|could] another user's cache [help|betray] [me|my prompt] / is my prompt cached / do \
[users|requests] share a cache / how does the prefix cache work
scheduling: in [which|what] [order|sequence] are [requests|users|we] [served|handled] / [can|may] \
i [jump|pass] the queue / do [some|paying|important] users [come first|have priority] / how does \
the scheduler work / am i served first
speculation: where do [speculative|draft|guessed] tokens come from / how does [speculation|the \
draft model] work / [does|is] [it use|there] [a draft model|speculation] / do you [guess|predict] \
tokens ahead / is speculation safe
scale: what [must|should|can] i do [for|to serve] more users / how [many|large] can it \
[serve|grow] / does it scale / is it [hard|easy] to add workers / how do i scale [up|it|out]
upstream: [is it possible|am i able] to [use|run] [vllm|sglang] [with it|here|behind it] / what \
about [vllm|sglang] / do you [support|work with] [vllm|sglang] / [can|could] [another \
engine|vllm|sglang] [replace the engine|run instead|be used]
direct-mode: [for whom|for what|who] is direct mode[| for] / is direct mode \
[safe|private|anonymous] / what does direct mode [do|not hide] / can i use [it|sottovoce] without \
a proxy / does direct mode hide my address
oblivious-mode: what [does oblivious mode hide|is hidden in the oblivious mode] / is oblivious \
mode [safe|private|anonymous] / what does oblivious mode do / [does|can] the [node|worker] \
[see|learn] my [address|account|ip] / how do i stay anonymous
start: what [do|must|should] i type to [start|run|launch] [it|everything|the server] / [tell \
me|show me] how to [start|run|launch] [it|sottovoce] / how to [start|begin|run it] / [with which \
command|how] does [it|sottovoce] start / i want to [start|try|run] sottovoce
stop: what [do|must|should] i press to [stop|quit|end] [it|everything|the server] / [tell me|show \
me] how to [stop|quit|end] [it|sottovoce] / how to [stop|quit|shut it down] / i want to \
[stop|quit|end] sottovoce / how does [it|sottovoce] stop
openai-client: what base url [should|must|does] my client [have|use|need] / where [do i \
point|should i point] my [openai |]client / [can|how can] my openai [app|client|code] use it / \
what [address|url] does the [api|server|proxy] have / does the openai [sdk|client] work
api-key: is an api key [needed|required|mandatory] / what do i [put in|enter] as api key / is \
there an api key / which key does the [proxy|client] want / will any api key do / what happens \
with a wrong api key
own-model: how [would|could] i [serve|run|use] [a larger|another|my own] [model|llm] / [is it \
possible|am i able] to [serve|use|run] [another|a bigger] model / [does it|can it] \
[run|serve|load] [llama|qwen|mistral|other models] / i want a [better|bigger] model
tests: [which|what] command [runs|starts] the tests / how do i [test it|test sottovoce|test my \
change] / are there tests / where are the tests / how to run the tests
endpoints: [which|what] [http paths|urls|calls] [may|can] i [call|use] / is there a \
[chat|completions|models] endpoint / does it [have|offer] [chat completions|/v1/models] / what \
can i call over http / list the endpoints
trust-file: what does [the trust file|trust.toml] [hold|contain|say] / [which|what] file do i \
need [out of band|first] / why is there a trust file / where do i start to trust / what must i \
trust
simulated: how [good|safe|strong] is [the simulation|the simulated evidence|a simulated node] / \
does simulated evidence [prove|show] anything / what do you mean by simulated / is this real \
hardware / why is it simulated
platforms: on [which|what] [hardware|machines|chips|platforms] [does|can|will] it run / \
[what|which] [tee|cpu|gpu|hardware] do i need / is [tdx|snp|nvidia] supported / does it \
[work|run] on [tdx|snp|intel|amd|nvidia]
policy: what must a node [have|show|prove] / which [rules|conditions] must [a|every] node \
[meet|pass] / what does [my|the] client [demand|require|insist on] / does a client accept \
[any|every] node
boot-only: how much does a tpm [say|show|tell] / is a tpm [safe|good] / why is a tpm not enough / \
what do you mean by boot-only / [does|can] a tpm [protect|hide] memory
choice: how does the client [pick|choose|select|draw] a node / [who|what] picks [the|a|my] node / \
is the node [random|chosen at random] / [may|could] i pick [a|my] node
retry: [when|after what] is a request [tried again|retried|repeated] / [what|which] failures \
[permit|allow] [a retry|another try] / does the client retry / what [happens|does the client do] \
if a node is busy
node-list: [how|where] does [the|a|my] client [learn|know|get] [about|of] [the |]nodes / \
[who|what] lists the nodes / where are nodes listed / is there a list of nodes
at-rest: what [data|things] [survive|outlive|remain after] [a|my|the] request / which \
[data|things] [are kept|last|stay on disk] / what [remains|stays] [for ever|on disk|stored] / is \
anything [written to disk|on disk]
database: [what|which] databases [can i use|does the issuer use|are supported] / is there a \
database / does it [use|need|support] [sqlite|postgres|a database] / where does the issuer \
[keep|store] accounts
metrics: [which|what] [monitoring|counters] [does it have|is there|are there] / can i \
[watch|monitor] [a worker|it|the workers] / do [the |]metrics [hold|contain|leak] text / do you \
have prometheus
who-are-you: [tell me|say] who you are / what [do they call you|are you called] / [can|could] you \
introduce yourself / [which|what] model am i [using|talking to] / what [sort|kind] of \
[model|thing|assistant] are you / are you [an openai model|tinychat|mistral]
size: how [many|much] weights do you have / [tell me|what is] your [size|number of parameters] / \
are you a [big|large|small|tiny] model / how many [millions|billions] of parameters[| are you]
upbringing: [on|from] [which|what] [data|texts|dialogues] [did you learn|were you trained] / how \
did you [learn|come to be] / who [taught|programmed|wrote] you / [tell me|what is] your \
training[| data] / how was tinychat [trained|made]
abilities: [which|what] [things|tasks] [can you do|are you able to do] / what [sort|kind] of \
[questions|things] [can|may|should] i ask / [tell me|list|show me] what you can do / what [are \
you able to|can you] [answer|help with] / how [are you useful|can i use you]
human: is there [a human|a person|somebody|someone] [behind this|there|typing] / are you \
[really|a real] [human|a human|person] / do i [talk|chat|speak] [with|to] a [person|human] / [you \
are|are you] a human[|, right]
robot: would you [say you are|call yourself] a [bot|robot|program] / are you [just|only] a \
[program|machine|computer|model] / am i [talking|chatting] [to|with] a \
[bot|machine|robot|program] / are you [artificial|a language model|a neural network]
mistakes: is it possible [that you err|that you make mistakes] / [can|may|should] i [trust|rely \
on] [your answers|what you say|you] / are your answers [right|correct|always right|reliable] / do \
you [err|lie|hallucinate|get things wrong] / how [reliable|good] are you
languages: in [which|what] language[|s] [can|may|should] i [write|talk] to you / [do|can] you \
[understand|write|talk] [german|french|spanish|chinese|english] / is english [your only|the only] \
language / what do you speak
internet: [is|are] you online / [do|can] you [search|look] [online|the internet|on the web] / \
have you [internet access|access to the web] / where do you look things up / can you open a web \
page
memory: [can|could|will] you [recall|remember] [our chat|this|me] [later|next time|tomorrow] / do \
you remember what i [asked|told you] [yesterday|before|last week] / do you forget / how long do \
you remember [me|this|things]
feelings: is there [something|anything] you [feel|fear|love] / do you [feel|suffer|enjoy] \
[anything|something|this] / are you [angry|afraid|sentimental|in love] / have you [any \
|][feelings|emotions] / can you feel [pain|joy]
age: [what is|tell me] your [age|birthday] / in which year were you [made|born|trained] / are you \
[old|young] / how long have you [existed|been around|been alive] / when [did you come|were you \
brought|have you come] into being
place: in [which|what] [place|town|country|room] [are you|do you live] / what is your home / \
where [is your home|do you run|can i find you] / on which [machine|computer] do you [run|live]
favourite: [which|what] [colour|food|song|film|number|animal|book] do you [like|prefer|love][| \
best| most] / do you have a favourite [colour|food|song|film|number|animal] / [tell me|name] your \
favourite [colour|food|song|film|number|animal]
clock: [can|could] you tell me [the date|what time it is|what day it is|the hour] / do you know \
[the time|what time it is|the date|what day it is] / [how late|how early] is it / [tell me|say] \
the [time|date|day]
joke: [i would like|i want|give me] [a joke|some humour|something funny] / [tell me|say] \
something funny / [got|have you] any jokes / do you have humour / amuse me
"""


def _lines() -> dict[str, tuple[str, ...]]:
    named = (line.partition(": ") for line in _REPHRASED.replace("\\\n", "").strip().splitlines())
    return {
        name: tuple(pattern.strip() for pattern in patterns.split(" / "))
        for name, _, patterns in named
    }


REPHRASED: dict[str, tuple[str, ...]] = _lines()
