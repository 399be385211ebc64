"""Issuer and workers collude, with the spent-token store: whose request was that?

They hold accounts with the times at which each drew tokens, and requests with their tokens and
times; no address. The client's own `Wallet` runs on a clock whose hours pass at once. Guessing
names one of N accounts: 1 / N.
"""

import asyncio
import random
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from chances import interval
from event_clock import EventClock, simulate

from client import blinded as blinded_module
from client import wallet as wallet_module
from client.refill import TICK_S
from client.wallet import BATCH, Wallet
from wire import privacy_pass

HOUR = 3600.0
USERS = 20
EACH_S = 300.0
"""Mean pause between two requests of one user."""


@dataclass
class Seen:
    """What issuer and workers wrote down together."""

    draws: list[tuple[float, int]] = field(default_factory=list)
    """(time, account) of each token drawn."""
    uses: list[tuple[float, int, bytes]] = field(default_factory=list)
    """(time, who it really was, key id) of each token shown; who it was they want to know."""


class Eager(Wallet):
    """Unsafe: a request that finds the stock low refills it."""

    async def take(self, count, **options):
        taken = await super().take(count, **options)
        if len(self) < 96:
            await self.refill()
        return taken

    async def _look(self):
        return False


@pytest.fixture
def clock(monkeypatch):
    """A clock for everything that a wallet looks at, and randomness that repeats."""
    clock, generator = EventClock(), random.Random(9)
    times = SimpleNamespace(time=clock.time, monotonic=clock.time)
    monkeypatch.setattr(wallet_module, "time", times)
    monkeypatch.setattr("client.refill.RefillClock.__init__.__defaults__", (clock.time, paused))
    monkeypatch.setattr("secrets.SystemRandom", lambda: generator)

    async def at_once(function, *arguments):
        return function(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    # Looks that are rarer than real ones: they add seconds where a tick of the clock adds minutes.
    monkeypatch.setattr(wallet_module, "IDLE_PAUSE_S", (10.0, 50.0))
    for module in (wallet_module, blinded_module):
        monkeypatch.setattr(module, "blind", unsigned)
    return clock


def paused(mean_s):
    """`client.refill.exponential`, over the simulation's randomness."""
    return wallet_module.secrets.SystemRandom().expovariate(1 / mean_s)


def unsigned(key):
    """A token without its mathematics, which say nothing of times."""
    token = privacy_pass.Token(
        random.randbytes(32), bytes(32), privacy_pass.key_id(key.spki), bytes(256)
    )
    return SimpleNamespace(
        key=key,
        request=SimpleNamespace(encode=lambda: b""),
        pending=SimpleNamespace(finish=lambda _: token),
    )


class Ledger:
    """The issuer: it signs, and writes down whom for."""

    def __init__(self, seen, clock, account):
        self._seen, self._clock, self._account = seen, clock, account

    async def draw(self, _):
        self._seen.draws.append((self._clock.time(), self._account))
        return b""


def key(name, not_before=0.0, not_after=1e12):
    return SimpleNamespace(spki=name, not_before=not_before, not_after=not_after)


FIRST = key(b"first")


def wallet_of(kind, clock, seen, account, keys):
    async def current():
        return [each for each in keys if clock.time() >= each.not_before]

    wallet = kind(issuer_url="", account_key="", issuer_keys=current, http=None)
    wallet._issuance = Ledger(seen, clock, account)
    return wallet


def lives(kind, clock, *, users=USERS, hours=24.0, keys=(FIRST,)):
    """Let users' wallets live; return what the colluders saw."""
    seen, generator = Seen(), random.Random(5)

    async def user(account):
        wallet = wallet_of(kind, clock, seen, account, keys)
        for _ in range(7):
            await wallet.refill()
        keeper = asyncio.create_task(wallet.keep_filled())
        while True:
            await asyncio.sleep(generator.expovariate(1 / EACH_S))
            [token] = await wallet.take(1)
            seen.uses.append((clock.time(), account, token.key_id))
            assert not keeper.done()

    async def scenario():
        tasks = [asyncio.create_task(user(account)) for account in range(users)]
        await asyncio.sleep(hours * HOUR)
        assert not any(task.done() for task in tasks)

    simulate(scenario, clock)
    began = min(at for at, *_ in seen.uses)
    seen.draws = [(at, account) for at, account in seen.draws if at > began]
    return seen


# ---- by time ----


def named(seen):
    """Whenever an account begins to draw, say that the latest request was its; how often right."""
    events = sorted(
        [(at, 0, who) for at, who, _ in seen.uses] + [(at, 1, who) for at, who in seen.draws]
    )
    latest, last, right, draws = None, {}, 0, 0
    for at, is_draw, who in events:
        if not is_draw:
            latest = who
        elif at - last.get(who, float("-inf")) > 60.0:  # not another token of the same filling
            draws, right = draws + 1, right + (latest == who)
        if is_draw:
            last[who] = at
    return right, draws


def test_draws_name_the_request_where_it_causes_them(clock, report):
    right, draws = named(lives(Eager, clock))
    low, high = interval(right, draws)
    report(f"issuer + worker by time, eager (unsafe): {low:.2f} to {high:.2f}, chance {1 / USERS}")
    assert low > 0.8


def test_draws_name_next_to_nobodys_request(clock, report):
    """The bound is docs/threat_model.md's: 1/N + (1 - 1/N) / (1 + L T), L requests a second."""
    right, draws = named(lives(Wallet, clock, hours=30.0))
    low, high = interval(right, draws)
    stated = 1 / USERS + (1 - 1 / USERS) / (1 + USERS * TICK_S / EACH_S)
    report(
        f"issuer + worker by time, {draws} draws: {low:.3f} to {high:.3f} (99 %), "
        f"stated {stated:.3f}, chance {1 / USERS}"
    )
    assert draws > 300
    assert low <= stated
    assert high < 0.2


# ---- by key id ----


def placed(seen, changed_at):
    """Guess, of each request after a change of keys, among the accounts that its key id leaves.

    The issuer knows who has drawn under the new key. Returns the mean chance of being right, hour
    by hour, and the smallest set that ever held the right one.
    """
    first_draw = {}
    for at, account in seen.draws:
        if at >= changed_at:
            first_draw.setdefault(account, at)
    chances, smallest = {}, USERS
    for at, who, key_id in seen.uses:
        if at < changed_at:
            continue
        renewed = {account for account in range(USERS) if first_draw.get(account, 1e12) <= at}
        old = key_id == privacy_pass.key_id(FIRST.spki)
        # Who has new tokens shows those; but for the moment in which it draws the first ones.
        left = set(range(USERS)) - renewed if old else renewed
        chance = 1 / len(left) if who in left else 0.0
        chances.setdefault(int((at - changed_at) // HOUR), []).append(chance)
        smallest = min(smallest, len(left) if who in left else smallest)
    return {hour: sum(each) / len(each) for hour, each in chances.items()}, smallest


def test_a_key_for_each_account_names_every_request(clock, report):
    """Unsafe: a client that draws under whatever key its issuer offers it."""
    seen, generator = Seen(), random.Random(2)

    async def user(account):
        own = (key(b"key of %d" % account),)
        wallet = wallet_of(Wallet, clock, seen, account, own)
        await wallet.refill()
        for _ in range(10):
            await asyncio.sleep(generator.expovariate(1 / EACH_S))
            [token] = await wallet.take(1)
            seen.uses.append((clock.time(), account, token.key_id))

    async def scenario():
        await asyncio.gather(*(user(account) for account in range(USERS)))

    simulate(scenario, clock)
    keys = {privacy_pass.key_id(b"key of %d" % account): account for account in range(USERS)}
    right = sum(keys[key_id] == who for _, who, key_id in seen.uses)
    low, _ = interval(right, len(seen.uses))
    report(f"issuer + worker by a key for each account (unsafe): {right} of {len(seen.uses)}")
    assert low > 0.9


def test_a_change_of_keys_divides_users_for_some_hours(clock, report):
    """What remains: two keys of the one log, and who has drawn under the new one so far."""
    changed_at = clock.time() + 3 * HOUR
    keys = (FIRST, key(b"second", changed_at, not_after=2e12))
    chances, smallest = placed(lives(Wallet, clock, hours=9.0, keys=keys), changed_at)
    hours = ", ".join(f"{chances[hour]:.2f}" for hour in sorted(chances))
    report(f"issuer + worker by key id after a change, hour by hour: {hours}; chance {1 / USERS}")
    assert smallest >= 1
    assert max(chances.values()) > 1.5 / USERS, "the division is not seen at all"
    assert chances[max(chances)] < 1.5 / USERS, "and it does not pass"


# ---- by the tokens themselves ----


@pytest.fixture
def transcript(run, world):
    """Draw tokens by the client's code; return what the issuer saw, and the tokens in its hand."""

    def draw():
        seen, sign = [], world.issuer_key.blind_sign

        def writing_down(blinded):
            signature = sign(blinded)
            seen.append((blinded, signature))
            return signature

        world.issuer_key.blind_sign = writing_down

        async def scenario(client):
            await client.wallet.refill()
            return await client.wallet.take(BATCH)

        return seen, run(scenario, filled=False)

    return draw


def matched(seen, tokens):
    """Tokens of which some 8 bytes stood in what the issuer received or signed."""
    drawn = b"".join(each for pair in seen for each in pair)
    return sum(
        any(part[at : at + 8] in drawn for part in parts for at in range(0, len(part) - 7, 8))
        for parts in ((token.nonce, token.signature) for token in tokens)
    )


def test_tokens_have_nothing_of_what_the_issuer_saw(transcript):
    seen, tokens = transcript()
    assert (len(seen), len(tokens)) == (BATCH, BATCH)
    assert matched(seen, tokens) == 0


def test_tokens_that_were_not_blinded_are_known_again(transcript, monkeypatch):
    """Unsafe: a blinding factor of one."""
    monkeypatch.setattr(privacy_pass, "BLIND_LENGTH", privacy_pass.SIGNATURE_LENGTH)
    one = bytes(privacy_pass.SIGNATURE_LENGTH - 1) + b"\1"
    monkeypatch.setattr(
        blinded_module.secrets,
        "token_bytes",
        lambda length: one if length == len(one) else random.randbytes(length),
    )
    seen, tokens = transcript()
    assert matched(seen, tokens) == BATCH
