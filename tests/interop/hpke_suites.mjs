// HPKE by two independent libraries, in one shape. Algorithms go by their numbers (RFC 9180, s. 7).
//
//   panva     hpke with @panva/hpke-noble, so without Node's own WebCrypto
//   dajiaji   @hpke/core with its extension packages, on WebCrypto where that has the algorithm
//
// Node 20's WebCrypto has no ChaCha20-Poly1305: both libraries bring their own.
import * as panva from "hpke";
import * as noble from "@panva/hpke-noble";
import { Aes128Gcm, Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { Chacha20Poly1305 } from "@hpke/chacha20poly1305";
import { XWing } from "@hpke/hybridkem-x-wing";

const EMPTY = new Uint8Array();

const PANVA_KEMS = {
  0x0020: noble.KEM_DHKEM_X25519_HKDF_SHA256,
  0x647a: noble.KEM_MLKEM768_X25519, // X-Wing under its other name
};
const PANVA_AEADS = {
  1: noble.AEAD_AES_128_GCM,
  2: noble.AEAD_AES_256_GCM,
  3: noble.AEAD_ChaCha20Poly1305,
};

const panvaSuite = (kem, aead) =>
  new panva.CipherSuite(PANVA_KEMS[kem], noble.KDF_HKDF_SHA256, PANVA_AEADS[aead]);

const byPanva = {
  async generate(kem) {
    const suite = panvaSuite(kem, 1);
    const pair = await suite.GenerateKeyPair(true);
    return {
      privateKey: await suite.SerializePrivateKey(pair.privateKey),
      publicKey: await suite.SerializePublicKey(pair.publicKey),
    };
  },
  async sender({ kem, aead }, publicKey, info) {
    const suite = panvaSuite(kem, aead);
    const key = await suite.DeserializePublicKey(publicKey);
    const { encapsulatedSecret, ctx } = await suite.SetupSender(key, { info });
    return {
      enc: encapsulatedSecret,
      seal: (plaintext, aad = EMPTY) => ctx.Seal(plaintext, aad),
      export: (label, length) => ctx.Export(label, length),
    };
  },
  async recipient({ kem, aead }, privateKey, enc, info) {
    const suite = panvaSuite(kem, aead);
    const key = await suite.DeserializePrivateKey(privateKey);
    const ctx = await suite.SetupRecipient(key, enc, { info });
    return {
      open: (ciphertext, aad = EMPTY) => ctx.Open(ciphertext, aad),
      export: (label, length) => ctx.Export(label, length),
    };
  },
};

const DAJIAJI_KEMS = { 0x0020: DhkemX25519HkdfSha256, 0x647a: XWing };
const DAJIAJI_AEADS = { 1: Aes128Gcm, 2: Aes256Gcm, 3: Chacha20Poly1305 };

const dajiajiSuite = (kem, aead) =>
  new CipherSuite({
    kem: new DAJIAJI_KEMS[kem](),
    kdf: new HkdfSha256(),
    aead: new DAJIAJI_AEADS[aead](),
  });

const unboxed = async (promise) => new Uint8Array(await promise);

const byDajiaji = {
  async generate(kem) {
    const suite = dajiajiSuite(kem, 1);
    const pair = await suite.kem.generateKeyPair();
    return {
      privateKey: await unboxed(suite.kem.serializePrivateKey(pair.privateKey)),
      publicKey: await unboxed(suite.kem.serializePublicKey(pair.publicKey)),
    };
  },
  async sender({ kem, aead }, publicKey, info) {
    const suite = dajiajiSuite(kem, aead);
    const recipientPublicKey = await suite.kem.deserializePublicKey(publicKey);
    const context = await suite.createSenderContext({ recipientPublicKey, info });
    return {
      enc: new Uint8Array(context.enc),
      seal: (plaintext, aad = EMPTY) => unboxed(context.seal(plaintext, aad)),
      export: (label, length) => unboxed(context.export(label, length)),
    };
  },
  async recipient({ kem, aead }, privateKey, enc, info) {
    const suite = dajiajiSuite(kem, aead);
    const recipientKey = await suite.kem.deserializePrivateKey(privateKey);
    const context = await suite.createRecipientContext({ recipientKey, enc, info });
    return {
      open: (ciphertext, aad = EMPTY) => unboxed(context.open(ciphertext, aad)),
      export: (label, length) => unboxed(context.export(label, length)),
    };
  },
};

export const LIBRARIES = { panva: byPanva, dajiaji: byDajiaji };
