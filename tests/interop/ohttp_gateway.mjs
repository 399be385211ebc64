// An Oblivious HTTP gateway (RFC 9458, section 4; chunked: -08): open a request, seal the answer.
import { randomBytes } from "node:crypto";
import { answer, bytes, concat } from "./lines.mjs";
import { LIBRARIES } from "./hpke_suites.mjs";
import * as ohttp from "./ohttp.mjs";

const exchanges = []; // what only the gateway of an exchange knows, by its number

await answer({
  /** Make a key pair; publish it as application/ohttp-keys with all three ciphers. */
  async generate({ library, kem, key_id }) {
    const { privateKey, publicKey } = await LIBRARIES[library].generate(kem);
    const algorithms = [1, 2, 3].map((aead) => [1, aead]);
    const config = { keyId: key_id, kem, publicKey, algorithms };
    return { private_key: privateKey, keys: ohttp.encodeKeyConfigs([config]) };
  },

  async open({ library, private_key, encapsulated_request, chunked }) {
    const { header, enc, rest } = ohttp.splitRequest(bytes(encapsulated_request));
    const info = ohttp.requestInfo(header, chunked);
    const context = await LIBRARIES[library].recipient(header, bytes(private_key), enc, info);
    const pieces = chunked ? await ohttp.openChunks(context, rest) : [await context.open(rest)];
    exchanges.push({ context, aead: header.aead, enc, chunked });
    return { exchange: exchanges.length - 1, pieces };
  },

  /** `response_nonce` and `length_size` are given only to replay a published vector. */
  async seal({ exchange, pieces, response_nonce, length_size }) {
    const { context, aead, enc, chunked } = exchanges[exchange];
    const length = ohttp.responseNonceLength(aead);
    const nonce = response_nonce ? bytes(response_nonce) : new Uint8Array(randomBytes(length));
    const sealer = await ohttp.responseAead(context, aead, enc, nonce, chunked);
    const plaintexts = pieces.map(bytes);
    const sealed = chunked
      ? await ohttp.sealChunks(sealer, plaintexts, length_size)
      : await sealer.seal(plaintexts[0]);
    return { encapsulated_response: concat(nonce, sealed) };
  },

  async export({ exchange, label, length }) {
    return { secret: await exchanges[exchange].context.export(bytes(label), length) };
  },
});
