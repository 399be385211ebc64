"""The lines of processors, and how each lays out the versions of its firmware.

SEV-SNP Firmware ABI (AMD 56860), tables "TCB_VERSION"; VCEK Certificate and KDS Interface (AMD
57230), which gives each byte the number of a certificate extension:

    byte        0            1            2    3    4..6      7
    Milan       boot loader  tee          -    -    -  snp    microcode     (snp is byte 6)
    Genoa       the same: also Genoa-X, Bergamo and Siena
    Turin       fmc          boot loader  tee  snp  -         microcode
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Product(StrEnum):
    """A line of processors: one root, one layout."""

    MILAN = "milan"
    GENOA = "genoa"
    TURIN = "turin"


COMPONENTS: Mapping[Product, Mapping[str, int]] = MappingProxyType(
    {
        Product.MILAN: {"boot_loader": 0, "tee": 1, "snp": 6, "microcode": 7},
        Product.GENOA: {"boot_loader": 0, "tee": 1, "snp": 6, "microcode": 7},
        Product.TURIN: {"fmc": 0, "boot_loader": 1, "tee": 2, "snp": 3, "microcode": 7},
    }
)
"""The byte of each component in a TCB version; the other bytes are reserved, and zero."""

EXTENSIONS: Mapping[Product, tuple[int, ...]] = MappingProxyType(
    {
        Product.MILAN: (1, 2, 4, 5, 6, 7, 3, 8),
        Product.GENOA: (1, 2, 4, 5, 6, 7, 3, 8),
        Product.TURIN: (9, 1, 2, 3, 5, 6, 7, 8),
    }
)
"""For each byte of a TCB version, the last number of the extension 1.3.6.1.4.1.3704.1.3.N."""

_NAMES = {
    "Milan": Product.MILAN,
    "Genoa": Product.GENOA,
    "Bergamo": Product.GENOA,
    "Siena": Product.GENOA,
    "Turin": Product.TURIN,
}

CHIP_ID_LENGTH = {Product.MILAN: 64, Product.GENOA: 64, Product.TURIN: 8}
"""How many bytes of a chip id are used; the rest is zero."""


def product_of_name(name: str) -> Product | None:
    """Return the line that a certificate's product name (`Milan-B0`, `Genoa`) belongs to."""
    return _NAMES.get(name.partition("-")[0])


def product_of_cpu(family: int, model: int) -> Product | None:
    """Return the line of a processor by the combined family and model of its CPUID."""
    match family, model >> 4:
        case 0x19, 0x0:
            return Product.MILAN
        case 0x19, 0x1 | 0xA:
            return Product.GENOA
        case 0x1A, 0x0 | 0x1:
            return Product.TURIN
    return None


@dataclass(frozen=True)
class Tcb:
    """A TCB version: which patch of each piece of firmware. Higher is newer.

    Attributes:
        product: whose layout the bytes have.
        raw: the 8 bytes.
    """

    product: Product
    raw: bytes

    @property
    def components(self) -> dict[str, int]:
        """The version of each component, by name."""
        return {name: self.raw[at] for name, at in COMPONENTS[self.product].items()}

    @property
    def reserved(self) -> bytes:
        """The bytes that are no component's."""
        used = COMPONENTS[self.product].values()
        return bytes(byte for at, byte in enumerate(self.raw) if at not in used)
