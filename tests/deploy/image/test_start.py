"""What the image runs: which settings it takes, and what no setting can reach."""

import asyncio
import inspect
import io
import tarfile

import pytest

from attestation.verifier.tpm.policy import MEASURED
from deploy.image import start
from deploy.image.machine import WORKER_PORT
from deploy.image.start import MEMBERS, join, unpack_settings

SETTINGS = {"settings.toml": b"address", "trust.toml": b"trust", "tpm-chain": b"chain"}


@pytest.fixture
def disk(tmp_path):
    def write(files, kind=tarfile.REGTYPE):
        path = tmp_path / "disk"
        with tarfile.open(path, "w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size, member.type = len(content), kind
                archive.addfile(member, io.BytesIO(content))
        return path

    return write


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def files_in(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_settings_are_three_files_and_nothing_else_is_taken(disk, out):
    unpack_settings(disk({**SETTINGS, "../outside": b"x", "sitecustomize.py": b"x"}), out)
    assert files_in(out) == {MEMBERS[name]: content for name, content in SETTINGS.items()}
    assert not (out.parent / "outside").exists()


@pytest.mark.parametrize("name", SETTINGS)
def test_a_missing_or_too_long_file_is_refused(disk, out, name):
    without = {each: content for each, content in SETTINGS.items() if each != name}
    with pytest.raises(ValueError, match=name):
        unpack_settings(disk(without), out)
    with pytest.raises(ValueError, match=name):
        unpack_settings(disk(SETTINGS | {name: bytes(start.MAX_MEMBER + 1)}), out)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_a_link_or_device_is_no_setting(disk, out, kind):
    with pytest.raises(ValueError, match=r"settings\.toml"):
        unpack_settings(disk(dict.fromkeys(SETTINGS, b""), kind), out)
    assert not files_in(out)


def test_the_settings_say_where_and_never_what():
    """Of the settings these members are read, and no other."""
    source = inspect.getsource(start.main)
    read = {part.split('"')[0] for part in source.split('settings["')[1:]}
    assert read == {"address", "gateway", "log", "issuer", "spent"}
    assert '"--platform": "tpm"' in source


def test_it_shows_the_registers_that_a_release_states():
    assert start.MEASURED == MEASURED
    assert start.PORT == WORKER_PORT


def test_bytes_are_carried_both_ways_until_both_ends_are_through(tmp_path):
    async def answer(reader, writer):
        writer.write(b"answer to " + await reader.read())
        writer.close()

    async def run():
        inner = await asyncio.start_unix_server(answer, tmp_path / "store")

        async def carry(reader, writer):
            await join((reader, writer), await asyncio.open_unix_connection(tmp_path / "store"))

        outer = await asyncio.start_unix_server(carry, tmp_path / "seen")
        async with inner, outer:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "seen")
            writer.write(b"question")
            writer.write_eof()
            return await asyncio.wait_for(reader.read(), 10)

    assert asyncio.run(run()) == b"answer to question"
