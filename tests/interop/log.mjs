// Checkpoints and inclusion proofs as @sigstore/verify reads those of the public Rekor log.
import { createPublicKey } from "node:crypto";
import { answer, bytes } from "./lines.mjs";
import { createRequire } from "node:module";

// The package has no entry point of its own for these two; they are what its verifier calls.
const require = createRequire(import.meta.url);
const { verifyCheckpoint } = require("@sigstore/verify/dist/tlog/checkpoint.js");
const { verifyMerkleInclusion } = require("@sigstore/verify/dist/tlog/merkle.js");

const base64url = (hex) => Buffer.from(hex, "hex").toString("base64url");
const ed25519 = (x) =>
  createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: base64url(x) }, format: "jwk" });

await answer({
  // The log's key by its key id and name, as their trusted root has it.
  checkpoint({ note, origin, key_id, public_key }) {
    const log = { logID: bytes(key_id), baseURL: origin, publicKey: ed25519(public_key) };
    const entry = { inclusionProof: { checkpoint: { envelope: Buffer.from(note, "hex").toString("utf8") } } };
    const found = verifyCheckpoint(entry, [log]);
    return {
      origin: found.origin,
      size: Number(found.logSize),
      root: Buffer.from(found.logHash).toString("hex"),
    };
  },

  inclusion({ leaf, index, hashes, size, root }) {
    const inclusionProof = { logIndex: String(index), hashes: hashes.map(bytes) };
    const checkpoint = { logSize: BigInt(size), logHash: bytes(root) };
    verifyMerkleInclusion({ canonicalizedBody: bytes(leaf), inclusionProof }, checkpoint);
    return { index };
  },
});
