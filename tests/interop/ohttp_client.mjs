// An Oblivious HTTP client (RFC 9458, section 4; chunked: -08): encapsulate, then open the answer.
import { answer, bytes, concat } from "./lines.mjs";
import { LIBRARIES } from "./hpke_suites.mjs";
import * as ohttp from "./ohttp.mjs";

const exchanges = []; // what only the client of an exchange knows, by its number

await answer({
  /** `pieces`: one for the plain form, else one a chunk. `keys`: application/ohttp-keys. */
  async encapsulate({ library, keys, kem, aead, pieces, chunked }) {
    const config = ohttp.decodeKeyConfigs(bytes(keys)).find((each) => each.kem === kem);
    if (!config.algorithms.some((pair) => pair[1] === aead)) throw new Error("not offered");
    const header = { keyId: config.keyId, kem, kdf: 1, aead };
    const info = ohttp.requestInfo(header, chunked);
    const context = await LIBRARIES[library].sender(header, config.publicKey, info);
    const plaintexts = pieces.map(bytes);
    const sealed = chunked
      ? await ohttp.sealChunks(context, plaintexts)
      : await context.seal(plaintexts[0]);
    exchanges.push({ context, aead, enc: context.enc, chunked });
    return {
      exchange: exchanges.length - 1,
      encapsulated_request: concat(ohttp.encodeHeader(header), context.enc, sealed),
    };
  },

  async open({ exchange, encapsulated_response }) {
    const { context, aead, enc, chunked } = exchanges[exchange];
    const data = bytes(encapsulated_response);
    const nonce = data.slice(0, ohttp.responseNonceLength(aead));
    const opener = await ohttp.responseAead(context, aead, enc, nonce, chunked);
    const rest = data.slice(nonce.length);
    return { pieces: chunked ? await ohttp.openChunks(opener, rest) : [await opener.open(rest)] };
  },

  async export({ exchange, label, length }) {
    return { secret: await exchanges[exchange].context.export(bytes(label), length) };
  },
});
