"""The model in the box: a small chat model trained from nothing on dialogues this project writes.

Reading order: `facts` and `words` (what it may know), `grammar` (how a question is worded),
`skills` (one exchange of each kind), `corpus` (whole dialogues, seeded), `chat` (roles as text),
`tokenizer`, `packing`, `model`, `train`, `export`, `evaluate`, `acceptance`, `publish`. The shipped
folders are `MODEL_FOLDER` and, for speculation, `DRAFT_FOLDER`.
"""

from __future__ import annotations

from pathlib import Path

MODEL_FOLDER = Path(__file__).parent / "model"
DRAFT_FOLDER = Path(__file__).parent / "draft"
