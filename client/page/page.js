// The page's one script. What is said lives in `talk`, a variable: nothing is written to storage, to
// the address or to the history, and `forget` drops it. Text becomes text nodes, never markup.
"use strict";

const talk = []; // {role, content, good}: the turns; only answers that held are sent along again
let way = null; // the passage that the glass box shows
let state = null; // the last of /verification
let asking = null; // the AbortController of the request under way

const folds = new Map(); // which folds a person opened or closed, by title

const RETRY_MS = 2000; // while there is no model to ask

const at = (id) => document.getElementById(id);
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const short = (hex) => `${hex.slice(0, 8)}…${hex.slice(-8)}`;
const WORDS = { pass: "pass", fail: "fail", skip: "skip" };

/** Make an element: `make("p", {class: "hint"}, "text", child, ...)`. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function rows(pairs) {
  return make("dl", {}, ...pairs.flatMap(([term, what]) => [make("dt", {}, term), make("dd", {}, what)]));
}

const code = (text) => make("code", {}, text);
const say = (text) => { at("status").textContent = text; };

// ---- the glass box ----------------------------------------------------------------------------

function showBox() {
  showVerdict();
  showDraw();
  showRelay();
  showWork();
  showSteps();
  showReceipt();
  showWallet();
}

function judged() {
  if (!way) return ["waiting", "Nothing asked yet", "No answer, so nothing to believe."];
  if (way.outcome === null && way.broken) return ["fail", "Not verified", "The request ended before anything could be checked."];
  if (way.outcome === null) return ["waiting", "Not verified yet", "The receipt comes last; until then the text is only text."];
  const failed = way.steps.find((step) => step.outcome === "fail");
  if (failed) return ["fail", "Not to be believed", `${failed.step}: ${failed.reason}.`];
  const weak = way.draws.at(-1)?.weaknesses ?? [];
  if (weak.includes("simulated")) return ["made-up", "Checked, but SIMULATED", "Every step ran, over evidence that was made up on this machine. It proves nothing."];
  if (weak.length) return ["skip", "Checked, with a weakness", `This node is accepted although: ${weak.join(", ")}.`];
  if (way.outcome === "skip") return ["skip", "Checked in part", "Some steps were skipped; each says why."];
  return ["pass", "Verified", `All ${way.steps.length} steps pass.`];
}

function showVerdict() {
  const [kind, title, text] = judged();
  at("verdict").className = `verdict ${kind}`;
  const strip = make("div", { class: "strip", "aria-hidden": "true" }, ...(way?.steps ?? []).map((step) => make("i", { class: step.outcome })));
  at("verdict").replaceChildren(make("b", {}, title), make("span", {}, text), ...(way?.steps.length ? [strip] : []));
}

function showDraw() {
  const nodes = state?.nodes ?? [];
  const drawn = way?.draws.at(-1);
  const dots = make("div", { class: "dots", "aria-hidden": "true" }, ...nodes.slice(0, 120).map((node) =>
    make("i", { class: node.node === drawn?.node ? "drawn" : node.verified ? "" : "refused" })));
  if (!drawn) {
    const good = nodes.filter((node) => node.verified).length;
    const text = `${plural(good, "verified node")} of ${nodes.length} listed. One is drawn for each request, here, so that nobody outside can choose it.`;
    at("draw").replaceChildren(dots, make("p", { class: "hint" }, state ? text : "Asking the log…"));
    return;
  }
  const how = drawn.kept ? "kept, not drawn: the last request to it failed in clear" : `1 of ${drawn.out_of} verified for this model (${drawn.listed} listed), with a chance of ${Math.round(drawn.share * 100)} %`;
  const more = way.draws.length > 1 ? [["redrawn", `${way.draws.length - 1} time(s): a node was busy`]] : [];
  at("draw").replaceChildren(dots, rows([["node", code(short(drawn.node))], ["drawn", how], ...more, ["platform", drawn.platform], ["model", drawn.model]]));
}

function showRelay() {
  if (!way) return at("relay").replaceChildren(make("p", { class: "hint" }, "How large a request is, and which node it is for. Nothing has been sent."));
  if (!way.relay.length) return at("relay").replaceChildren(make("p", { class: "hint" }, "Nothing was sent of this request."));
  const sent = way.relay.reduce((sum, one) => sum + one.sent, 0);
  const received = way.relay.reduce((sum, one) => sum + one.received, 0);
  const pieces = way.relay.reduce((sum, one) => sum + one.pieces, 0);
  const last = way.relay.at(-1);
  at("relay").replaceChildren(
    make("p", { class: "big" }, `${plural(sent, "byte")} out, ${received.toLocaleString("en")} back`),
    make("p", { class: "hint" }, `In ${plural(pieces, "piece")}, for POST ${`/${short(last.path.slice(1))}`}. It knows your address, the sizes and the time. It cannot open any of it.`),
    make("code", { class: "hex" }, `${last.beginning.replace(/(..)/g, "$1 ").trim()} …`));
}

function showWork() {
  const receipt = way?.receipt;
  if (!receipt) return at("work").replaceChildren(make("p", { class: "hint" }, way?.outcome === null && !way.broken ? "The node is computing." : "Nothing that a receipt vouches for."));
  const why = way.steps.find((step) => step.step === "receipt-verification")?.reason ?? receipt.verification.mode;
  at("work").replaceChildren(
    make("p", { class: "big" }, `${plural(receipt.completion_tokens, "token")}, ${plural(receipt.verification.checks, "check")}`),
    make("p", {}, `${why[0].toUpperCase()}${why.slice(1)}.`),
    rows([["prompt", plural(receipt.prompt_tokens, "token")], ["to the accelerator", transfers(receipt.transfers)]]));
}

function transfers(moved) {
  if (moved.mode === "none") return "no transfers";
  return `${moved.mode}: ${moved.sent} blocks, ${moved.hits} sealed ahead, ${moved.misses} wrongly`;
}

const GROUPS = [
  ["The log", (name) => name.startsWith("log-ch") || name.startsWith("log-con") || name.startsWith("node-list")],
  ["The node and its evidence", () => true],
  ["The answer and its receipt", (name) => name.startsWith("receipt") || name === "computation"],
];

function grouped(steps) {
  const groups = GROUPS.map(([title]) => [title, []]);
  for (const step of steps) {
    const special = [0, 2].find((index) => GROUPS[index][1](step.step));
    groups[special ?? 1][1].push(step);
  }
  return groups.filter(([, found]) => found.length);
}

function tally(steps) {
  const count = (outcome) => steps.filter((step) => step.outcome === outcome).length;
  return Object.keys(WORDS).filter(count).map((outcome) => `${count(outcome)} ${WORDS[outcome]}`).join(", ");
}

function listed(steps) {
  return make("ol", {}, ...steps.map((step) => make("li", { class: `step ${step.outcome}` },
    make("b", {}, WORDS[step.outcome]),
    make("div", {}, make("span", { class: "name" }, step.step), make("div", { class: "why" }, step.reason)))));
}

function section(title, steps) {
  const notable = steps.some((step) => step.outcome !== "pass") || title === GROUPS[2][0];
  return fold(title, notable, make("span", { class: "tally" }, tally(steps)), listed(steps));
}

/** A part that opens and closes, and stays as a person left it when the box is drawn again. */
function fold(title, open, beside, content) {
  const summary = make("summary", {}, make("b", {}, title), " ", beside);
  const part = make("details", folds.get(title) ?? open ? { open: "" } : {}, summary, content);
  summary.addEventListener("click", () => folds.set(title, !part.open));
  return part;
}

function showSteps() {
  if (way?.steps.length) return at("steps").replaceChildren(...grouped(way.steps).map(([title, steps]) => section(title, steps)));
  const nodes = (state?.nodes ?? []).slice(0, 20);
  const known = nodes.map((node) => section(`${node.verified ? "Node" : "Refused node"} ${short(node.node)}`, node.steps));
  const none = make("p", { class: "hint" }, state ? "No node is known." : "Asking the log…");
  at("steps").replaceChildren(...(known.length ? known : [none]));
}

function showReceipt() {
  const receipt = way?.receipt;
  if (!receipt) return at("receipt").replaceChildren(make("p", { class: "hint" }, "A node signs one for each answer."));
  const hashes = ["key_document", "request_hash", "response_hash", "model_digest"].map((name) => [name.replace("_", " "), code(receipt[name])]);
  at("receipt").replaceChildren(fold("Signed", false, make("span", { class: "tally" }, `by node ${short(receipt.key_document)}`), rows([
    ["issued", `${receipt.issued_at.slice(0, 16).replace("T", " ")} UTC, to the minute`],
    ["tokens", `${receipt.prompt_tokens} in, ${receipt.completion_tokens} out`],
    ["verification", `${receipt.verification.mode}, ${plural(receipt.verification.checks, "check")}`],
    ["decisions", code(receipt.verification.decisions)], ["transfers", transfers(receipt.transfers)], ...hashes])));
}

function showWallet() {
  if (!state) return;
  const spent = way?.tokens ? `This request showed ${way.tokens}. ` : "";
  at("wallet").replaceChildren(
    make("p", { class: "big" }, `${plural(state.tokens, "token")} left`),
    make("p", { class: "hint" }, `${spent}Each was signed blindly: it pays, and says nothing of who pays. ${state.tokens_given_back} came back unused.`));
}

// ---- the conversation -------------------------------------------------------------------------

function addTurn(role, text) {
  at("empty").hidden = true;
  const said = make("div", { class: "said" }, text);
  const item = make("li", { class: role === "user" ? "mine" : "theirs unread" },
    make("p", { class: "who" }, role === "user" ? "You" : "Answer"), said);
  at("conversation").append(item);
  item.scrollIntoView({ block: "nearest" });
  return { item, said };
}

function showProblem(error) {
  at("problem").hidden = !error;
  if (!error) return;
  const [cause, ...remedy] = error.message.split(/(?<=\.) /);
  at("problem").replaceChildren(make("b", {}, cause[0].toUpperCase() + cause.slice(1)), remedy.join(" "));
}

function setBusy(busy) {
  at("send").disabled = busy;
  at("stop").hidden = !busy;
}

async function send(text) {
  if (asking || !text.trim()) return;
  const control = (asking = new AbortController());
  setBusy(true);
  showProblem(null);
  talk.push({ role: "user", content: text });
  addTurn("user", text);
  const turn = { role: "assistant", content: "", good: false };
  const { item, said } = addTurn("assistant", "");
  const mark = make("button", { type: "button", class: "mark waiting", "aria-pressed": "true" }, "not verified yet");
  item.append(mark);
  say("Asking.");
  const shown = { id: null, passage: null };
  mark.addEventListener("click", () => choose(mark, shown.passage));
  try {
    const answer = await post(control.signal);
    shown.id = answer.headers.get("x-request-id");
    if (!answer.ok) throw (await answer.json()).error;
    look(shown, mark);
    for await (const piece of pieces(answer.body)) {
      turn.content += piece;
      following(item, () => { said.textContent = turn.content; });
    }
    turn.good = true;
  } catch (error) {
    if (control.forgotten) return;
    showProblem(control.signal.aborted ? null : problemOf(error));
  } finally {
    if (asking === control) { asking = null; setBusy(false); }
  }
  if (control.forgotten) return;
  await look(shown, mark);
  following(item, () => settle(turn, item, mark, shown, control.signal.aborted));
}

/** Change an answer, and keep its end in view if it was: who scrolled away to read is left alone. */
function following(item, change) {
  const near = item.getBoundingClientRect().bottom < innerHeight;
  change();
  if (near) item.scrollIntoView({ block: "nearest" });
}

function post(signal) {
  const messages = talk.filter((turn) => turn.role === "user" || turn.good).map(({ role, content }) => ({ role, content }));
  const body = JSON.stringify({ model: at("model").value, messages, stream: true });
  return fetch("/v1/chat/completions", { method: "POST", headers: { "content-type": "application/json" }, body, signal, cache: "no-store" });
}

/** Yield the text of a stream of events; throws the error that stands in it, or that it was cut. */
async function* pieces(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw { message: "The answer broke off before its end. Ask again, and do not rely on what came before." };
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
      if (data === "[DONE]") return;
      const message = data ? JSON.parse(data) : {};
      if (message.error) throw message.error;
      const text = message.choices?.[0]?.delta?.content;
      if (text) yield text;
    }
  }
}

function problemOf(error) {
  if (typeof error?.message === "string" && !(error instanceof Error)) return error;
  return { message: "The proxy does not answer. See that it still runs, then ask again." };
}

/** Fetch what is known of a request's way, and show it if that request is the one on display. */
async function look(shown, mark) {
  if (!shown.id) return;
  try {
    const answer = await fetch(`/verification/${shown.id}`, { cache: "no-store" });
    if (answer.ok) shown.passage = await answer.json();
    await refresh();
  } catch { /* the proxy went away; what is shown already says so */ }
  if (mark.isConnected && mark.getAttribute("aria-pressed") === "true") choose(mark, shown.passage);
}

function settle(turn, item, mark, shown, stopped) {
  const failed = shown.passage?.steps.find((step) => step.outcome === "fail");
  if (shown.passage && !turn.good) shown.passage.broken = true;
  item.classList.remove("unread");
  if (turn.good && !failed) {
    talk.push(turn);
    const weak = shown.passage?.draws.at(-1)?.weaknesses ?? [];
    const steps = shown.passage?.steps ?? [];
    const words = `${plural(steps.length, "step")}: ${tally(steps)}`;
    const simulated = weak.includes("simulated");
    mark.className = `mark ${simulated ? "fail" : weak.length ? "skip" : shown.passage?.outcome ?? "skip"}`;
    mark.textContent = simulated ? `SIMULATED. ${words}` : weak.length ? `${weak.join(", ")}. ${words}` : words;
    say(`Answer: ${turn.content}. ${mark.textContent}.`);
  } else {
    talk.pop(); // the question that got no answer that holds
    item.classList.toggle("false", Boolean(failed));
    mark.className = "mark fail";
    mark.textContent = failed ? "not to be believed" : stopped ? "stopped; nothing was verified" : "not verified";
    say(mark.textContent);
  }
  if (mark.getAttribute("aria-pressed") === "true") choose(mark, shown.passage);
}

function choose(mark, passage) {
  for (const other of document.querySelectorAll(".mark")) other.setAttribute("aria-pressed", String(other === mark));
  const marks = [...document.querySelectorAll(".mark")];
  way = passage;
  at("about").textContent = `answer ${marks.indexOf(mark) + 1} of ${marks.length}`;
  showBox();
}

function forget() {
  if (asking) { asking.forgotten = true; asking.abort(); }
  asking = way = null;
  talk.length = 0;
  at("conversation").replaceChildren();
  at("prompt").value = "";
  at("empty").hidden = false;
  at("about").textContent = "before the first request";
  setBusy(false);
  showProblem(state?.error);
  showBox();
  say("The conversation is forgotten.");
  at("prompt").focus();
}

// ---- what the proxy knows ---------------------------------------------------------------------

async function refresh() {
  const before = state?.error;
  state = await (await fetch("/verification", { cache: "no-store" })).json();
  if (state.error || before) showProblem(state.error);
  showBox();
}

async function begin() {
  at("base").textContent = `${location.origin}/v1`;
  try {
    await refresh();
    const served = state.error ? [] : (await (await fetch("/v1/models", { cache: "no-store" })).json()).data ?? [];
    at("model").replaceChildren(...served.map((model) => make("option", { value: model.id }, model.id)));
  } catch (error) {
    showProblem(problemOf(error));
  }
  if (!at("model").length) setTimeout(begin, RETRY_MS);
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("prompt").value;
  if (asking || !text.trim()) return;
  at("prompt").value = "";
  send(text);
});
at("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("ask").requestSubmit();
});
addEventListener("keydown", (event) => { if (event.key === "Escape") asking?.abort(); });
addEventListener("pageshow", (event) => { if (event.persisted) forget(); });
at("stop").addEventListener("click", () => asking?.abort());
at("forget").addEventListener("click", forget);
for (const opener of document.querySelectorAll(".openers button")) opener.addEventListener("click", () => send(opener.textContent));
performance.mark("interactive");
begin();
