// Oblivious HTTP's framing, written from the specifications and nothing else, for the client and
// the gateway that an HPKE library becomes here.
//
//   RFC 9458, sections 3 and 4; draft-ietf-ohai-chunked-ohttp-08, sections 3 and 6
import { createCipheriv, createDecipheriv, hkdfSync } from "node:crypto";
import { concat } from "./lines.mjs";

const ENC_LENGTHS = { 0x0020: 32, 0x647a: 1120 }; // Nenc
const PUBLIC_KEY_LENGTHS = { 0x0020: 32, 0x647a: 1216 }; // Npk
const KEY_LENGTHS = { 1: 16, 2: 32, 3: 32 }; // Nk
const NONCE_LENGTH = 12; // Nn of all three
const TAG_LENGTH = 16; // Nt of all three
const CIPHERS = { 1: "aes-128-gcm", 2: "aes-256-gcm", 3: "chacha20-poly1305" };

const MAX_CHUNK = 16384; // what a recipient has to accept; this one accepts no more
const FINAL = Buffer.from("final");
const NO_AAD = new Uint8Array();

export const REQUEST = { plain: "message/bhttp request", chunked: "message/bhttp chunked request" };
export const RESPONSE = {
  plain: "message/bhttp response",
  chunked: "message/bhttp chunked response",
};
export const form = (chunked) => (chunked ? "chunked" : "plain");

const u16 = (number) => Uint8Array.of(number >> 8, number & 0xff);

// Key configurations (RFC 9458, section 3).

export function encodeKeyConfig({ keyId, kem, publicKey, algorithms }) {
  const pairs = algorithms.map(([kdf, aead]) => concat(u16(kdf), u16(aead)));
  const list = concat(...pairs);
  return concat(Uint8Array.of(keyId), u16(kem), publicKey, u16(list.length), list);
}

export const encodeKeyConfigs = (configs) =>
  concat(...configs.map(encodeKeyConfig).flatMap((config) => [u16(config.length), config]));

export function decodeKeyConfigs(data) {
  const view = new DataView(data.buffer);
  const configs = [];
  let at = 0;
  while (at < data.length) {
    const end = at + 2 + view.getUint16(at);
    const [keyId, kem] = [view.getUint8(at + 2), view.getUint16(at + 3)];
    const listAt = at + 5 + PUBLIC_KEY_LENGTHS[kem] + 2;
    const algorithms = [];
    for (let pair = listAt; pair < end; pair += 4)
      algorithms.push([view.getUint16(pair), view.getUint16(pair + 2)]);
    if (listAt + view.getUint16(listAt - 2) !== end) throw new Error("bad list of algorithms");
    configs.push({ keyId, kem, publicKey: data.slice(at + 5, listAt - 2), algorithms });
    at = end;
  }
  return configs;
}

// The header of an encapsulated request (sections 4.1 and 4.3).

export const encodeHeader = ({ keyId, kem, kdf, aead }) =>
  concat(Uint8Array.of(keyId), u16(kem), u16(kdf), u16(aead));

export const requestInfo = (header, chunked) =>
  concat(Buffer.from(REQUEST[form(chunked)]), Uint8Array.of(0), encodeHeader(header));

export function splitRequest(data) {
  const view = new DataView(data.buffer);
  const header = {
    keyId: view.getUint8(0),
    kem: view.getUint16(1),
    kdf: view.getUint16(3),
    aead: view.getUint16(5),
  };
  const end = 7 + ENC_LENGTHS[header.kem];
  return { header, enc: data.slice(7, end), rest: data.slice(end) };
}

// The key of a response (section 4.4; -08, section 6.2). hkdfSync extracts and expands at once.

export const responseNonceLength = (aead) => Math.max(NONCE_LENGTH, KEY_LENGTHS[aead]);

export async function responseAead(context, aead, enc, responseNonce, chunked) {
  const label = Buffer.from(RESPONSE[form(chunked)]);
  const secret = await context.export(label, responseNonceLength(aead));
  const derive = (info, length) =>
    new Uint8Array(hkdfSync("sha256", secret, concat(enc, responseNonce), info, length));
  const key = derive("key", KEY_LENGTHS[aead]);
  const baseNonce = derive("nonce", NONCE_LENGTH);
  let counter = 0n;

  const nextNonce = () => {
    const nonce = Buffer.from(baseNonce);
    nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ counter++, 4);
    return nonce;
  };
  const options = { authTagLength: TAG_LENGTH };
  return {
    async seal(plaintext, aad = NO_AAD) {
      const cipher = createCipheriv(CIPHERS[aead], key, nextNonce(), options);
      cipher.setAAD(aad, { plaintextLength: plaintext.length });
      return concat(cipher.update(plaintext), cipher.final(), cipher.getAuthTag());
    },
    async open(ciphertext, aad = NO_AAD) {
      const end = ciphertext.length - TAG_LENGTH;
      const decipher = createDecipheriv(CIPHERS[aead], key, nextNonce(), options);
      decipher.setAAD(aad, { plaintextLength: end });
      decipher.setAuthTag(ciphertext.subarray(end));
      return concat(decipher.update(ciphertext.subarray(0, end)), decipher.final());
    },
  };
}

// Chunks (-08, section 3): varint length || ciphertext, ..., 0 || final ciphertext.

/** A QUIC variable-length integer (RFC 9000, section 16) in `size` bytes: 1, 2 or 4. */
function encodeVarint(number, size) {
  const data = Buffer.alloc(size);
  data.writeUIntBE(number, 0, size);
  data[0] |= { 1: 0x00, 2: 0x40, 4: 0x80 }[size];
  return data;
}

function decodeVarint(data, at) {
  if (at >= data.length) throw new Error("no final chunk");
  const size = 1 << (data[at] >> 6);
  if (at + size > data.length || size > 4) throw new Error("bad varint");
  let number = data[at] & 0x3f;
  for (let i = 1; i < size; i++) number = number * 256 + data[at + i];
  return [number, at + size];
}

/** Seal `pieces`, the last as the final chunk. The draft leaves to the sender how long the lengths
 * are written; ours always writes the shortest, so the others are what there is to try. */
export async function sealChunks(aead, pieces, lengthSize = 4) {
  const parts = [];
  for (const piece of pieces.slice(0, -1)) {
    const ciphertext = await aead.seal(piece);
    parts.push(encodeVarint(ciphertext.length, lengthSize), ciphertext);
  }
  const final = await aead.seal(pieces.at(-1), FINAL);
  return concat(...parts, encodeVarint(0, lengthSize), final);
}

/** Open a whole stream into its pieces, the last from the final chunk. */
export async function openChunks(aead, data) {
  const pieces = [];
  let at = 0;
  for (;;) {
    const [length, start] = decodeVarint(data, at);
    const end = length ? start + length : data.length;
    if (end > data.length || end - start > MAX_CHUNK + TAG_LENGTH) throw new Error("bad length");
    const piece = await aead.open(data.slice(start, end), length ? NO_AAD : FINAL);
    pieces.push(piece);
    if (!length) return pieces;
    if (!piece.length) throw new Error("an empty chunk that is not the final one");
    at = end;
  }
}
