// The openai package for JavaScript, unchanged but for its base URL: a stream, and its verdict.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://127.0.0.1:8080/v1", apiKey: "read-by-nobody" });

const stream = await client.chat.completions.create({
  model: "tinychat",
  messages: [{ role: "user", content: "Who can read my prompt?" }],
  max_tokens: 16,
  stream: true,
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta.content ?? "");
  if (chunk.attestation) {
    console.log("\n\nplatform:", chunk.attestation.platform);
    for (const { outcome, step, reason } of chunk.attestation.verification) {
      console.log(outcome.padEnd(5), `${step}: ${reason}`);
    }
  }
}
