// Receipts as COSE_Sign1 (RFC 9052) by @auth0/cose, their claims (RFC 8392) as CBOR by cbor-x.
import { createHash, createPrivateKey, createPublicKey } from "node:crypto";
import { answer, bytes } from "./lines.mjs";
import { Algorithms, Headers, ProtectedHeaders, Sign1, UnprotectedHeaders } from "@auth0/cose";
import { Encoder } from "cbor-x";

const cbor = new Encoder({ mapsAsObjects: false, useRecords: false, tagUint8Array: false });

// JSON has neither maps with number keys nor bytes: {"map": [[key, value], ...]}, {"bytes": hex}.
const toJson = (value) => {
  if (value instanceof Map) return { map: [...value].map((entry) => entry.map(toJson)) };
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString("hex") };
  if (Array.isArray(value)) return value.map(toJson);
  return typeof value === "bigint" ? Number(value) : value;
};
const fromJson = (json) => {
  if (Array.isArray(json)) return json.map(fromJson);
  if (json?.map) return new Map(json.map.map((entry) => entry.map(fromJson)));
  if (json?.bytes !== undefined) return bytes(json.bytes);
  // cbor-x writes a number beyond 32 bits as a float, and a BigInt as the integer it is.
  return json > 0xffffffff ? BigInt(json) : json;
};

// Ed25519 keys of 32 bytes, in the JWK form that every Node imports (RFC 8037).
const base64url = (hex) => Buffer.from(hex, "hex").toString("base64url");
const jwk = (members) => ({ key: { kty: "OKP", crv: "Ed25519", ...members }, format: "jwk" });

const sha256 = (...parts) =>
  parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("hex");
const framed = (payload) => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(payload));
  return Buffer.concat([length, Buffer.from(payload)]);
};

await answer({
  // The two hashes of docs/spec/evidence.md, from salts, request and answer.
  hashes({ request_salt, response_salt, path, body, payloads }) {
    return {
      request_hash: sha256(bytes(request_salt), path, "\0", body),
      response_hash: sha256(bytes(response_salt), ...payloads.map(framed)),
    };
  },

  async verify({ receipt, public_key }) {
    const message = Sign1.decode(bytes(receipt));
    const key = createPublicKey(jwk({ x: base64url(public_key) }));
    await message.verify(key, { algorithms: [Algorithms.EdDSA] });
    return {
      protected: toJson(message.protectedHeaders),
      unprotected: toJson(message.unprotectedHeaders),
      claims: toJson(cbor.decode(message.payload)),
    };
  },

  async sign({ claims, seed, public_key }) {
    const protectedHeaders = new ProtectedHeaders([[Headers.Algorithm, Algorithms.EdDSA]]);
    const key = createPrivateKey(jwk({ d: base64url(seed), x: base64url(public_key) }));
    const payload = cbor.encode(fromJson(claims));
    const none = new UnprotectedHeaders([]);
    return { receipt: (await Sign1.sign(protectedHeaders, none, payload, key)).encode() };
  },
});
