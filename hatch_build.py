"""Compiles the engine's decoder library into the wheel (hatchling calls this).

It happens where a wheel is built and nowhere else: a serving worker has no compiler. Without a C++
compiler, or on another processor than x86-64, the wheel is built without the library, and says so.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PARTS = ("model", "sampler", "verify", "scores")
SOURCES = tuple(f"engine/native/src/{name}.cpp" for name in PARTS)
LIBRARY = Path("engine/native/_decoder.so")
FLAGS = (
    "-std=c++20", "-O3", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra",
    # GCC 12 warns of its own intrinsics.
    "-Wno-uninitialized", "-Wno-maybe-uninitialized",
    # One fixed target, checked at run time: what is built does not depend on who builds it.
    "-march=sapphirerapids", "-mtune=sapphirerapids",
    # No path of the building machine in the result.
    "-ffile-prefix-map=engine/native/src=.",
)  # fmt: skip


class CompileDecoder(BuildHookInterface):
    """Adds the compiled library to the wheel, or leaves it out."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile, before the files of the wheel are collected."""
        if self.target_name != "wheel":
            return
        compiler = os.environ.get("CXX") or shutil.which("c++")
        if compiler is None or platform.machine() != "x86_64" or sys.platform != "linux":
            self.app.display_warning("sottovoce: without compiled kernels (no C++ compiler here)")
            return
        root = Path(self.root)
        command = [compiler, *FLAGS, *SOURCES, "-o", str(LIBRARY)]
        done = subprocess.run(  # noqa: S603 - the compiler, and files of this repository
            command, cwd=root, check=False, capture_output=True, text=True
        )
        if done.returncode:
            (root / LIBRARY).unlink(missing_ok=True)
            self.app.display_warning("sottovoce: without compiled kernels: " + done.stderr[-2000:])
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(str(LIBRARY))
