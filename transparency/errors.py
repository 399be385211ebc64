"""The errors of this floor.

    TransparencyError
    ├── Malformed             bytes that are not of the format, or not its one accepted encoding
    ├── BadSignature          a signature by a known key does not verify
    │   └── BadCosignature    ... and the key is a witness's
    ├── WrongRole             a leaf signed by another key than its role's
    ├── WrongOrigin           a checkpoint of another log
    ├── Unsigned              a checkpoint without the log's own signature
    ├── QuorumMissing         too few distinct witnesses, in time, cosigned the checkpoint
    ├── NotIncluded           an inclusion proof does not lead to the root
    ├── Inconsistent          two checkpoints that no append-only log can both have signed
    │   └── RolledBack        ... the newer one is shorter
    ├── ConsistencyMissing    nothing at hand connects two checkpoints (fetch tiles, ask again)
    ├── NotConvicting         a proof of misbehaviour that proves none
    ├── DuplicateLeaf         a log that holds one leaf twice
    ├── StaleEpoch            a node list of another epoch
    ├── TwoLists              two node lists for one epoch
    ├── WrongList             a node list that contradicts the leaves beside it
    ├── AmendmentMissing      a document without a rotation or withdrawal that was seen before
    ├── WrongAmendment        a rotation or withdrawal that the log does not take
    ├── SimulatedBesideReal   a node list with simulated nodes beside real ones
    ├── WrongBundle           a bundle that is not the one its node leaf names
    ├── AdmissionRefused      a node's evidence that the log does not accept
    ├── LeafRefused           the log answered that it will never take this leaf
    ├── LogUnavailable        the log or its witnesses cannot be reached; try again
    ├── WitnessRefusal        a witness does not cosign; carries the HTTP status that says why
    │   └── AtAnotherSize     ... because it has cosigned another size than the request starts from
    ├── LogInUse              another process writes to the log's directory
    ├── StorageDamaged        the log's own files contradict each other; it will not start
    └── UnsafeKeyFile         a seed file that others can read, or that holds no seed

`code` is the word for each error in JSON answers. A message never quotes the bytes it is about.
"""

from __future__ import annotations

from typing import ClassVar


class TransparencyError(Exception):
    """Base of every error raised by `transparency`."""

    code: ClassVar[str] = "transparency"


class Malformed(TransparencyError):
    """The bytes are not of the format, or not in the one encoding that is accepted."""

    code = "malformed"


class BadSignature(TransparencyError):
    """A signature by a known key does not verify."""

    code = "bad_signature"


class BadCosignature(BadSignature):
    """A signature line by a known witness does not verify."""

    code = "bad_cosignature"


class WrongRole(TransparencyError):
    """A leaf is signed by another key than the one its type demands."""

    code = "wrong_role"


class WrongOrigin(TransparencyError):
    """A checkpoint belongs to another log."""

    code = "wrong_origin"


class Unsigned(TransparencyError):
    """A checkpoint carries no signature by the log's own key."""

    code = "unsigned"


class QuorumMissing(TransparencyError):
    """Fewer distinct witnesses than the quorum cosigned the checkpoint within the allowed time."""

    code = "quorum_missing"


class NotIncluded(TransparencyError):
    """An inclusion proof does not lead from the leaf to the checkpoint's root."""

    code = "not_included"


class Inconsistent(TransparencyError):
    """Two checkpoints that one append-only log cannot both have signed.

    Attributes:
        older: the checkpoint seen first, a signed note (empty if only hashes are known).
        newer: the checkpoint that contradicts it, a signed note.
        proof: the consistency proof that was offered and failed; empty for equal sizes.

    Both notes together are the evidence: publish them.
    """

    code = "inconsistent"

    def __init__(
        self, message: str, *, older: bytes = b"", newer: bytes = b"", proof: tuple[bytes, ...] = ()
    ) -> None:
        super().__init__(message)
        self.older = older
        self.newer = newer
        self.proof = proof


class RolledBack(Inconsistent):
    """A checkpoint is shorter than one already seen."""

    code = "rolled_back"


class ConsistencyMissing(TransparencyError):
    """No proof at hand connects the checkpoint last seen with this one.

    `tile_tree.consistency_from_tiles` makes one from the log's static files.
    """

    code = "consistency_missing"

    def __init__(self, old_size: int, new_size: int) -> None:
        super().__init__(f"no consistency proof from tree size {old_size} to {new_size}")
        self.old_size = old_size
        self.new_size = new_size


class NotConvicting(TransparencyError):
    """A proof of misbehaviour that proves nothing to those who did not see it happen."""

    code = "not_convicting"


class DuplicateLeaf(TransparencyError):
    """A log holds the same leaf at two indexes."""

    code = "duplicate_leaf"


class StaleEpoch(TransparencyError):
    """A node list is of another epoch than the present one."""

    code = "stale_epoch"


class TwoLists(TransparencyError):
    """The log published two node lists for one epoch: fraud, and both leaves prove it."""

    code = "two_lists"

    def __init__(self, message: str, *, first: bytes, second: bytes) -> None:
        super().__init__(message)
        self.first = first
        self.second = second


class WrongList(TransparencyError):
    """A node list contradicts the leaves that come with it."""

    code = "wrong_list"


class AmendmentMissing(TransparencyError):
    """A nodes document hides a rotation or a withdrawal that an earlier one showed.

    Attributes:
        amendment: the leaf that is missing.
        node_list: the list whose commitment leaves it out, signed by the list key.
    """

    code = "amendment_missing"

    def __init__(self, message: str, *, amendment: bytes, node_list: bytes) -> None:
        super().__init__(message)
        self.amendment = amendment
        self.node_list = node_list


class WrongAmendment(TransparencyError):
    """A rotation or withdrawal that the log does not take, though its signature is good."""

    code = "wrong_amendment"


class SimulatedBesideReal(TransparencyError):
    """A node list names simulated nodes beside others, where they could hide."""

    code = "simulated_beside_real"


class WrongBundle(TransparencyError):
    """A bundle is not the one whose digest the node's leaf carries."""

    code = "wrong_bundle"


class AdmissionRefused(TransparencyError, ValueError):
    """A node's evidence is not accepted by the log's own verifier."""

    code = "admission_refused"


class LeafRefused(TransparencyError):
    """The log answered that it will not take the leaf, now or later.

    Attributes:
        status: the HTTP status.
        reason: the error code of the log's answer.
    """

    code = "leaf_refused"

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"the log refused the leaf: {reason}: {message}")
        self.status = status
        self.reason = reason


class LogUnavailable(TransparencyError):
    """The log, or a quorum of its witnesses, cannot be reached. Trying again is safe."""

    code = "unavailable"


class WitnessRefusal(TransparencyError):
    """A request that a witness answers without cosigning; `status` is the HTTP status."""

    code = "witness_refusal"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class AtAnotherSize(WitnessRefusal):
    """A request starts from another size than the one the witness is at, `size`."""

    code = "at_another_size"

    def __init__(self, size: int) -> None:
        super().__init__(409, f"{size}\n")
        self.size = size


class LogInUse(TransparencyError):
    """Another process writes to the log's directory: a log has exactly one writer."""

    code = "log_in_use"


class StorageDamaged(TransparencyError):
    """The log's own files contradict each other. It must not sign anything more."""

    code = "storage_damaged"


class UnsafeKeyFile(TransparencyError):
    """A seed file does not hold a seed, or others than its owner may read it."""

    code = "unsafe_key_file"
