"""A search of everything that processes hold, from outside: pages, logs, files."""

import os
from pathlib import Path

import hyperscan

_STEP = 64 << 20
_OVERLAP = 256
_SPECIAL = ("[vvar]", "[vvar_vclock]", "[vsyscall]", "[vdso]")


class Search:
    """Many needles at once, at any alignment."""

    def __init__(self, needles):
        self._names = list(needles)
        self._database = hyperscan.Database()
        self._database.compile(
            expressions=[b"".join(rb"\x%02x" % byte for byte in data) for data in needles.values()],
            ids=range(len(needles)),
            elements=len(needles),
            flags=hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_DOTALL,
        )

    def data(self, data):
        """Return the names of the needles in a piece of memory."""
        hits = set()
        self._database.scan(data, match_event_handler=lambda number, *_: hits.add(number))
        return {self._names[number] for number in hits}

    def process(self, pid):
        """Return what is found in a process, with where; of files mapped, changed pages only."""
        hits = {}
        with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
            for span, where in regions(pid):
                for name in self._region(memory, *span):
                    hits[name] = where
        return hits

    def processes(self, pids):
        """Return what is found in any of some processes: name to where."""
        hits = {}
        for pid in pids:
            try:
                command = Path(f"/proc/{pid}/comm").read_text().strip()
                hits |= {n: f"{command} {pid} {w}" for n, w in self.process(pid).items()}
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile, and its memory with it
        return hits

    def files(self, folder):
        """Return what is found in the files below a folder: name to path."""
        return {
            name: str(path)
            for path in Path(folder).rglob("*")
            if path.is_file()
            for name in self.data(path.read_bytes())
        }

    def _region(self, memory, start, stop):
        while start < stop:
            try:
                memory.seek(start)
                data = memory.read(min(stop, start + _STEP + _OVERLAP) - start)
            except OSError:
                return
            yield from self.data(data)
            start += _STEP


def regions(pid):
    """Yield the readable regions of a process: (start, stop), and what the kernel calls them."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, modes, _, _, inode, *path = line.split(maxsplit=5)
        where = path[0] if path else "anonymous"
        if "r" not in modes or where in _SPECIAL:
            continue
        if int(inode) and "w" not in modes and "memfd" not in where:
            continue  # a file's own content
        start, stop = (int(part, 16) for part in span.split("-"))
        yield (start, stop), where


def family(pid):
    """Return a process and all of its descendants."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def can_read_others():
    """Whether another process's memory can be read here; it needs root."""
    return os.geteuid() == 0
