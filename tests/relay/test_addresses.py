import pytest

from relay.addresses import Limited, Places, Rates


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def key(number):
    return number.to_bytes(4, "big")


def test_a_burst_passes_and_then_the_rate(clock):
    rates = Rates(2.0, 3, clock=clock)
    assert [rates.allow(b"a") for _ in range(5)] == [True] * 3 + [False] * 2
    clock.now += 0.5
    assert [rates.allow(b"a") for _ in range(2)] == [True, False]
    clock.now += 3600
    assert [rates.allow(b"a") for _ in range(4)] == [True] * 3 + [False]


def test_refused_requests_cost_nothing(clock):
    rates = Rates(1.0, 1, clock=clock)
    rates.allow(b"a")
    assert not any(rates.allow(b"a") for _ in range(1000))
    clock.now += 1
    assert rates.allow(b"a")


def test_one_address_does_not_use_up_another(clock):
    rates = Rates(1.0, 1, clock=clock)
    assert rates.allow(b"a")
    assert not rates.allow(b"a")
    assert rates.allow(b"b")


def test_the_table_is_bounded_and_forgets_who_asked_longest_ago(clock):
    rates = Rates(1.0, 5, max_addresses=100, clock=clock)
    for number in range(10_000):
        assert rates.allow(key(number))
        rates.allow(b"busy")
    assert len(rates) == 100
    assert not rates.allow(b"busy")


def test_addresses_that_ask_no_more_are_forgotten(clock):
    rates = Rates(1.0, 1, clock=clock)
    for number in range(1000):
        rates.allow(key(number))
    clock.now += 2
    for _ in range(500):
        rates.allow(b"other")
    assert len(rates) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_ipv6_counts_by_its_64_and_mapped_ipv4_as_what_it_is(one, other, same):
    limited = Limited(())
    assert (limited.key(one) == limited.key(other)) is same


def test_an_unlimited_network_has_no_key():
    limited = Limited(("127.0.0.0/8", "::1/128"))
    assert limited.key("127.1.2.3") is None
    assert limited.key("::1") is None
    assert limited.key("::ffff:127.0.0.1") is None
    assert limited.key("192.0.2.1") is not None


def test_places_are_counted_by_address_and_come_back():
    places = Places(2)
    assert [places.take(b"a") for _ in range(3)] == [True, True, False]
    assert places.take(b"b")
    places.leave(b"a")
    assert places.take(b"a")
    for address in (b"a", b"a", b"b"):
        places.leave(address)
    assert not places._taken
