// Binary HTTP (RFC 9292) by bhttp-js, which turns it into fetch's Request and Response and back.
import { answer, bytes } from "./lines.mjs";
import { BHttpDecoder, BHttpEncoder } from "bhttp-js";

const decoder = new BHttpDecoder();
const encoder = new BHttpEncoder();

/** What request and response have in common. fetch sorts fields by name. */
const common = async (message) => ({
  headers: [...message.headers],
  content: new Uint8Array(await message.arrayBuffer()),
});

await answer({
  async decode_request({ message }) {
    const request = decoder.decodeRequest(bytes(message));
    return { method: request.method, url: request.url, ...(await common(request)) };
  },

  async decode_response({ message }) {
    const response = decoder.decodeResponse(bytes(message));
    return { status: response.status, ...(await common(response)) };
  },

  async encode_request({ method, url, headers, content }) {
    const body = content ? bytes(content) : undefined;
    return { message: await encoder.encodeRequest(new Request(url, { method, headers, body })) };
  },

  async encode_response({ status, headers, content }) {
    const response = new Response(bytes(content), { status, headers });
    return { message: await encoder.encodeResponse(response) };
  },
});
