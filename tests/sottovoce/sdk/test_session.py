"""The path inside this process: httpx's and httpx2's clients, timeouts, the state folder."""

import asyncio
import json
import time
from pathlib import Path

import httpx
import httpx2
import pytest

from client.errors import ClientError, InsecureUrl, WalletDamaged
from sottovoce.sdk import httpx2_transport, httpx_transport
from sottovoce.sdk.profile import ProfileError, default_profile, load_profile
from sottovoce.sdk.session import Session, SessionClosed, StateInUse

SDK = Path(httpx_transport.__file__).parent
BODY = {"model": "tiny", "messages": [], "stream": True}
LIBRARIES = [(httpx, httpx_transport), (httpx2, httpx2_transport)]


@pytest.fixture(params=LIBRARIES, ids=["httpx", "httpx2"])
def library(request):
    return request.param


def test_a_plain_client_gets_a_stream(session, library):
    web, ours = library
    with web.Client(transport=ours.Transport(session), base_url=ours.BASE) as client:
        answer = client.post("/v1/chat/completions", json=BODY)
    assert answer.status_code == 200
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"attestation":{"receipt"' in answer.text


def test_an_asyncio_client_gets_a_stream(session, library):
    web, ours = library

    async def ask():
        transport = ours.AsyncTransport(session)
        async with web.AsyncClient(transport=transport, base_url=ours.BASE) as client:
            return (await client.post("/v1/chat/completions", json=BODY)).text

    assert asyncio.run(ask()).endswith("data: [DONE]\n\n")


def test_a_stream_may_be_left_early(session, library):
    web, ours = library
    with web.Client(transport=ours.Transport(session), base_url=ours.BASE) as client:
        with client.stream("POST", "/v1/chat/completions", json=BODY) as answer:
            assert next(answer.iter_raw())
        assert client.get("/v1/models").status_code == 200


def test_silence_is_bounded_by_the_caller_s_timeout(session, library, monkeypatch):
    web, ours = library

    async def silent(*_):
        await asyncio.sleep(60)

    monkeypatch.setattr(session, "_app", silent)
    with (
        web.Client(transport=ours.Transport(session), base_url=ours.BASE) as client,
        pytest.raises(web.ReadTimeout),
    ):
        client.get("/health", timeout=0.05)


def test_an_answer_that_breaks_off_is_an_error(session, library, monkeypatch):
    web, ours = library

    async def broken(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("an answer broke off")

    monkeypatch.setattr(session, "_app", broken)
    with (
        web.Client(transport=ours.Transport(session), base_url=ours.BASE) as client,
        pytest.raises(web.ReadError, match="broke off"),
    ):
        client.get("/health")


def test_the_two_transports_differ_in_one_name_only():
    ours = (SDK / "httpx_transport.py").read_text()
    assert ours.replace("httpx", "httpx2") == (SDK / "httpx2_transport.py").read_text()


@pytest.mark.usefixtures("session")
def test_one_state_folder_serves_one_client(profile):
    with pytest.raises(StateInUse, match="state"):
        Session(load_profile(profile))


def test_a_closed_session_says_so_and_frees_its_folder(profile):
    session = Session.from_profile(profile)
    session.close()
    session.close()
    with (
        httpx.Client(transport=httpx_transport.Transport(session)) as client,
        pytest.raises(SessionClosed),
    ):
        client.get(httpx_transport.BASE)
    with Session.from_profile(profile):
        pass


def test_tokens_that_nobody_was_shown_are_kept(profile):
    with (
        Session.from_profile(profile) as session,
        httpx.Client(
            transport=httpx_transport.Transport(session), base_url=httpx_transport.BASE
        ) as client,
    ):
        while (tokens := client.get("/verification").json()["tokens"]) < 4:
            time.sleep(0.01)
    wallet = json.loads((profile.parent / "state" / "wallet.json").read_text())
    assert len(wallet) >= tokens


def test_a_damaged_wallet_is_said_at_once(profile):
    folder = profile.parent / "state"
    folder.mkdir()
    (folder / "wallet.json").write_text("{")
    with pytest.raises(WalletDamaged):
        Session.from_profile(profile)


WRONG = {
    "no TOML": ("= 1", "is not TOML"),
    "not UTF-8": ("\udcff", "is not TOML"),
    "an unknown member": ('colour = "red"', "colour"),
    "an unknown weakness": ('accept = ["all"]', "accept"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_profile_that_is_none_is_refused(profile, wrong):
    text, reason = WRONG[wrong]
    kept = [line for line in profile.read_text().splitlines() if not line.startswith("accept")]
    profile.write_text("\n".join([*kept, text]), "utf-8", errors="surrogateescape")
    with pytest.raises(ProfileError, match=reason):
        load_profile(profile)


def test_a_profile_that_names_what_is_not_there_is_refused(profile):
    (profile.parent / "account.key").unlink()
    with pytest.raises(ProfileError, match=r"account\.key"):
        load_profile(profile)
    with pytest.raises(ProfileError, match="cannot read"):
        load_profile(profile.with_name("none.toml"))
    profile.write_text("#" * (1 << 17))
    with pytest.raises(ProfileError, match="larger"):
        load_profile(profile)


def test_a_profile_never_speaks_in_clear_across_a_network(profile):
    text = profile.read_text().replace("http://127.0.0.1", "http://relay.example")
    profile.write_text(text)
    with pytest.raises(InsecureUrl):
        load_profile(profile)


def test_the_user_s_own_profile_is_where_programs_keep_such_files(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_profile() == tmp_path / "sottovoce" / "client.toml"
    with pytest.raises(ClientError, match="cannot read the profile"):
        Session.from_profile()
