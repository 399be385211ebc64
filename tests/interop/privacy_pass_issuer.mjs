// A Privacy Pass issuer by @cloudflare/privacypass-ts (RFC 9578, type 0x0002), served on loopback.
import { createServer } from "node:http";
import { answer } from "./lines.mjs";
import {
  MediaType,
  PRIVATE_TOKEN_ISSUER_DIRECTORY,
  publicVerif,
  TOKEN_TYPES,
} from "@cloudflare/privacypass-ts";

const { BlindRSAMode, getPublicKeyBytes, TokenRequest } = publicVerif;

const algorithm = { modulusLength: 2048, publicExponent: Uint8Array.of(1, 0, 1) };
const keys = await publicVerif.Issuer.generateKey(BlindRSAMode.PSS, algorithm);
const issuer = new publicVerif.Issuer(
  BlindRSAMode.PSS,
  "issuer.example",
  keys.privateKey,
  keys.publicKey,
);
const tokenKey = await getPublicKeyBytes(keys.publicKey);

const directory = {
  "issuer-request-uri": "/token-request",
  "token-keys": [{ "token-type": 2, "token-key": Buffer.from(tokenKey).toString("base64url") }],
};

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

const server = createServer(async (request, response) => {
  if (request.url === PRIVATE_TOKEN_ISSUER_DIRECTORY) {
    response.setHeader("content-type", MediaType.PRIVATE_TOKEN_ISSUER_DIRECTORY);
    response.end(JSON.stringify(directory));
    return;
  }
  if (request.headers["content-type"] !== MediaType.PRIVATE_TOKEN_REQUEST) {
    response.writeHead(415).end();
    return;
  }
  const tokenRequest = TokenRequest.deserialize(TOKEN_TYPES.BLIND_RSA, await body(request));
  // RFC 9578, section 6.2: the package leaves this check to who serves it.
  if (tokenRequest.truncatedTokenKeyId !== (await issuer.tokenKeyID()).at(-1)) {
    response.writeHead(422).end();
    return;
  }
  const tokenResponse = await issuer.issue(tokenRequest);
  response.setHeader("content-type", MediaType.PRIVATE_TOKEN_RESPONSE);
  response.end(tokenResponse.serialize());
});

await answer({
  listen: () =>
    new Promise((resolve) => {
      server.listen(0, "127.0.0.1", () => {
        const url = `http://127.0.0.1:${server.address().port}`;
        resolve({ url, token_key: tokenKey });
      });
    }),
});
