"""Writes the golden files of the private part, versions 1 and 2, from docs/private-part.md and without code of EDS."""

from pathlib import Path


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def listed(data):
    return varint(len(data)) + data


def part(original_length, variant, rest, version=1):
    image = bytes(range(16)) + b"\x22" * 24 + b"\x33" * 32
    deidentified = b"\x44" * 32 + varint(1000)
    original = b"\x55" * 32 + varint(original_length)
    return bytes([version]) + image + deidentified + original + varint(variant) + rest


head, tail = b"DICM head" * 20, b"tail"
here = Path(__file__).parent
around = part(len(head) + 600 + len(tail), 0, listed(head) + varint(400) + listed(tail))
(here / "private-part-v1-around.bin").write_bytes(around)
(here / "private-part-v1-whole.bin").write_bytes(part(8, 1, listed(b"original")))
runs = varint(2) + varint(12) + varint(3) + varint(200) + varint(4)
blanked = listed(head) + varint(400) + listed(tail) + runs + listed(b"ONEFOUR")
blanked = part(len(head) + 600 + len(tail), 2, blanked, version=2)
(here / "private-part-v2-blanked.bin").write_bytes(blanked)
