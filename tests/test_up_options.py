"""`sottovoce up` passes its options on to the parties they are for."""

from rich.console import Console

from sottovoce.up import Up, UpOptions


def started(tmp_path, monkeypatch, **options):
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path))
    up = Up(UpOptions(20_000, 1, None, 60, **options), Console(quiet=True))
    commands = {}
    monkeypatch.setattr(up.supervisor, "start", lambda name, *words: commands.update({name: words}))
    up._start_path(tmp_path, "tinychat", "account")
    return commands


def test_the_relay_serves_stock_clients_only_when_asked_to(tmp_path, monkeypatch):
    assert "--stock-ohttp" not in started(tmp_path, monkeypatch)["relay"]
    asked = started(tmp_path, monkeypatch, stock_ohttp=True)
    assert "--stock-ohttp" in asked["relay"]
    assert not any("--stock-ohttp" in words for name, words in asked.items() if name != "relay")
