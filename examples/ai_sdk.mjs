// The ai SDK through the proxy: a stream, and the attestation out of its last raw chunk.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";

const sottovoce = createOpenAICompatible({
  name: "sottovoce",
  baseURL: "http://127.0.0.1:8080/v1",
  apiKey: "read-by-nobody",
});

const { fullStream } = streamText({
  model: sottovoce("tinychat"),
  prompt: "Who can read my prompt?",
  maxOutputTokens: 16,
  maxRetries: 0, // a retry would draw another node
  includeRawChunks: true,
});
for await (const part of fullStream) {
  if (part.type === "text-delta") process.stdout.write(part.text);
  if (part.type === "error") throw part.error;
  if (part.type === "raw" && part.rawValue.attestation) {
    console.log("\n\nplatform:", part.rawValue.attestation.platform);
    for (const { outcome, step, reason } of part.rawValue.attestation.verification) {
      console.log(outcome.padEnd(5), `${step}: ${reason}`);
    }
  }
}
