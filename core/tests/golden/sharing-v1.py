"""Makes the golden files of sharing, sealing and the directory from docs/formats.md, without code of EDS.

    python3 sharing-v1.py        (needs `cryptography`, for AES-256-GCM and ECDSA only; compares, and never changes a file)

P-256, RFC 9380 hashing to it, Shamir, Pedersen, HPKE and postcard are written out here, so that a mistake of EDS is not
repeated. Every secret is SHA-512 of a label, reduced: these keys protect nothing.
"""
import hashlib, hmac, pathlib
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = pathlib.Path(__file__).parent
sha256 = lambda data: hashlib.sha256(data).digest()

# --- P-256 (SP 800-186) ---
P = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffff
N = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551
A, B = P - 3, 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b
G = (0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296,
     0x4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5)

def add(p, q):
    if p is None or q is None:
        return p or q
    if p[0] == q[0] and (p[1] + q[1]) % P == 0:
        return None
    slope = ((3 * p[0] ** 2 + A) * pow(2 * p[1], -1, P) if p == q else (q[1] - p[1]) * pow(q[0] - p[0], -1, P)) % P
    x = (slope ** 2 - p[0] - q[0]) % P
    return x, (slope * (p[0] - x) - p[1]) % P

def times(k, p):
    out = None
    while k:
        if k & 1:
            out = add(out, p)
        p, k = add(p, p), k >> 1
    return out

b32 = lambda number: number.to_bytes(32, "big")
compressed = lambda p: bytes([2 + (p[1] & 1)]) + b32(p[0])
uncompressed = lambda p: b"\x04" + b32(p[0]) + b32(p[1])
scalar = lambda label: int.from_bytes(hashlib.sha512(label.encode()).digest(), "big") % N

# --- RFC 9380, suite P256_XMD:SHA-256_SSWU_RO_ ---
def expand(message, dst, length):
    dst += bytes([len(dst)])
    b0 = sha256(bytes(64) + message + length.to_bytes(2, "big") + b"\0" + dst)
    block, out = sha256(b0 + b"\1" + dst), b""
    for i in range(2, 2 + -(-length // 32)):
        out += block
        block = sha256(bytes(x ^ y for x, y in zip(b0, block)) + bytes([i]) + dst)
    return out[:length]

def map_to_curve(u):
    z = P - 10
    t = (z ** 2 * pow(u, 4, P) + z * u ** 2) % P
    x = (-B * pow(A, -1, P) * (1 + pow(t, -1, P)) if t else B * pow(z * A, -1, P)) % P
    for x in (x, z * u ** 2 * x % P):
        gx = (x ** 3 + A * x + B) % P
        y = pow(gx, (P + 1) // 4, P)
        if y * y % P == gx:
            return x, y if y & 1 == u & 1 else P - y

def hash_to_curve(message, dst):
    uniform = expand(message, dst, 96)
    return add(*(map_to_curve(int.from_bytes(uniform[i:i + 48], "big") % P) for i in (0, 48)))

H = hash_to_curve(b"second generator", b"eds/v1/pedersen-P256_XMD:SHA-256_SSWU_RO_")

# --- postcard ---
def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])

text = lambda value: varint(len(value)) + value.encode()
listed = lambda items: varint(len(items)) + b"".join(items)

def sign(secret, message):
    key = ec.derive_private_key(secret, ec.SECP256R1())
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return b32(r) + b32(s)

# --- manifest and share list: 2 of 3 ---
KEY, CLUSTER, NODE, DEVICE = (bytes([first]) * 16 for first in (0x11, 0x22, 0x33, 0x44))
EPOCH, NUMBERS, NEEDED = 300, (1, 2, 1000), 2
values = [scalar("golden secret"), scalar("golden value 1")]
blinders = [scalar("golden blinder 0"), scalar("golden blinder 1")]
at = lambda poly, x: sum(c * x ** j for j, c in enumerate(poly)) % N
entries = [KEY + EPOCH.to_bytes(4, "little") + x.to_bytes(2, "little") + b32(at(values, x)) + b32(at(blinders, x))
           for x in NUMBERS]
commitments = [compressed(add(times(v, G), times(b, H))) for v, b in zip(values, blinders)]
share_list = b"\1" + len(entries).to_bytes(2, "little") + b"".join(entries)

def manifest(origin, signed=b""):
    return (b"\1\1" + KEY + CLUSTER + varint(7) + varint(EPOCH) + bytes([NEEDED])
            + listed([varint(x) + sha256(entry) for x, entry in zip(NUMBERS, entries)]) + listed(commitments)
            + origin + signed)

plain = manifest(b"\0")
origin = b"\1" + DEVICE + varint(5)
device = manifest(origin, sign(scalar("golden device"), sha256(manifest(origin))))

# --- HPKE (RFC 9180) base mode ---
def extract(suite, salt, label, ikm):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")

def expand_label(prk, suite, label, info, length):
    return hmac.digest(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info + b"\1", "sha256")[:length]

def seal(recipient, one_time, info, aad, plaintext):
    enc, dh = uncompressed(times(one_time, G)), b32(times(one_time, recipient)[0])
    kem, suite = b"KEM\0\x10", b"HPKE\0\x10\0\1\0\2"
    shared = expand_label(extract(kem, b"", b"eae_prk", dh), kem, b"shared_secret", enc + uncompressed(recipient), 32)
    context = b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, shared, b"secret", b"")
    key, nonce = (expand_label(secret, suite, name, context, n) for name, n in ((b"key", 32), (b"base_nonce", 12)))
    return b"\1" + b"\1\0" + enc + AESGCM(key).encrypt(nonce, plaintext, aad)

fields = (b"eds/v1/share", b"\1\0", CLUSTER, NODE)
info = b"".join(len(field).to_bytes(2, "little") + field for field in fields)
registrant = (b"x509", b"golden issuer", b"golden subject")
registrant = sha256(b"eds/v1/registrant" + b"".join(len(f).to_bytes(4, "little") + f for f in registrant))
aad = sha256(sha256(plain)) + registrant
node_key = times(scalar("golden node"), G)
sealed = seal(node_key, scalar("golden one-time"), info, aad, share_list)

# --- directory ---
cluster_key = scalar("golden cluster")

def node(number, audit, active):
    audit = b"\1" + compressed(times(scalar("golden audit"), G)) if audit else b"\0"
    return (varint(number) + bytes([number % 251]) * 16 + text(f"https://node{number}.example:7443") + compressed(node_key)
            + audit + listed([varint(1)]) + bytes([active]))

body = (b"\x89EDD\r\n\x1a\n" + b"\1" + CLUSTER + text("golden ward") + compressed(times(cluster_key, G)) + varint(1000)
        + bytes([2]) + listed([node(1, True, True), node(2, False, False), node(1000, False, True)]))
directory = body + sign(cluster_key, sha256(b"eds/v1/directory" + body))

for name, data in {"manifest-v1.bin": plain, "manifest-device-v1.bin": device, "share-list-v1.bin": share_list,
                   "sealed-message-v1.bin": sealed, "directory-v1.edd": directory}.items():
    path = HERE / name
    if path.exists():
        assert path.read_bytes() == data, f"{name} and the specification differ"
    else:
        path.write_bytes(data)
