// RSA blind signatures (RFC 9474) by @cloudflare/blindrsa-ts: every step of every named variant.
import { answer, bytes } from "./lines.mjs";
import { RSABSSA } from "@cloudflare/blindrsa-ts";

const ALGORITHM = { name: "RSA-PSS", hash: "SHA-384" };

/** The suite of a name such as PSS-Randomized. */
function suiteOf(variant) {
  const [padding, preparation] = variant.split("-");
  return RSABSSA.SHA384[padding][preparation]();
}

const importPublic = (spki) =>
  crypto.subtle.importKey("spki", bytes(spki), ALGORITHM, true, ["verify"]);
const importPrivate = (pkcs8) =>
  crypto.subtle.importKey("pkcs8", bytes(pkcs8), ALGORITHM, true, ["sign"]);

await answer({
  async blind({ variant, public_key, message }) {
    const suite = suiteOf(variant);
    const prepared = suite.prepare(bytes(message));
    const { blindedMsg, inv } = await suite.blind(await importPublic(public_key), prepared);
    return { prepared, blinded: blindedMsg, inverse: inv };
  },

  async blind_sign({ variant, private_key, blinded }) {
    const key = await importPrivate(private_key);
    return { blind_signature: await suiteOf(variant).blindSign(key, bytes(blinded)) };
  },

  async finalize({ variant, public_key, prepared, blind_signature, inverse }) {
    const key = await importPublic(public_key);
    const steps = [bytes(prepared), bytes(blind_signature), bytes(inverse)];
    return { signature: await suiteOf(variant).finalize(key, ...steps) };
  },

  async verify({ variant, public_key, prepared, signature }) {
    const key = await importPublic(public_key);
    const verified = await suiteOf(variant).verify(key, bytes(signature), bytes(prepared));
    return { verified };
  },
});
