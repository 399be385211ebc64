"""LangChain through the proxy, and the verdict on its answer.

LangChain drops members that it does not know, the attestation among them; the verdict
is looked up by the id that came with the answer.
"""

import httpx
from langchain_openai import ChatOpenAI

PROXY = "http://127.0.0.1:8080"

model = ChatOpenAI(
    model="tinychat",
    base_url=f"{PROXY}/v1",
    api_key="read-by-nobody",
    max_tokens=16,
    max_retries=0,
    include_response_headers=True,
)
answer = model.invoke("Who can read my prompt?")
print(answer.content)

request_id = answer.response_metadata["headers"]["x-request-id"]
verdicts = httpx.get(f"{PROXY}/verification", trust_env=False).json()["requests"]
[verdict] = [each for each in verdicts if each["id"] == request_id]
print("\nverdict:", verdict["outcome"])
for step in verdict["steps"]:
    print(f"{step['outcome']:5} {step['step']}: {step['reason']}")
