"""A static program of a few hundred bytes that prints one line and exits, for sample images.

It needs no libc, loader or network, so an image with this one file can run. Format: ELF-64,
System V ABI; the system calls are Linux's write and exit_group on each architecture.
"""

from __future__ import annotations

import struct
from typing import Final

_LOAD_ADDRESS: Final = 0x400000
_HEADERS: Final = 64 + 56
"""The ELF header and one program header; the code follows directly."""
_EM_X86_64: Final = 62
_EM_AARCH64: Final = 183


def static_program(line: str, architecture: str = "amd64") -> bytes:
    """An executable for Linux on *architecture* (``amd64`` or ``arm64``) that prints *line* and a newline, then exits 0.

    Raises:
        ValueError: another architecture, or a line of more than 4,000 bytes.
    """
    message = line.encode() + b"\n"
    if len(message) > 4000:
        raise ValueError("the line is too long")
    match architecture:
        case "amd64":
            machine, code = _EM_X86_64, _code_amd64(len(message))
        case "arm64":
            machine, code = _EM_AARCH64, _code_arm64(len(message))
        case _:
            raise ValueError(f"no program for {architecture!r}: amd64 and arm64 are known")
    size = _HEADERS + len(code) + len(message)
    # e_type 2 is EXEC; one loadable segment maps the whole file, headers included, readable and executable.
    elf_header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        2,
        machine,
        1,
        _LOAD_ADDRESS + _HEADERS,
        64,
        0,
        0,
        64,
        56,
        1,
        0,
        0,
        0,
    )
    program_header = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x10000)
    return elf_header + program_header + code + message


def _code_amd64(length: int) -> bytes:
    write = b"".join(
        (
            b"\xb8" + struct.pack("<I", 1),  # mov eax, 1 (write)
            b"\xbf" + struct.pack("<I", 1),  # mov edi, 1 (standard output)
            b"\x48\x8d\x35" + struct.pack("<I", 5 + 2 + 5 + 2 + 2),  # lea rsi, [rip + what is left of the code]
            b"\xba" + struct.pack("<I", length),  # mov edx, length
            b"\x0f\x05",  # syscall
        )
    )
    leave = (
        b"\xb8" + struct.pack("<I", 231) + b"\x31\xff" + b"\x0f\x05"
    )  # mov eax, 231 (exit_group); xor edi, edi; syscall
    return write + leave


def _code_arm64(length: int) -> bytes:
    def move(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register  # movz Xregister, #value

    supervisor_call = 0xD4000001
    after = 7 * 4  # the message begins seven instructions after the adr
    address = 0x10000000 | (after >> 2) << 5 | 1  # adr x1, message
    return struct.pack(
        "<8I",
        move(0, 1),
        address,
        move(2, length),
        move(8, 64),
        supervisor_call,
        move(0, 0),
        move(8, 94),
        supervisor_call,
    )
