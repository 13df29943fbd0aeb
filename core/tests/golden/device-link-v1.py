"""Makes device-link-v1.bin from docs/device-link.md, without code of EDS: the recording of one transfer over a link without a
way back. Run it here to compare; it never changes the file.
"""
import hashlib
import pathlib
import struct
import zlib

HERE = pathlib.Path(__file__).parent
manifest, sealed, container = (
    (HERE / name).read_bytes() for name in ("manifest-device-v1.bin", "sealed-message-v1.bin", "container-v1.eds")
)


def cobs(raw):
    out, block = b"", b""
    for byte in raw + b"\0":
        if byte:
            block += bytes([byte])
        else:
            out, block = out + bytes([len(block) + 1]) + block, b""
        assert len(block) <= 254
    return out


def packet(kind, sequence, payload):
    assert len(payload) <= 240
    body = struct.pack("<BBII", 1, kind, 0x01020304, sequence) + payload
    return b"\0" + cobs(body + struct.pack("<I", zlib.crc32(body))) + b"\0"


bundle = b"\x89EDB\r\n\x1a\n" + struct.pack("<BBH", 1, 3, len(manifest)) + manifest
for node in (0x31, 0x32, 0x33):
    bundle += bytes([node]) * 16 + struct.pack("<H", len(sealed)) + sealed

# window 0, device 0x44…, counter 5, key 0x11…, file 0x10 to 0x1f
begin = b"\0" + b"\x44" * 16 + struct.pack("<Q", 5) + b"\x11" * 16 + bytes(range(0x10, 0x20))
digest = hashlib.sha256(b"eds/v1/transfer" + begin + bundle + container).digest()
end = struct.pack("<IQ", len(bundle), len(container)) + digest

parts = [(1, begin)]
parts += [(2, bundle[at : at + 240]) for at in range(0, len(bundle), 240)]
parts += [(3, container[at : at + 240]) for at in range(0, len(container), 240)]
parts += [(4, end)]
recording = b"".join(packet(kind, number, payload) for number, (kind, payload) in enumerate(parts))

path = pathlib.Path(__file__).with_suffix(".bin")
if path.exists():
    assert path.read_bytes() == recording, "the golden file and the specification differ"
else:
    path.write_bytes(recording)
