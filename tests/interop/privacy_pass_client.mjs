// A Privacy Pass client and origin by @cloudflare/privacypass-ts (RFC 9577; RFC 9578, type 0x0002).
import { answer, bytes } from "./lines.mjs";
import { nameIssuer } from "./named_issuer.mjs";
import {
  AuthorizationHeader,
  fetchToken,
  getIssuerUrl,
  publicVerif,
  sendTokenRequest,
  TOKEN_TYPES,
  TokenChallenge,
  util,
  WWWAuthenticateHeader,
} from "@cloudflare/privacypass-ts";

const { BlindRSAMode, Client, getPublicKeyBytes, Origin } = publicVerif;
const newClient = () => new Client(BlindRSAMode.PSS);

const fields = (challenge) => ({
  token_type: challenge.tokenType,
  issuer_name: challenge.issuerName,
  redemption_context: challenge.redemptionContext,
  origin_info: challenge.originInfo ?? [],
  encoded: challenge.serialize(),
});

// A key that `crypto.subtle` takes: Node cannot import id-RSASSA-PSS, so the package rewrites it.
const publicKey = (spki) =>
  crypto.subtle.importKey(
    "spki",
    util.convertRSASSAPSSToEnc(bytes(spki)),
    { name: "RSA-PSS", hash: "SHA-384" },
    true,
    ["verify"],
  );

await answer({
  /** All of issuance as the package does it, from WWW-Authenticate to Authorization. */
  async fetch_token({ challenge, issuer_url, account_key }) {
    nameIssuer(issuer_url, account_key);
    const [header] = WWWAuthenticateHeader.parse(challenge);
    const authorization = await fetchToken(newClient(), header);
    return { authorization: authorization.toString(true), token: authorization.token.serialize() };
  },

  /** A TokenRequest with bytes appended, sent as it is. */
  async send_overlong({ challenge, issuer_url, account_key, appended }) {
    nameIssuer(issuer_url, account_key);
    const [header] = WWWAuthenticateHeader.parse(challenge);
    const request = await newClient().createTokenRequest(header.challenge, header.tokenKey);
    const body = Buffer.concat([request.serialize(), bytes(appended)]);
    const url = await getIssuerUrl(header.challenge.issuerName);
    return { response: await sendTokenRequest(body, url) };
  },

  /** WWW-Authenticate, read. */
  read_challenges({ value }) {
    const found = WWWAuthenticateHeader.parse(value);
    return found.map((each) => ({
      ...fields(each.challenge),
      token_key: each.tokenKey,
      max_age: each.maxAge ?? null,
    }));
  },

  /** WWW-Authenticate, written. */
  write_challenge({ issuer_name, redemption_context, origin_info, token_key, max_age, quoted }) {
    const context = bytes(redemption_context);
    const challenge = new TokenChallenge(2, issuer_name, context, origin_info);
    const header = new WWWAuthenticateHeader(challenge, bytes(token_key), max_age);
    return { value: header.toString(quoted), encoded: challenge.serialize() };
  },

  /** Authorization, read; and whether an origin takes the token. */
  async redeem({ authorization, token_key }) {
    const [header] = AuthorizationHeader.parse(TOKEN_TYPES.BLIND_RSA, authorization);
    const verified = await new Origin(BlindRSAMode.PSS, []).verify(
      header.token,
      await publicKey(token_key),
    );
    return { verified, token: header.token.serialize() };
  },

  /** The key as the package writes it, from the key as we do. */
  async rewrite_key({ token_key }) {
    return { token_key: await getPublicKeyBytes(await publicKey(token_key)) };
  },
});
