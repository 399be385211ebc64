"""`sottovoce.OpenAI`: the private path inside this program.

Usage: openai_inside.py [client.toml]
"""

import sys

import sottovoce

profile = sys.argv[1] if len(sys.argv) > 1 else None
with sottovoce.OpenAI(profile=profile) as client:
    completion = client.chat.completions.create(
        model="tinychat",
        messages=[{"role": "user", "content": "Who can read my prompt?"}],
        max_tokens=16,
    )
    print(completion.choices[0].message.content)

attestation = sottovoce.attestation_of(completion)
if attestation is None:
    sys.exit("no evidence came with the answer")
print("\nplatform:", attestation.platform, "(nothing is private)" if attestation.simulated else "")
for step in attestation.verification:
    print(f"{step.outcome:5} {step.step}: {step.reason}")
