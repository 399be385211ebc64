"""The openai package, unchanged but for its base URL: a stream, and the verdict at its end."""

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="read-by-nobody")

stream = client.chat.completions.create(
    model="tinychat",
    messages=[{"role": "user", "content": "Who can read my prompt?"}],
    max_tokens=16,
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    if attestation := (chunk.model_extra or {}).get("attestation"):
        print("\n\nplatform:", attestation["platform"])
        for step in attestation["verification"]:
            print(f"{step['outcome']:5} {step['step']}: {step['reason']}")
