// One chat completion with the openai package: node chat.mjs BASE_URL REQUEST_JSON
import OpenAI from "openai";

const [baseURL, request] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "canary-key", maxRetries: 0 });
const answer = await client.chat.completions.create(JSON.parse(request));
if (JSON.parse(request).stream) {
  for await (const chunk of answer) console.log(JSON.stringify(chunk));
} else {
  console.log(JSON.stringify(answer));
}
