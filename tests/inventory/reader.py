#!/usr/bin/env python3
"""Reads inventories with parsers that know nothing of crateferry, and computes what no common program does.

  reader.py documents FILE.yaml FILE.tar    both documents and the archive's one member, as JSON
  reader.py kangarootwelve FILE             KT128 of RFC 9861, 32 bytes
  reader.py murmur3 FILE                    Murmur3 x64 128, both halves with the highest byte first

Written from RFC 9861 and from the public description of Murmur3.
"""

import json
import sys
import tarfile

MASK = (1 << 64) - 1


def rotate(word, by):
    return (word << by | word >> (64 - by)) & MASK if by else word


def keccak_p12(lanes):
    """The last 12 rounds of Keccak-f[1600]."""
    lfsr = 1
    for number in range(24):
        constant = 0
        for bit in range(7):
            if lfsr & 1:
                constant |= 1 << ((1 << bit) - 1)
            lfsr = (lfsr << 1) ^ (0x171 if lfsr & 0x80 else 0)
        if number < 12:
            continue
        parity = [lanes[x][0] ^ lanes[x][1] ^ lanes[x][2] ^ lanes[x][3] ^ lanes[x][4] for x in range(5)]
        mixed = [parity[(x + 4) % 5] ^ rotate(parity[(x + 1) % 5], 1) for x in range(5)]
        lanes = [[lanes[x][y] ^ mixed[x] for y in range(5)] for x in range(5)]
        x, y, current = 1, 0, lanes[1][0]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, lanes[x][y] = lanes[x][y], rotate(current, (step + 1) * (step + 2) // 2 % 64)
        for y in range(5):
            row = [lanes[x][y] for x in range(5)]
            for x in range(5):
                lanes[x][y] = row[x] ^ (~row[(x + 1) % 5] & MASK & row[(x + 2) % 5])
        lanes[0][0] ^= constant
    return lanes


def turboshake128(message, domain, length):
    rate = 168
    message = message + bytes([domain])
    message += bytes(-len(message) % rate)
    message = message[:-1] + bytes([message[-1] ^ 0x80])
    lanes = [[0] * 5 for _ in range(5)]
    for at in range(0, len(message), rate):
        for word in range(rate // 8):
            lanes[word % 5][word // 5] ^= int.from_bytes(message[at + 8 * word : at + 8 * word + 8], "little")
        lanes = keccak_p12(lanes)
    out = b"".join(lanes[word % 5][word // 5].to_bytes(8, "little") for word in range(rate // 8))
    return out[:length]


def length_encode(number):
    digits = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return digits + bytes([len(digits)])


def kangarootwelve(message):
    message += length_encode(0)
    chunks = [message[at : at + 8192] for at in range(0, len(message), 8192)]
    if len(chunks) == 1:
        return turboshake128(chunks[0], 0x07, 32)
    node = chunks[0] + b"\x03" + bytes(7)
    node += b"".join(turboshake128(chunk, 0x0B, 32) for chunk in chunks[1:])
    return turboshake128(node + length_encode(len(chunks) - 1) + b"\xff\xff", 0x06, 32)


def murmur3(message):
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F

    def mix1(k):
        return rotate(k * c1 & MASK, 31) * c2 & MASK

    def mix2(k):
        return rotate(k * c2 & MASK, 33) * c1 & MASK

    def fmix(k):
        k = (k ^ k >> 33) * 0xFF51AFD7ED558CCD & MASK
        k = (k ^ k >> 33) * 0xC4CEB9FE1A85EC53 & MASK
        return k ^ k >> 33

    h1 = h2 = 0
    whole = len(message) // 16 * 16
    for at in range(0, whole, 16):
        h1 ^= mix1(int.from_bytes(message[at : at + 8], "little"))
        h1 = ((rotate(h1, 27) + h2) * 5 + 0x52DCE729) & MASK
        h2 ^= mix2(int.from_bytes(message[at + 8 : at + 16], "little"))
        h2 = ((rotate(h2, 31) + h1) * 5 + 0x38495AB5) & MASK
    tail = message[whole:]
    h2 ^= mix2(int.from_bytes(tail[8:], "little"))
    h1 ^= mix1(int.from_bytes(tail[:8], "little"))
    h1 ^= len(message)
    h2 ^= len(message)
    h1 = (h1 + h2) & MASK
    h2 = (h2 + h1) & MASK
    h1, h2 = fmix(h1), fmix(h2)
    h1 = (h1 + h2) & MASK
    h2 = (h2 + h1) & MASK
    return h1.to_bytes(8, "big") + h2.to_bytes(8, "big")


def documents(yaml_path, tar_path):
    import tomllib

    import yaml

    with open(yaml_path, encoding="utf-8") as file:
        from_yaml = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    with tarfile.open(tar_path, "r:") as archive:
        members = archive.getmembers()
        assert len(members) == 1, members
        member = members[0]
        from_toml = tomllib.loads(archive.extractfile(member).read().decode("utf-8"))
    header = {key: getattr(member, key) for key in ["name", "mode", "uid", "gid", "uname", "gname", "mtime"]}
    # What is no text comes back from the system as lone surrogates.
    header["name"] = header["name"].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    json.dump({"yaml": from_yaml, "toml": from_toml, "member": header}, sys.stdout)


if sys.argv[1] == "documents":
    documents(sys.argv[2], sys.argv[3])
else:
    with open(sys.argv[2], "rb") as file:
        algorithm = {"kangarootwelve": kangarootwelve, "murmur3": murmur3}[sys.argv[1]]
        print(algorithm(file.read()).hex())
