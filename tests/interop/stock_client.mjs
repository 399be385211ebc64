// A client that knows standards only: where a gateway is (RFC 9540), Oblivious HTTP (RFC 9458 and its
// chunked form), and that a 401 with a PrivateToken challenge is answered with a token (RFC 9577).
import { answer, bytes, concat } from "./lines.mjs";
import { LIBRARIES } from "./hpke_suites.mjs";
import { nameIssuer, originalFetch } from "./named_issuer.mjs";
import * as ohttp from "./ohttp.mjs";
import { BHttpDecoder, BHttpEncoder } from "bhttp-js";
import { fetchToken, publicVerif, WWWAuthenticateHeader } from "@cloudflare/privacypass-ts";

const WELL_KNOWN = "/.well-known/ohttp-gateway";
const KEYS_TYPE = "application/ohttp-keys";
const TYPES = {
  plain: ["message/ohttp-req", "message/ohttp-res"],
  chunked: ["message/ohttp-chunked-req", "message/ohttp-chunked-res"],
};

async function fetchKeys(host) {
  const response = await originalFetch(host + WELL_KNOWN, { headers: { accept: KEYS_TYPE } });
  if (!response.ok || response.headers.get("content-type") !== KEYS_TYPE)
    throw new Error(`no keys: ${response.status}`);
  return ohttp.decodeKeyConfigs(new Uint8Array(await response.arrayBuffer()));
}

/** Send one fetch Request the oblivious way; return the fetch Response that was inside. */
async function obliviously(request, { host, library, config, aead, chunked }) {
  const header = { keyId: config.keyId, kem: config.kem, kdf: 1, aead };
  const info = ohttp.requestInfo(header, chunked);
  const context = await LIBRARIES[library].sender(header, config.publicKey, info);
  const message = await new BHttpEncoder().encodeRequest(request);
  const half = message.length >> 1;
  const sealed = chunked
    ? await ohttp.sealChunks(context, [message.slice(0, half), message.slice(half)])
    : await context.seal(message);

  const [requestType, responseType] = TYPES[ohttp.form(chunked)];
  const outer = await originalFetch(host + WELL_KNOWN, {
    method: "POST",
    headers: { "content-type": requestType, ...(chunked && { incremental: "?1" }) },
    body: concat(ohttp.encodeHeader(header), context.enc, sealed),
  });
  if (outer.status !== 200 || outer.headers.get("content-type") !== responseType)
    throw new Error(`no encapsulated response: ${outer.status}`);

  const data = new Uint8Array(await outer.arrayBuffer());
  const nonce = data.slice(0, ohttp.responseNonceLength(aead));
  const opener = await ohttp.responseAead(context, aead, context.enc, nonce, chunked);
  const rest = data.slice(nonce.length);
  const pieces = chunked ? await ohttp.openChunks(opener, rest) : [await opener.open(rest)];
  return new BHttpDecoder().decodeResponse(concat(...pieces));
}

await answer({
  /** The key configs that a gateway offers. */
  async keys({ host }) {
    return { configs: await fetchKeys(host) };
  },

  /** POST `content` to `url` through the gateway at `host`, drawing a token when asked for one. */
  async post({ host, library, kem, aead, chunked, url, content, issuer_url, account_key }) {
    const config = (await fetchKeys(host)).find((each) => each.kem === kem);
    const through = { host, library, config, aead, chunked };
    const ask = (fields) => {
      const date = new Date(Math.floor(Date.now() / 60_000) * 60_000).toUTCString();
      const headers = { "content-type": "application/json", date, ...fields };
      return obliviously(
        new Request(url, { method: "POST", headers, body: bytes(content) }),
        through,
      );
    };

    const refused = await ask({});
    if (refused.status !== 401) throw new Error(`not asked for a token: ${refused.status}`);
    nameIssuer(issuer_url, account_key);
    const [challenge] = WWWAuthenticateHeader.parse(refused.headers.get("www-authenticate"));
    const client = new publicVerif.Client(publicVerif.BlindRSAMode.PSS);
    const authorization = await fetchToken(client, challenge);

    const response = await ask({ authorization: authorization.toString(true) });
    return {
      status: response.status,
      content_type: response.headers.get("content-type"),
      content: new Uint8Array(await response.arrayBuffer()),
    };
  },
});
