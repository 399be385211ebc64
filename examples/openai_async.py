"""`sottovoce.AsyncOpenAI`: several streams at once.

Usage: openai_async.py [client.toml]
"""

import asyncio
import sys

import sottovoce

QUESTIONS = ("What is a relay?", "What is a receipt?", "What is a log?")


async def ask(client: sottovoce.AsyncOpenAI, question: str) -> str:
    """Return the answer, and which node gave it."""
    stream = await client.chat.completions.create(
        model="tinychat",
        messages=[{"role": "user", "content": question}],
        max_tokens=12,
        stream=True,
    )
    text, node = "", ""
    async for chunk in stream:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        if attestation := sottovoce.attestation_of(chunk):
            node = attestation.node
    return f"{question} {text} (verified, node {node[:8]})"


async def main(profile: str | None) -> None:
    """Ask every question at once."""
    async with sottovoce.AsyncOpenAI(profile=profile) as client:
        for answer in await asyncio.gather(*(ask(client, question) for question in QUESTIONS)):
            print(answer)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
