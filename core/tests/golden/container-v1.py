"""Makes container-v1.eds from the specification alone (docs/formats.md, c2sp.org/chunked-encryption), without any code of
EDS: Python's hmac and hashlib, and AES-GCM of the package `cryptography`. Run it here to compare; never to change the file.
"""
import hashlib
import hmac
import pathlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

file_id = bytes(range(0x10, 0x20))
key_id = bytes(range(0x20, 0x30))
epoch = 300
anchor = bytes(range(0x40, 0x60))
input_key = bytes(range(0x60, 0x80))
salt = bytes(range(0x80, 0x98))
plain = bytes((position * 7 + position // 251) % 256 for position in range(16384 + 100))

header = b"\x01" + file_id + key_id + bytes([0x80 | (epoch & 0x7F), epoch >> 7]) + anchor
preamble = b"\x89EDS\r\n\x1a\n" + struct.pack("<H", len(header)) + header

info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + salt + hashlib.sha256(preamble).digest()
first = hmac.digest(input_key, info + b"\x01", "sha512")
output = first + hmac.digest(input_key, first + info + b"\x02", "sha512")
key, base_nonce, commitment = output[:32], output[32:44], output[44:76]

container = preamble + salt + commitment
for index in range(len(plain) // 16384 + 1):
    nonce = (int.from_bytes(base_nonce, "big") ^ index).to_bytes(12, "big")
    container += AESGCM(key).encrypt(nonce, plain[index * 16384 : (index + 1) * 16384], None)

path = pathlib.Path(__file__).with_suffix(".eds")
if path.exists():
    assert path.read_bytes() == container, "the golden file and the specification differ"
else:
    path.write_bytes(container)
