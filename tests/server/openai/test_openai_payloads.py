"""Chunks whose constant part is written once, and the rehearsal of a whole answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.slot import SlotGeometry
from engine.types import EngineState
from server.openai.payloads import Frame, encode
from server.rehearsal import OneTokenEngine

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    name=st.text(max_size=20),
    fingerprint=st.none() | st.text(max_size=5),
    entry=st.dictionaries(st.text(max_size=5), JSON, max_size=4),
    further=st.dictionaries(st.text("abc", min_size=1, max_size=3), JSON, max_size=2),
)
def test_a_chunk_is_what_the_whole_payload_would_encode_to(name, fingerprint, entry, further):
    frame = Frame("chatcmpl-0", 7, name, fingerprint)
    written = frame.chunks("chat.completion.chunk", **further).encode(entry)
    assert written == encode(frame.write("chat.completion.chunk", [entry], **further))


def test_the_rehearsal_of_the_real_application_goes_through_to_the_end(application):
    served = application._model.served
    engine = OneTokenEngine(SlotGeometry(served.max_model_len, served.vocab_size))
    application.rehearse(engine)
    assert [slot.state for slot in engine.slots] == [EngineState.ERASED]
    assert engine.slots[0].released == 1
    engine.close()
