#!/usr/bin/env python3
"""Makes many hostile bundles of good ones.

Usage: hostile_bundles.py PLAIN FRAMED OUT, where PLAIN is a bundle of level none and FRAMED one of level fast, each of one volume. Each
variant gets a folder OUT/NAME with the files of a medium, or with a file `stream`. The folder's manifest is to be signed anew if a file
`to-sign` lies beside it, OUT/NAME.to-sign. Nothing but Python's standard library and the program zstd is needed.
"""

import io
import json
import os
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

from format_reader import BLOCK, blake3, padded, read_header, sha256, unzstd
from resign import compact, header, member, zstd

END = bytes(2 * BLOCK)
ESCAPES = ["../../escaped", "/tmp/crateferry-escaped", "..\\..\\escaped", "C:\\escaped", "a/../../../escaped", "escaped\0.tar", "new\nline",
           "CON", "./escaped", "~/escaped", "x" * 99]


class Volume:
    """The parts of a volume: the lines of its table, and name and bytes of each piece."""

    def __init__(self, data):
        _, length = read_header(data[:BLOCK], 0)
        self.lines = [json.loads(line) for line in unzstd(data[BLOCK:BLOCK + length]).splitlines()]
        body = BLOCK + padded(length)
        self.pieces = {}
        for number, line in enumerate(self.lines):
            if "offset" in line:
                begin = body + line["offset"]
                self.pieces[number] = (read_header(data[begin - BLOCK:begin], 0)[0], data[begin:begin + line["length"]])

    def kind(self, kind):
        return next(number for number, line in enumerate(self.lines) if line["line"] == kind)

    def replace(self, number, piece):
        """Other bytes for a piece, with the digest and the name that they have."""
        line, (name, _) = self.lines[number], self.pieces[number]
        line["length"] = len(piece)
        if "blake3" in line:
            old, line["blake3"] = line["blake3"], blake3(piece).hex()
            name = name.replace(old, line["blake3"])
        self.pieces[number] = (name, piece)

    def place(self):
        at = BLOCK
        for number, (_, piece) in self.pieces.items():
            self.lines[number]["offset"] = at
            at += padded(len(piece)) + BLOCK

    def table(self):
        return zstd(b"".join(compact(line) + b"\n" for line in self.lines))

    def bytes(self, table=None):
        table = self.table() if table is None else table
        members = b"".join(member(name, piece) for name, piece in self.pieces.values())
        return member("contents.jsonl.zst", table) + members + END, table


class Maker:
    def __init__(self, source, out):
        self.source, self.out = source, out
        self.manifest = json.loads((source / "manifest.json").read_bytes())
        self.name = f"{self.manifest['bundle']}-0001.tar"
        self.volume = (source / self.name).read_bytes()
        self.count = 0

    def fresh(self):
        return Volume(self.volume)

    def medium(self, name):
        """A copy of the bundle."""
        folder = self.out / name
        folder.mkdir()
        for path in self.source.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        self.count += 1
        return folder

    def sealed(self, name, volume, table=None, change=None):
        """A bundle whose manifest has the digests of this volume, and that is to be signed."""
        folder = self.medium(name)
        manifest = json.loads(json.dumps(self.manifest))
        if volume is not None:
            (folder / self.name).write_bytes(volume)
            contents = manifest["volumes"][0]["contents"]
            if table is not None:
                contents = {"length": len(table), "blake3": blake3(table).hex()}
            manifest["volumes"] = [{"length": len(volume), "sha256": sha256(volume), "blake3": blake3(volume).hex(), "contents": contents}]
        if change:
            change(manifest)
        self.sign(folder, compact(manifest) + b"\n")

    def sign(self, folder, text):
        (folder / "manifest.json").write_bytes(text)
        (folder / "manifest.json.minisig").unlink()
        (self.out / f"{folder.name}.to-sign").touch()

    def both(self, name, volume):
        """As damage, and as the work of somebody who has the key."""
        (self.medium(f"damaged: {name}") / self.name).write_bytes(volume)
        self.sealed(f"sealed: {name}", volume)

    def of(self, name, change):
        """A sealed bundle with other lines or pieces."""
        volume = self.fresh()
        change(volume)
        self.sealed(name, *volume.bytes())


def patched(block, at, value):
    """A tar header with other bytes somewhere, and a right checksum."""
    block = bytearray(block)
    block[at:at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def hostile_member(name, data=b"", **fields):
    """A member as Python's tarfile writes it."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    form = fields.pop("form", tarfile.GNU_FORMAT)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(form, errors="surrogateescape") + data.ljust(padded(len(data)), b"\0")


def strange_members():
    """Members that lead elsewhere, are no files, or lie."""
    for number, name in enumerate(ESCAPES):
        yield f"file {number} called {name[:20]!r}".replace("/", "|").replace("\0", "0").replace("\n", "n"), hostile_member(name.replace("\0", "%"), b"escaped")
    kinds = {"hard link": tarfile.LNKTYPE, "symbolic link": tarfile.SYMTYPE}
    for kind, letter in kinds.items():
        for target in ("/etc/passwd", "../../../etc/passwd", "."):
            yield f"{kind} to {target}".replace("/", "|"), hostile_member("link", type=letter, linkname=target)
    yield "a link and a file through it", hostile_member("d", type=tarfile.SYMTYPE, linkname="/tmp") + hostile_member("d/crateferry-escaped", b"x")
    for kind, letter in {"character device": tarfile.CHRTYPE, "block device": tarfile.BLKTYPE, "pipe": tarfile.FIFOTYPE, "folder": tarfile.DIRTYPE}.items():
        yield kind, hostile_member("special", type=letter, devmajor=1, devminor=5)
    yield "name in a PAX header", hostile_member("plain", b"x", form=tarfile.PAX_FORMAT, pax_headers={"path": "../../escaped"})
    yield "size in a PAX header", hostile_member("plain", b"x", form=tarfile.PAX_FORMAT, pax_headers={"size": "9223372036854775807"})
    yield "link in a PAX header", hostile_member("plain", type=tarfile.SYMTYPE, form=tarfile.PAX_FORMAT, pax_headers={"linkpath": "/etc"})
    yield "long name of GNU", hostile_member("../" * 4000 + "escaped", b"x")
    yield "long link of GNU", hostile_member("link", type=tarfile.SYMTYPE, linkname="/" * 9000)
    yield "sparse file", patched(hostile_member("sparse", b"x")[:BLOCK], 156, b"S") + b"x".ljust(BLOCK, b"\0")
    yield "global PAX header", patched(hostile_member("g", b"13 path=../x\n")[:BLOCK], 156, b"g") + b"13 path=../x\n".ljust(BLOCK, b"\0")
    for kind, size in {"8 EiB": b"\x80" + (2**63 - 1).to_bytes(11, "big"), "a negative size": b"\xff" * 12, "no number as size": b"zzzzzzzzzzz\0"}.items():
        yield kind, patched(hostile_member("huge")[:BLOCK], 124, size)
    yield "twenty thousand empty members", b"".join(hostile_member(f"{number}") for number in range(20_000))


def archives(make):
    """The volume's archive is another than its table says."""
    data = make.volume
    _, length = read_header(data[:BLOCK], 0)
    first = BLOCK + padded(length)
    for number, name in enumerate(ESCAPES[:6]):
        block = patched(patched(data[first:first + BLOCK], 0, bytes(100)), 0, name.encode()[:99])
        make.both(f"first member is called {number}", data[:first] + block + data[first + BLOCK:])
    for letter in "12345677xgLKSV":
        make.both(f"first member has type {letter}{make.count}", data[:first] + patched(data[first:first + BLOCK], 156, letter.encode()) + data[first + BLOCK:])
    for what, at, value in (("size 0", 124, b"00000000000\0"), ("size 8 GiB", 124, b"77777777777\0"), ("size 8 EiB", 124, b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7),
                            ("negative size", 124, b"\xff" * 12), ("set-user-id", 100, b"0004755\0"), ("another magic", 257, b"pax\0\0\0"),
                            ("prefix that leads out", 345, b"../.."), ("a link's target", 157, b"/etc/passwd")):
        make.both(f"first member has {what}", data[:first] + patched(data[first:first + BLOCK], at, value) + data[first + BLOCK:])
        make.both(f"table has {what}", patched(data[:BLOCK], at, value) + data[BLOCK:])
    for name, strange in strange_members():
        make.sealed(f"sealed: before the end, {name}", data[:-len(END)] + strange + END)
    make.both("more archive behind the end", data + data)
    make.both("garbage behind the end", data + b"garbage")
    make.both("no end", data[:-len(END)])
    make.both("half an end", data[:-BLOCK])
    for cut in (0, 1, 100, BLOCK - 1, BLOCK, first, first + 300, first + BLOCK, len(data) - len(END) - 1, len(data) - 1):
        make.both(f"cut at {cut}", data[:cut])
    make.both("nothing but zeros", bytes(len(data)))
    swapped = make.fresh()
    numbers = list(swapped.pieces)
    swapped.pieces = {number: swapped.pieces[number] for number in reversed(numbers)}
    make.sealed("members in another order", *swapped.bytes())


def tables(make):
    """The table of contents lies, and the manifest vouches for it."""
    def table(name, text):
        make.sealed(f"table: {name}", *make.fresh().bytes(text))

    good = make.fresh().table()
    lines = unzstd(good)
    table("empty", b"")
    table("no zstd", lines)
    table("cut", good[:-3])
    table("two frames", good + good)
    table("skippable frame before", struct.pack("<II", 0x184D2A50, 4) + b"skip" + good)
    table("garbage behind", good + b"garbage")
    table("no text", zstd(bytes(range(256))))
    table("no JSON", zstd(b"{\n"))
    table("no line feed", zstd(lines[:-1]))
    table("empty line", zstd(lines + b"\n"))
    table("nested deep", zstd(lines + b"[" * 200_000 + b"\n"))
    table("bomb of spaces", zstd(b" " * (1 << 28)))
    table("bomb of lines", zstd(lines + b'{"line":"removed","name":"a"}\n' * 300_000))
    huge = subprocess.run(["zstd", "--quiet", "--stdout", "--ultra", "--long=31", "-1"], input=lines, capture_output=True, check=True).stdout
    table("a window of 2 GiB", huge)
    make.of("table: without its first line", lambda v: v.lines.pop(0) and setattr(v, "pieces", {n - 1: p for n, p in v.pieces.items()}))
    make.of("table: of another bundle", lambda v: v.lines[0].update(bundle="0" * 32))
    make.of("table: of another volume", lambda v: v.lines[0].update(number=2))
    make.of("table: first line twice", lambda v: v.lines.append(dict(v.lines[0])))
    make.of("table: unknown line", lambda v: v.lines.append({"line": "exec", "command": "id"}))
    make.of("table: unknown key", lambda v: v.lines[0].update(more=1))
    make.of("table: a line is a list", lambda v: v.lines.append([1]))

    def crate(name, /, **changes):
        def change(volume):
            line = volume.lines[volume.kind("crate")]
            for key, value in changes.items():
                (line["release"] if key in ("name", "version", "checksum") else line)[key] = value
        make.of(f"crate line: {name}", change)

    for number, name in enumerate(["../../escaped", "", "a" * 65, "con", "a/b", "a\0b", "a b", "\u00e9", "..", "A"]):
        crate(f"name {number}", name=name)
    for number, version in enumerate(["../../escaped", "", "1" * 200, "1.0.0/..", "1..0", "latest!", "9.9.9"]):
        crate(f"version {number}", version=version)
    for number, checksum in enumerate(["0" * 64, "xyz", "", "A" * 64, None, 5]):
        crate(f"checksum {number}", checksum=checksum)
    for number, value in enumerate([0, 2**63, 2**64 - 1, 2**64, -1, 1.5, "7", None]):
        crate(f"offset {number}", offset=value)
        crate(f"length {number}", length=value)
    make.of("crate line: all are too long together", lambda v: [line.update(length=2**63) for line in v.lines if line["line"] == "crate"])
    make.of("crate line: twice", lambda v: v.lines.append(dict(v.lines[v.kind("crate")])))
    make.of("crate line: left out", lambda v: v.pieces.pop(v.kind("crate")) and v.lines[v.kind("crate")].update(line="removed"))

    def texts(name, /, **changes):
        make.of(f"texts line: {name}", lambda v: v.lines[v.kind("texts")]["texts"][0].update(changes))

    texts("another name", name="evil")
    texts("bad name", name="../../escaped")
    texts("longer", length=2**40)
    texts("longest", length=2**64 - 1)
    texts("shorter", length=1)
    texts("more rows", rows=10**9)
    texts("other digests", text={"sha256": "0" * 64, "blake3": "0" * 64})
    make.of("texts line: no texts", lambda v: v.lines[v.kind("texts")].update(texts=[]))
    make.of("texts line: the same twice", lambda v: v.lines[v.kind("texts")].update(texts=v.lines[v.kind("texts")]["texts"] * 2))
    make.of("facts line: lengths that are too large", lambda v: v.lines[v.kind("facts")].update(lengths=[2**62] * len(v.lines[v.kind("facts")]["lengths"])))
    make.of("facts line: fewer lengths", lambda v: v.lines[v.kind("facts")].update(lengths=[1]))
    make.of("removed: a bad name", lambda v: v.lines.append({"line": "removed", "name": "../.."}))
    make.of("removed: a served crate that came", lambda v: v.lines.append({"line": "removed", "name": v.lines[v.kind("texts")]["texts"][0]["name"]}))
    make.of("removed: nobody knows it", lambda v: v.lines.append({"line": "removed", "name": "nobody"}))
    make.of("withdrawn: without its time", lambda v: v.lines.append({"line": "withdrawn", "name": "c00000", "version": "1.0.0", "checksum": "0" * 64}))
    make.of("hole: without a reason", lambda v: v.lines.append({"line": "hole", "name": "c00000"}))


def pieces(make):
    """Pieces are not what they should be, and the table vouches for them."""
    def piece(kind, name, data):
        def change(volume):
            volume.replace(volume.kind(kind), data(volume.pieces[volume.kind(kind)][1]))
            volume.place()
        make.of(f"{kind} piece: {name}", change)

    piece("crate", "other bytes", lambda data: b"evil" + data[4:])
    piece("crate", "empty", lambda data: b"")
    piece("crate", "longer", lambda data: data + b"\0" * 600)
    for kind in ("texts", "facts"):
        piece(kind, "no zstd", lambda data: b"nothing of the kind")
        piece(kind, "empty", lambda data: b"")
        piece(kind, "cut", lambda data: data[:-5])
        piece(kind, "garbage behind", lambda data: data + b"garbage")
        piece(kind, "bomb", lambda data: zstd(bytes(1 << 30)))
        piece(kind, "bomb that hides its length", lambda data: subprocess.run(["zstd", "-q", "-c", "--no-content-size"], input=bytes(1 << 28), capture_output=True, check=True).stdout)
        piece(kind, "nested deep", lambda data: zstd(b'{"a":' * 100_000))
        piece(kind, "other text", lambda data: zstd(unzstd(data).replace(b"1", b"2")))


def frames(make):
    """Frames of recompressed crate files."""
    def frame(name, change):
        def apply(volume):
            number = volume.kind("frame")
            volume.replace(number, bytes(change(bytearray(volume.pieces[number][1]))))
            volume.place()
        make.of(f"frame: {name}", apply)

    def put(at, value):
        return lambda data: data[:at] + value + data[at + len(value):]

    u32, u64 = (lambda value: struct.pack("<I", value)), (lambda value: struct.pack("<Q", value))
    frame("another magic", put(0, b"evil"))
    frame("version 2", put(4, b"\x02"))
    frame("a base that is not there", put(5, b"\x01"))
    frame("flags", put(5, b"\xff\xff\xff"))
    frame("unknown encoder", put(8, u32(1 << 31)))
    frame("all encoders", put(8, u32(2**32 - 1)))
    frame("no crate files", put(12, u32(0)))
    frame("four billion crate files", put(12, u32(2**32 - 1)))
    frame("a longer table", put(16, u32(2**32 - 1)))
    frame("an empty table", put(16, u32(0)))
    frame("a table of 4 GiB", put(20, u32(2**32 - 1)))
    frame("contents of 16 EiB", put(24, u64(2**64 - 1)))
    frame("no contents", put(24, u64(0)))
    frame("another base", put(32, b"\xaa" * 32))
    frame("cut in its head", lambda data: data[:40])
    frame("cut in its table", lambda data: data[:70])
    frame("cut in its contents", lambda data: data[:-20])
    frame("garbage behind", lambda data: data + b"garbage")
    frame("empty", lambda data: b"")
    for at in (66, 80, 100, 150):
        frame(f"a bit at {at}", lambda data, at=at: data[:at] + bytes([data[at] ^ 16]) + data[at + 1:])

    def bomb(data):
        table = struct.unpack("<I", data[16:20])[0]
        return put(24, u64(1 << 30))(data[:64 + table] + zstd(bytes(1 << 30)))

    frame("bomb", bomb)


def manifests(make):
    """Manifests that a key vouches for."""
    def field(name, *values):
        for number, value in enumerate(values):
            make.sealed(f"manifest: {name} {number}", None, change=lambda manifest, value=value: manifest.update({name: value}))

    def inner(outer, name, *values):
        for number, value in enumerate(values):
            make.sealed(f"manifest: {outer} {name} {number}", None, change=lambda manifest, value=value: manifest[outer].update({name: value}))

    field("format", 0, 2, -1, "1", None, 2**40)
    field("bundle", "../../escaped", "A" * 32, "0" * 31, "0" * 33, "", None, "0" * 32)
    field("mirror", "0" * 32, "", None, "../..", 7)
    field("from", None, 7, {"epoch": 0, "generation": 2**62, "digest": "0" * 64}, {"epoch": 9, "generation": 1, "digest": "0" * 64})
    field("to", None, {}, make.manifest["from"])
    inner("to", "number", 0, 1, 2**63 - 1, 2**64, -1, "9")
    inner("to", "epoch", 2**32, 2**31, -1)
    inner("to", "digest", "0" * 64, "", "x" * 64)
    inner("to", "counts", {"crates": 0, "rows": 0}, {"crates": 2**63, "rows": 2**63}, None)
    field("through", [], None, [make.manifest["from"]] * 2, [make.manifest["through"][-1]] * 1001, list(reversed(make.manifest["through"] * 3)))
    field("level", "evil", None, 3)
    field("encoders", 2**31, 2**64, -1)
    field("sections", [], None, [{"name": "exec", "format": 1, "required": True}], [{"name": "index", "format": 9, "required": True}])
    field("totals", None, {})
    inner("totals", "bytes", 2**64 - 1, -1)
    inner("totals", "carried", 2**64 - 1, 0)
    large = make.manifest["volumes"][0] | {"length": 2**63}
    field("volumes", [large, large], [], None, make.manifest["volumes"] * 2, make.manifest["volumes"] * 100_000)
    for key, values in {"length": (0, 1, 2**63, 2**64 - 1, -1), "sha256": ("0" * 64, ""), "blake3": ("0" * 64, None),
                        "contents": ({"length": 2**63, "blake3": "0" * 64}, {"length": 0, "blake3": "0" * 64}, None)}.items():
        for number, value in enumerate(values):
            make.sealed(f"manifest: volume's {key} {number}", None, change=lambda manifest, key=key, value=value: manifest["volumes"][0].update({key: value}))
    for number, name in enumerate(["../../escaped", "/tmp/crateferry-escaped", ".hidden", "-rf", "manifest.json", "a" * 101, "", "keys.json"]):
        field("importers", [{"name": name, "length": 1, "sha256": "0" * 64}]) if number == 0 else make.sealed(
            f"manifest: importer {number}", None, change=lambda manifest, name=name: manifest.update(importers=[{"name": name, "length": 1, "sha256": "0" * 64}]))
    zero = {"block": 4096, "rows": 1, "recovery": 1, "table": {"length": 64, "blake3": "0" * 64}, "volumes": []}
    field("parity", zero, zero | {"block": 3}, zero | {"rows": 0}, zero | {"recovery": 2**63}, zero | {"rows": 2**63, "block": 2**63}, {}, 7)
    good = compact(make.manifest)
    for name, text in {"empty": b"", "no line feed": good, "two lines": good + b"\n" + good + b"\n", "spaces": good.replace(b",", b", ") + b"\n",
                       "unknown key": good[:-1] + b',"evil":1}\n', "a key twice": good[:-1] + b',"format":1}\n', "not UTF-8": b"\xff\xfe" + good,
                       "byte order mark": b"\xef\xbb\xbf" + good + b"\n", "nested deep": b"[" * 500_000, "a list": b"[]\n", "a number": b"1e999999\n",
                       "cut": good[:-40], "many spaces": b" " * (1 << 27) + good + b"\n"}.items():
        make.sign(make.medium(f"manifest: {name}"), text)


def signatures(make):
    """Who signed it? Nobody here."""
    text = (make.source / "manifest.json.minisig").read_bytes()
    lines = text.split(b"\n")

    def signature(name, data):
        (make.medium(f"signature: {name}") / "manifest.json.minisig").write_bytes(data)

    (make.medium("signature: none") / "manifest.json.minisig").unlink()
    signature("empty", b"")
    signature("junk", os.urandom(200))
    signature("a mebibyte", b"untrusted comment: " + b"x" * (1 << 20))
    signature("cut", text[:100])
    for end in (-1, -2, -4, -5, -40, -86):
        signature(f"cut before its end by {-end}", text.rstrip(b"\n")[:end])
    signature("another trusted comment", b"\n".join([lines[0], lines[1], b"trusted comment: evil", lines[3], b""]))
    signature("another algorithm", b"\n".join([lines[0], b"RWQ" + lines[1][3:], *lines[2:]]))
    signature("a bit", b"\n".join([lines[0], lines[1][:40] + (b"A" if lines[1][40:41] != b"A" else b"B") + lines[1][41:], *lines[2:]]))
    signature("no Base64", b"\n".join([lines[0], b"!" * 100, *lines[2:]]))
    signature("comment of 60 KB", b"\n".join([b"untrusted comment: " + b"c" * 60_000, lines[1], lines[2][:-1] + b"?", *lines[3:]]))
    folder = make.medium("signature: of other bytes")
    (folder / "manifest.json").write_bytes((make.source / "manifest.json").read_bytes().replace(b'"none"', b'"fast"'))
    folder = make.medium("signature: a folder")
    (folder / "manifest.json.minisig").unlink()
    (folder / "manifest.json.minisig").mkdir()
    folder = make.medium("signature: a link to an endless file")
    (folder / "manifest.json.minisig").unlink()
    (folder / "manifest.json.minisig").symlink_to("/dev/zero")
    folder = make.medium("signature: none counts of very many")
    (folder / "manifest.json.minisig").unlink()
    for number in range(300):
        (folder / f"manifest.json.{number}.minisig").write_bytes(os.urandom(100))
    (make.medium("keys: junk") / "keys.json").write_bytes(b"[" * 100_000)
    (make.medium("keys: two mebibytes") / "keys.json").write_bytes(b" " * (2 << 20))


def media(make):
    """What lies on the medium is no file."""
    for name, put in {"a folder": lambda path: path.mkdir(), "a link to an endless file": lambda path: path.symlink_to("/dev/zero"),
                      "a link to itself": lambda path: path.symlink_to(path.name), "a link to nothing": lambda path: path.symlink_to("nothing"),
                      "a pipe": lambda path: os.mkfifo(path)}.items():
        for file in (make.name, "manifest.json"):
            path = make.medium(f"medium: {'volume' if file == make.name else 'manifest'} is {name}") / file
            path.unlink()
            put(path)


def streams(make):
    """One archive with everything, and with something more."""
    files = [("manifest.json", (make.source / "manifest.json").read_bytes()),
             ("manifest.json.minisig", (make.source / "manifest.json.minisig").read_bytes()), (make.name, make.volume)]

    def stream(name, data):
        folder = make.out / f"stream: {name}"
        folder.mkdir()
        (folder / "stream").write_bytes(data)
        make.count += 1

    parts = [member(name, data) for name, data in files]
    for name, strange in strange_members():
        stream(f"first, {name}", strange + b"".join(parts) + END)
        stream(f"behind the manifest, {name}", parts[0] + strange + b"".join(parts[1:]) + END)
    stream("empty", b"")
    stream("zeros", bytes(100_000))
    stream("noise", os.urandom(100_000))
    stream("no end", b"".join(parts))
    stream("volume first", parts[2] + parts[0] + parts[1] + END)
    stream("manifest twice", parts[0] + b"".join(parts) + END)
    stream("two manifests", parts[0] + member("manifest.json", b"{}") + parts[1] + parts[2] + END)
    stream("volume twice", b"".join(parts) + parts[2] + END)
    stream("volume cut", b"".join(parts)[:-5000])
    stream("a volume of a larger number", parts[0] + parts[1] + member(make.name.replace("0001", "9999"), make.volume) + END)
    stream("under zstd", zstd(b"".join(parts) + END))
    stream("manifest of 8 GiB", patched(parts[0][:BLOCK], 124, b"77777777777\0") + parts[0][BLOCK:])


def main():
    plain, framed, out = map(Path, sys.argv[1:])
    out.mkdir()
    make = Maker(plain, out)
    for part in (archives, tables, pieces, manifests, signatures, media, streams):
        part(make)
    more = Maker(framed, out)
    frames(more)
    print(make.count + more.count)


if __name__ == "__main__":
    main()
