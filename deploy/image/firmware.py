"""The variables of secure boot, read from the file in which OVMF keeps its variables.

Format: EDK II, `MdeModulePkg/Include/Guid/VariableFormat.h`, the store of authenticated variables.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from uuid import UUID

_VARIABLE = struct.Struct("<HBxI8x16xIII16s")
_VARIABLE_START, _ADDED = 0x55AA, 0x3F
_STORE = UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
_STORE_HEADER = 28


class FirmwareError(Exception):
    """Files of firmware that are not built as this page expects, or are not known here."""


def variables(store: bytes) -> Mapping[str, tuple[bytes, bytes]]:
    """Return the variables in an authenticated store by name: the vendor's GUID, and the data.

    Raises:
        FirmwareError: there is no such store.
    """
    start = store.find(_STORE)
    if start < 0:
        raise FirmwareError("no store of authenticated variables")
    found = {}
    at = start + _STORE_HEADER
    while at + _VARIABLE.size <= len(store):
        begins, state, _, _, name_size, data_size, vendor = _VARIABLE.unpack_from(store, at)
        if begins != _VARIABLE_START:
            break
        name_at = at + _VARIABLE.size
        data_at = name_at + name_size
        if state == _ADDED:
            name = store[name_at : data_at - 2].decode("utf-16-le", "replace")
            found[name] = (vendor, store[data_at : data_at + data_size])
        at = _aligned(data_at + data_size, 4)
    return found


def _aligned(at: int, to: int) -> int:
    return -(-at // to) * to
