// What the ai SDK and the openai package make of the endpoint: node ai.mjs BASE_URL MODEL
// Prints one JSON object: what each way of asking came to.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import OpenAI from "openai";

const [baseURL, name] = process.argv.slice(2);
const options = { baseURL, apiKey: "canary-key" };
const compatible = createOpenAICompatible({
  name: "sottovoce", ...options, supportsStructuredOutputs: true, includeUsage: true,
});
const stock = createOpenAI(options);
const schema = jsonSchema({
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
});
const tools = { get_weather: tool({ description: "The weather", inputSchema: schema }) };
const prompt = "What is sottovoce?";

async function ask(model) {
  const once = await generateText({ model, prompt, maxOutputTokens: 12, maxRetries: 0 });
  const stream = streamText({ model, prompt, maxOutputTokens: 12, maxRetries: 0 });
  let streamed = "";
  for await (const delta of stream.textStream) streamed += delta;
  const forced = { model, prompt: "Weather in Rome?", tools, toolChoice: "required", maxRetries: 0 };
  const called = await generateText(forced);
  const calling = streamText(forced);
  for await (const _ of calling.fullStream);
  const object = await generateObject({ model, schema, prompt: "A city?", maxRetries: 0 });
  return {
    text: once.text,
    finish: once.finishReason,
    tokens: once.usage.outputTokens,
    streamed,
    streamedTokens: (await stream.usage).outputTokens,
    called: called.toolCalls.map((call) => [call.toolName, call.input]),
    calling: (await calling.toolCalls).map((call) => [call.toolName, call.input]),
    object: object.object,
  };
}

const client = new OpenAI({ ...options, maxRetries: 0 });
const asked = { model: name, input: prompt, max_output_tokens: 200 };
const whole = await client.responses.create(asked);
const streamed = await client.responses.stream(asked).finalResponse();
const refused = await client.responses.retrieve("resp_1").catch((error) => error);
console.log(JSON.stringify({
  compatible: await ask(compatible(name)),
  chat: await ask(stock.chat(name)),
  responses: await ask(stock.responses(name)),
  openai: {
    text: whole.output_text,
    streamed: streamed.output_text,
    attestations: [whole.attestation, streamed.attestation],
    refused: [refused.status, refused.code, Boolean(refused.requestID)],
  },
}));
