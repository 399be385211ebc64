"""A fleet of engines' schedulers without models: which nodes hold K and V of a request, and when.

Each host runs `engine.scheduler.Scheduler` as it is; a step computes the rows that it planned. An
operator's levers are in the `Wish` of a request and in a host's `role`: whoever makes a mechanism
for a test may heed them.
"""

from dataclasses import dataclass, field

from client.choice import draw
from engine.blocks import BlockAllocator
from engine.scheduler import Scheduler, Sequence
from engine.types import SamplingParams

BLOCK = 16


@dataclass
class Wish:
    """What an operator who wants to steer attaches to a request."""

    priority: int = 0
    """Lower comes first."""
    predicted: int = 0
    """Ids that the answer is said to have."""


@dataclass(eq=False)
class Request:
    """One request, and the nodes that ever held its K and V."""

    prompt: int
    answer: int
    wish: Wish = field(default_factory=Wish)
    held_by: list[str] = field(default_factory=list)
    begun: int | None = None
    arrived: int = 0
    done: bool = False


class Host:
    """A node: one scheduler, and the requests of its sequences."""

    def __init__(self, name, capacity, make=Scheduler):
        self.name, self.capacity = name, capacity
        self.role = "both"
        self.arrivals = 0
        self.requests = {}
        self.scheduler = make(
            BlockAllocator(32 * capacity),
            lambda _: None,
            block_size=BLOCK,
            max_sequences=4 * capacity,
            max_batch_tokens=64,
            max_mixed_tokens=32,
            prompt_logit_rows=8,
        )

    @property
    def load(self):
        return len(self.requests) / self.capacity

    def submit(self, request):
        self.arrivals += 1
        sequence = Sequence(
            slot=None,
            params=SamplingParams(max_new_tokens=request.answer),
            prompt_length=request.prompt,
            limit=request.prompt + request.answer,
            group=object(),
            arrival=self.arrivals,
        )
        sequence.wish = request.wish
        self.requests[sequence] = request
        self.scheduler.add(sequence)

    def take(self, sequence):
        """Give a sequence up, with whatever was computed of it."""
        self.scheduler.remove(sequence)
        return self.requests.pop(sequence)

    def step(self, now):
        for work in self.scheduler.schedule().works:
            sequence, request = work.sequence, self.requests[work.sequence]
            hold(self, request)
            request.begun = now if request.begun is None else request.begun
            sequence.sampled += work.samples
            sequence.computed = min(work.start + work.length, sequence.length - 1)
            if sequence.length >= sequence.limit:
                self.take(sequence).done = True


def hold(host, request):
    """A host's pool now has K and V of a request."""
    if host.name not in request.held_by:
        request.held_by.append(host.name)


class Fleet:
    """Hosts of unequal capacity, and clients who draw among them.

    `mechanism(fleet, now)` is what a fleet with a machine-level scheduler does each turn; ours has
    none.
    """

    def __init__(self, generator, *, count=24, make=Scheduler, mechanism=None):
        self.generator = generator
        self.hosts = [Host(f"n{i}", (1, 2, 4, 8)[i % 4], make) for i in range(count)]
        self.mechanism = mechanism
        self.now = 0

    def share(self, names):
        own = sum(host.capacity for host in self.hosts if host.name in names)
        return own / sum(host.capacity for host in self.hosts)

    def ask(self, request):
        """The client's own draw; the request is at that node and nowhere else."""
        capacities = [host.capacity for host in self.hosts]
        host = self.hosts[draw(capacities, self.generator.random)]
        request.arrived = self.now
        host.submit(request)
        return host

    def turn(self):
        for host in self.hosts:
            host.step(self.now)
        if self.mechanism is not None:
            self.mechanism(self, self.now)
        self.now += 1

    def settle(self):
        while any(host.requests for host in self.hosts):
            self.turn()
