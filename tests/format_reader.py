#!/usr/bin/env python3
"""Reads the packs of a mirror, and bundles, by docs/format.md alone, and checks all that the page promises.

It shares no code with crateferry and needs nothing but Python's standard library and, for bundles, the program zstd, so
it shows that the page is enough for a stranger. It reads no database. Usage: format_reader.py MIRROR [BUNDLE]

On success it prints one JSON object: packs, records, objects, the held crate files with their places, and the last
generation; of a bundle of that mirror, what it carries, each crate file compared with the one in the packs. Signatures
are for other programs. Anything that is not as the page says ends it with exit code 1 and a line on stderr.
"""

import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

BLOCK = 512
ZEROS = "0" * 64


class Damage(Exception):
    """Something is not as docs/format.md says."""


def demand(condition, what):
    if not condition:
        raise Damage(what)


# BLAKE3, as its specification (section 2 and the appendix) has it. Plain and slow.

IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
ORDER = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
LANES = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
         (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
MASK = 0xFFFFFFFF


def compress(chaining, words, counter, length, flags):
    v = chaining + IV[:4] + [counter & MASK, counter >> 32, length, flags]
    for turn in range(7):
        for (a, b, c, d), (x, y) in zip(LANES, zip(words[::2], words[1::2])):
            v[a] = (v[a] + v[b] + x) & MASK
            t = v[d] ^ v[a]
            v[d] = (t >> 16 | t << 16) & MASK
            v[c] = (v[c] + v[d]) & MASK
            t = v[b] ^ v[c]
            v[b] = (t >> 12 | t << 20) & MASK
            v[a] = (v[a] + v[b] + y) & MASK
            t = v[d] ^ v[a]
            v[d] = (t >> 8 | t << 24) & MASK
            v[c] = (v[c] + v[d]) & MASK
            t = v[b] ^ v[c]
            v[b] = (t >> 7 | t << 25) & MASK
        if turn < 6:
            words = [words[i] for i in ORDER]
    return [v[i] ^ v[i + 8] for i in range(8)]


def words_of(block):
    block = block.ljust(64, b"\0")
    return [int.from_bytes(block[i:i + 4], "little") for i in range(0, 64, 4)]


def chunk_value(chunk, counter, last_flag):
    value = IV
    blocks = [chunk[i:i + 64] for i in range(0, len(chunk), 64)] or [b""]
    for number, block in enumerate(blocks):
        flags = CHUNK_START if number == 0 else 0
        if number == len(blocks) - 1:
            flags |= CHUNK_END | last_flag
        value = compress(value, words_of(block), counter, len(block), flags)
    return value


def subtree(data, counter, last_flag):
    if len(data) <= 1024:
        return chunk_value(data, counter, last_flag)
    left = 1024
    while left * 2 < len(data):
        left *= 2
    halves = subtree(data[:left], counter, 0) + subtree(data[left:], counter + left // 1024, 0)
    return compress(IV, halves, 0, 64, PARENT | last_flag)


def blake3(data):
    return b"".join(word.to_bytes(4, "little") for word in subtree(bytes(data), 0, ROOT))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# Packs: ustar members, groups, the table of contents.

def text_field(block, begin, end):
    return block[begin:end].split(b"\0")[0].decode("ascii")


def octal_field(block, begin, end):
    return int(text_field(block, begin, end).strip() or "0", 8)


def read_header(block, at):
    """Name and length of the member whose tar header this is."""
    where = f"tar header at offset {at}"
    demand(len(block) == BLOCK, f"{where}: it is cut")
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    demand(octal_field(block, 148, 156) == total, f"{where}: its checksum is wrong")
    demand(block[257:265] == b"ustar\x0000", f"{where}: it is not ustar")
    demand(block[156:157] == b"0", f"{where}: it is not a regular file")
    fixed = {"mode": (100, 0o644), "uid": (108, 0), "gid": (116, 0)}
    for name, (begin, value) in fixed.items():
        demand(octal_field(block, begin, begin + 8) == value, f"{where}: {name} is not {value:o}")
    demand(octal_field(block, 136, 148) == 0, f"{where}: mtime is not 0")
    demand(not any(block[265:329]), f"{where}: it names an owner")
    prefix = text_field(block, 345, 500)
    name = text_field(block, 0, 100)
    return (f"{prefix}/{name}" if prefix else name), octal_field(block, 124, 136)


def padded(length):
    return -(-length // BLOCK) * BLOCK


class Pack:
    """The bytes of one pack, group by group."""

    def __init__(self, path):
        self.path = path
        self.number = int(path.name.split(".")[0])
        self.sealed = path.name.endswith(".tar")
        self.bytes = path.read_bytes()
        self.collected = 0

    def groups(self):
        """Yields (members before the record, record's name, record's text, offset); a torn tail ends an open pack."""
        at, begin, members = 0, 0, []
        self.contents = None
        while at < len(self.bytes):
            try:
                name, length = read_header(self.bytes[at:at + BLOCK], at)
                data = at + BLOCK
                demand(data + length <= len(self.bytes), f"member {name} at offset {at} is cut")
            except Damage as damage:
                demand(not self.sealed, f"pack {self.number}: {damage}")
                return
            body = self.bytes[data:data + length]
            at = data + padded(length)
            demand(not any(self.bytes[data + length:at]), f"pack {self.number}: padding of {name} is not zero")
            if name == "toc.jsonl":
                demand(not members, f"pack {self.number}: members without a record before the table of contents")
                self.contents = (begin, body)
                demand(self.bytes[at:] == bytes(2 * BLOCK), f"pack {self.number}: it does not end with two zero blocks")
                return
            if name.startswith("groups/"):
                yield members, name, body, data
                begin, members = at, []
            else:
                members.append((name, data, length))

    def check_contents(self, records):
        demand(self.contents is not None, f"sealed pack {self.number} has no table of contents")
        end, text = self.contents
        lines = [json.loads(line) for line in text.splitlines()]
        expected = [
            {"record": name, "offset": at, "length": len(body), "members": members, "blake3": blake3(body).hex()}
            for name, body, at, members in records
        ]
        demand(lines[:-1] == expected, f"pack {self.number}: its table of contents does not list its groups")
        seal = {"bytes": end, "blake3": blake3(self.bytes[:end]).hex()}
        demand(lines[-1] == seal or (self.collected and lines[-1]["bytes"] == end), f"pack {self.number}: its seal should be {seal}, is {lines[-1]}")


# The log: records in their order, and what follows from them.

CRATE = re.compile(r"crates/([A-Za-z0-9_-]{1,64})/\1-([0-9A-Za-z][0-9A-Za-z.+_-]{0,127})\.crate\Z")
INDEX = re.compile(r"index/([0-9a-f]{64})\.gz\Z")
ADVISORIES = re.compile(r"advisories/([0-9a-f]{64})\.tar\.zst\Z")
FACTS = re.compile(r"facts/([0-9a-f]{64})(\.head)?\.json\Z")


def advisories_in(archive):
    """How many advisories an archive has, whose files lie in it in order."""
    with tarfile.open(fileobj=io.BytesIO(unzstd(archive))) as files:
        names = [entry.name for entry in files if entry.isreg()]
    demand(names == sorted(names, key=str.encode), "the files of an advisory database are not in order")
    return sum(name.startswith("crates/") and name.endswith(".md") for name in names)


class Log:
    """What the records of all packs say together."""

    def __init__(self):
        self.sequence, self.digest, self.epoch, self.mirror = 0, ZEROS, 0, None
        self.objects, self.packs, self.sealed = 0, 0, 0
        self.held, self.texts, self.staged, self.served = {}, {}, {}, {}
        self.events, self.fallbacks = {}, 0
        self.selection, self.generation = None, None
        self.facts, self.advisories, self.database = {}, {}, None
        self.bytes, self.blank = {}, set()

    def read(self, pack):
        records, used = [], set()
        for members, name, body, at in pack.groups():
            self.record(pack, members, name, body, used)
            records.append((name, body, at, len(members)))
        if pack.sealed:
            pack.check_contents(records)
        self.packs += 1
        self.sealed += pack.sealed

    def record(self, pack, members, name, body, used):
        lines = [json.loads(line) for line in body.splitlines()]
        demand(body.endswith(b"\n") and lines, f"{name}: it is not JSON Lines")
        before = body[:body.rindex(b"\n", 0, -1) + 1]
        demand(lines.pop() == {"blake3": blake3(before).hex()}, f"{name}: its last line is not the digest of the others")
        self.header(pack, name, lines[0])
        listed = [line for line in lines[1:] if "event" not in line]
        demand(lines[1:1 + len(listed)] == listed, f"{name}: members come after events")
        demand(len(listed) == len(members), f"{name}: it lists {len(listed)} members, {len(members)} lie before it")
        for line, (written, offset, length) in zip(listed, members):
            self.member(pack, line, written, offset, length, used)
        self.digest = blake3(body).hex()
        facts = {match[1]: line for line in listed if (match := FACTS.match(line["name"]))}
        for line in listed:
            if (crate := CRATE.match(line["name"])) and line["sha256"] in facts:
                self.facts[crate[1].lower(), crate[2], line["sha256"]] = facts[line["sha256"]]["sha256"]
        events = lines[1 + len(listed):]
        came = [event for event in events if event["event"] == "bundle"]
        for event in events:
            self.event(event, came)
            if event["event"] == "described":
                key = (event["name"].lower(), event["version"], event["checksum"])
                demand(key in self.held, f"{name}: it describes {event['name']} {event['version']}, which is not held")
                demand(key[2] in facts, f"{name}: it has no facts of {event['name']} {event['version']}")
                self.facts[key] = facts[key[2]]["sha256"]

    def header(self, pack, name, header):
        demand(header["format"] == 1, f"{name}: format {header['format']} is newer than this reader")
        demand(name == f"groups/{header['sequence']:08}.jsonl", f"{name}: it is record {header['sequence']}")
        demand(header["sequence"] == self.sequence + 1, f"{name}: it follows record {self.sequence}")
        demand(header["previous"] == self.digest, f"{name}: the record before it has BLAKE3 {self.digest}")
        demand(header["pack"] == pack.number, f"{name}: it belongs to pack {header['pack']}")
        demand(header["epoch"] >= self.epoch, f"{name}: the epoch went back")
        demand(self.mirror in (None, header["mirror"]), f"{name}: it belongs to another mirror")
        self.sequence, self.epoch, self.mirror = header["sequence"], header["epoch"], header["mirror"]

    def member(self, pack, line, written, offset, length, used):
        name, digest = line["name"], line["sha256"]
        demand((line["offset"], line["length"]) == (offset, length), f"{name}: it does not lie where its record says")
        data = pack.bytes[offset:offset + length]
        right = sha256(data) == digest
        blank = pack.sealed and not any(data) and (CRATE.match(name) or ADVISORIES.match(name))
        pack.collected += bool(blank)
        demand(right or blank, f"pack {pack.number}: {name} at offset {offset} does not have SHA-256 {digest}")
        if written != name:
            demand(written == f"objects/{digest}", f"{name}: its header calls it {written}")
            too_long = len(name) > 100 and len(name.rsplit("/", 1)[1]) > 100
            demand(name in used or too_long, f"{name}: it could have had its own name")
            self.fallbacks += 1
        used.add(name)
        place = {"pack": pack.number, "offset": offset, "length": length}
        if crate := CRATE.match(name):
            # Of the same bytes stored twice, the place of the first counts.
            key = (crate[1].lower(), crate[2], digest)
            if self.held.setdefault(key, place) == place and not right:
                self.blank.add(key)
            elif right:
                self.bytes[digest] = data
        elif index := INDEX.match(name):
            text = gzip.decompress(data)
            demand(sha256(text) == index[1], f"{name}: its text has another SHA-256")
            self.texts[index[1]] = text
        elif facts := FACTS.match(name):
            document = json.loads(data)
            demand(document["version"] == 1, f"{name}: facts of version {document['version']}")
            demand(document["complete"] == (facts[2] is None), f"{name}: its name says otherwise")
        elif advisories := ADVISORIES.match(name):
            demand(advisories[1] == digest, f"{name}: it has SHA-256 {digest}")
            if right:
                self.advisories[digest] = advisories_in(data)
            else:
                self.blank.add(digest)
        else:
            raise Damage(f"{name}: no member is called so")
        self.objects += 1

    def event(self, event, came):
        kind = event["event"]
        self.events[kind] = self.events.get(kind, 0) + 1
        if kind == "selection":
            self.selection = event["selection"]
        elif kind in ("upstream", "staged") and event.get("text"):
            self.check_text(event["name"], event["text"])
        elif kind == "arrived":
            self.check_text("what arrived", event["text"])
        elif kind == "advisories":
            self.database = {key: value for key, value in event.items() if key != "event"}
            self.check_database(self.database)
        elif kind == "unstaged":
            self.staged = {}
        if kind == "lost":
            key = (event["name"].lower(), event["version"], event["checksum"])
            self.held.pop(key, None)
            self.blank.discard(key)
        if kind == "staged":
            self.staged[event["name"]] = event["text"]
        elif kind == "publish":
            self.publish(event["generation"], came)

    def check_database(self, database):
        if database["sha256"] in self.blank and database["sha256"] not in self.advisories:
            return
        found = self.advisories.get(database["sha256"])
        demand(found == database["advisories"], f"the database {database['sha256']} has {found} advisories")

    def check_text(self, name, reference):
        text = self.texts.get(reference["sha256"])
        demand(text is not None, f"{name}: its text {reference['sha256']} is in no pack")
        demand(blake3(text).hex() == reference["blake3"], f"{name}: its text has another BLAKE3")

    def publish(self, generation, came):
        before = self.generation
        for name, text in self.staged.items():
            self.served[name] = text
        self.staged = {}
        self.served = {name: text for name, text in self.served.items() if text}
        number = generation["number"]
        if not came:
            demand(generation.get("advisories") == self.database, f"generation {number}: another advisory database")
        elif "advisories" in generation:
            self.check_database(generation["advisories"])
        if came:
            # The origin made it, and what it calls the generation before need not have been served here.
            demand(number > (before["number"] if before else 0), f"generation {number} is not newer")
            last = came[0]["through"][-1]
            point = {"epoch": generation["epoch"], "generation": number, "digest": generation["digest"]}
            demand(len(came) == 1 and last == point, f"generation {number}: its bundle leads to {last}")
        else:
            demand(number == (before["number"] + 1 if before else 1), f"generation {number} does not follow")
            previous = before["digest"] if before else None
            demand(generation["previous"] == previous, f"generation {number}: wrong previous")
        digest = tree_root(self.served)
        demand(digest == generation["digest"], f"generation {number}: its files make {digest}, its record says otherwise")
        rows = sum(count_rows(self.texts[text["sha256"]]) for text in self.served.values())
        demand(generation["counts"] == {"crates": len(self.served), "rows": rows}, f"generation {number}: wrong counts")
        self.generation = generation

    def check_rows(self):
        """Every served row has its bytes, and what is held or served has not been collected."""
        demand(not self.blank & self.held.keys(), f"collected, and held: {sorted(self.blank & self.held.keys())}")
        served = ((self.generation or {}).get("advisories") or {}).get("sha256")
        demand(served is None or served in self.advisories, f"the advisory database {served} was collected")
        for name, reference in self.served.items():
            for line in self.texts[reference["sha256"]].splitlines():
                if line.strip():
                    row = json.loads(line)
                    key = (row["name"].lower(), row["vers"], row["cksum"])
                    demand(key in self.held, f"{name} {row['vers']} is served and not held")


def count_rows(text):
    return sum(1 for line in text.split(b"\n") if line.strip())


# The digest of a generation: a binary tree over 65,536 buckets of index files.

def index_path(name):
    if len(name) < 3:
        return f"{len(name)}/{name}"
    return f"3/{name[0]}/{name}" if len(name) == 3 else f"{name[:2]}/{name[2:4]}/{name}"


def bucket_digest(files):
    data = b"\0"
    for path, digest in sorted(files):
        data += len(path).to_bytes(2, "little") + path + digest
    return blake3(data)


def empty_digests():
    """Those of empty subtrees: [0] of a whole tree, [16] of a bucket."""
    digests = [bucket_digest([])]
    for _ in range(16):
        digests.insert(0, blake3(b"\1" + digests[0] + digests[0]))
    return digests


EMPTY = empty_digests()


def tree_root(served):
    buckets = {}
    for name, text in served.items():
        path = index_path(name).encode()
        buckets.setdefault(int.from_bytes(blake3(path)[:2], "big"), []).append((path, bytes.fromhex(text["blake3"])))
    level = {bucket: bucket_digest(files) for bucket, files in buckets.items()}
    for depth in range(16, 0, -1):
        level = {
            parent: blake3(b"\1" + level.get(2 * parent, EMPTY[depth]) + level.get(2 * parent + 1, EMPTY[depth]))
            for parent in {node // 2 for node in level}
        }
    return level.get(0, EMPTY[0]).hex()


# Bundles: the manifest, and volumes with their tables of contents.

KEYS = ["format", "bundle", "mirror", "from", "to", "through", "tool", "level", "encoders", "zstd", "sections", "totals",
        "volumes", "importers"]


def unzstd(data, prefix=None):
    """Undoes zstd; `prefix` is what it was compressed against."""
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder, "packed.zst")
        packed.write_bytes(data)
        command = ["zstd", "--decompress", "--quiet", "--stdout", "--long=27", str(packed)]
        if prefix is not None:
            Path(folder, "prefix").write_bytes(prefix)
            command.append(f"--patch-from={folder}/prefix")
        ran = subprocess.run(command, capture_output=True)
        demand(ran.returncode == 0, f"zstd cannot read it: {ran.stderr.decode()}")
        return ran.stdout


class Numbers:
    """The fields of a frame's table."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        part = self.data[self.at:self.at + length]
        demand(len(part) == length, "a frame's table is cut")
        self.at += length
        return part

    def number(self):
        value, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                demand(byte or shift == 7, "a number in a frame's table has needless bytes")
                return value

    def text(self):
        return self.take(self.number())


class Bundle:
    """A bundle of a mirror whose packs were read."""

    def __init__(self, folder, log):
        self.folder, self.log = folder, log
        text = (folder / "manifest.json").read_bytes()
        self.manifest = json.loads(text)
        again = json.dumps(self.manifest, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        demand(text == again and list(self.manifest) == KEYS, "the manifest is not written as it should be")
        demand(self.manifest["format"] == 1, "the bundle is newer than this reader")
        self.crates, self.texts, self.facts, self.removed, self.others = {}, {}, 0, 0, {}
        self.encoders, self.raw, self.carried, self.bases = 0, 0, 0, 0

    def read(self):
        for number, summary in enumerate(self.manifest["volumes"], 1):
            self.volume(number, summary)
        totals = {
            "index_files": len(self.texts), "removed": self.removed, "releases": len(self.crates),
            "bytes": sum(self.crates.values()), "raw": self.raw, "carried": self.carried,
        }
        demand(self.manifest["totals"] == totals, f"the manifest should say {totals}")
        demand(self.manifest["encoders"] == self.encoders, f"the manifest should name encoders {self.encoders}")
        to = self.manifest["to"]
        if self.manifest["from"] is None:
            served = {name: reference for name, (reference, _) in self.texts.items()}
            demand(tree_root(served) == to["digest"], "its index files do not make the digest of where it leads to")
            counts = {"crates": len(served), "rows": sum(rows for _, rows in self.texts.values())}
            demand(to["counts"] == counts, f"its index files make {counts}")
        return {
            "bundle": self.manifest["bundle"], "level": self.manifest["level"], "releases": len(self.crates),
            "index_files": len(self.texts), "facts": self.facts, "removed": self.removed, "bases": self.bases,
            "raw": self.raw, "lines": self.others,
        }

    def volume(self, number, summary):
        name = f"{self.manifest['bundle']}-{number:04}.tar"
        data = (self.folder / name).read_bytes()
        demand(len(data) == summary["length"], f"{name}: it has {len(data)} bytes")
        demand(sha256(data) == summary["sha256"], f"{name}: it has another SHA-256")
        demand(blake3(data).hex() == summary["blake3"], f"{name}: it has another BLAKE3")
        first, length = read_header(data[:BLOCK], 0)
        demand(first == "contents.jsonl.zst" and length == summary["contents"]["length"], f"{name}: no table first")
        table = data[BLOCK:BLOCK + length]
        demand(blake3(table).hex() == summary["contents"]["blake3"], f"{name}: its table has another BLAKE3")
        body = at = BLOCK + padded(length)
        lines = [json.loads(line) for line in unzstd(table).splitlines()]
        head = {"line": "volume", "bundle": self.manifest["bundle"], "number": number}
        demand(lines[0] == head, f"{name}: its table begins with {lines[0]}")
        for line in lines[1:]:
            if "offset" in line:
                member, length = read_header(data[at:at + BLOCK], at)
                at += BLOCK
                demand((line["offset"], line["length"]) == (at - body, length), f"{name}: {member} lies elsewhere")
                piece, at = data[at:at + length], at + padded(length)
                self.carried += length
                self.piece(line, member, piece)
            else:
                self.note(line)
        demand(data[at:] == bytes(2 * BLOCK), f"{name}: it does not end with two zero blocks")

    def note(self, line):
        kind = line["line"]
        demand(kind in ("removed", "withdrawn", "hole"), f"no line is called {kind}")
        self.others[kind] = self.others.get(kind, 0) + 1
        self.removed += kind == "removed"

    def piece(self, line, member, piece):
        kind = line["line"]
        if kind == "crate":
            name, version, checksum = (line["release"][key] for key in ("name", "version", "checksum"))
            true = f"crates/{name}/{name}-{version}.crate"
            demand(member in (true, f"objects/{checksum}"), f"{true} is called {member}")
            demand(sha256(piece) == checksum, f"{true} has another SHA-256")
            self.raw += 1
            self.crate(name, version, checksum, len(piece), piece)
            return
        if kind == "advisories":
            database = line["database"]
            demand(database == self.manifest["to"]["advisories"], "the advisory database is not that of the generation")
            demand(member == f"advisories/{database['sha256']}.tar.zst", f"the advisory database is called {member}")
            demand((sha256(piece), blake3(piece).hex()) == (database["sha256"], line["blake3"]), "another database")
            demand(advisories_in(piece) == database["advisories"], "it has other advisories")
            self.others[kind] = self.others.get(kind, 0) + 1
            return
        folder, end = {"frame": ("frames", "cfrf"), "texts": ("index", "zst"), "facts": ("facts", "zst")}[kind]
        demand(member == f"{folder}/{line['blake3']}.{end}", f"a piece of {kind} is called {member}")
        demand(blake3(piece).hex() == line["blake3"], f"{member} has another BLAKE3")
        if kind == "frame":
            self.frame(line, piece)
        elif kind == "texts":
            for document, text in zip(line["texts"], parts(unzstd(piece), [d["length"] for d in line["texts"]])):
                reference = document["text"]
                demand(sha256(text) == reference["sha256"] and blake3(text).hex() == reference["blake3"], "another text")
                demand(count_rows(text) == document["rows"], f"{document['name']}: it has other rows")
                self.texts[document["name"]] = (reference, document["rows"])
        else:
            for release, text in zip(line["releases"], parts(unzstd(piece), line["lengths"])):
                demand(json.loads(text)["version"] == 1, f"{release['name']}: facts of another version")
                self.facts += 1

    def crate(self, name, version, checksum, length, data):
        demand(self.log.bytes[checksum] == data, f"{name} {version} is not what the packs have")
        demand(len(data) == length and (name, version) not in self.crates, f"{name} {version} comes twice")
        self.crates[name, version] = length

    def frame(self, line, frame):
        demand(frame[:5] == b"cfrf\x01", "it is no frame of version 1")
        word = [int.from_bytes(frame[at:at + 4], "little") for at in range(8, 24, 4)]
        encoders, count, packed, unpacked = word
        base = line.get("base")
        demand(frame[5:8] == (b"\1\0\0" if base else bytes(3)), "a frame says otherwise of its base")
        demand(frame[32:64].hex() == (base["checksum"] if base else ZEROS), "a frame is made against another base")
        table = unzstd(frame[64:64 + packed])
        demand(len(table) == unpacked, "a frame's table has another length")
        prefix = content_of(self.log.bytes[base["checksum"]]) if base else None
        contents = unzstd(frame[64 + packed:], prefix)
        demand(len(contents) == int.from_bytes(frame[24:32], "little"), "a frame's contents have another length")
        fields, at, used = Numbers(table), 0, 0
        for name, version, checksum, length in line["crates"]:
            demand((fields.text().decode(), fields.text().decode()) == (name, version), "a frame has another crate")
            demand((fields.take(32).hex(), fields.number()) == (checksum, length), f"{name} {version}: another file")
            content = contents[at:at + fields.number()]
            at += len(content)
            encoder = fields.take(1)[0]
            if encoder == 0:
                self.crate(name, version, checksum, length, content)
                continue
            used |= 1 << encoder - 1
            header, tail = fields.text(), fields.text()
            # The deflate data is the encoder's to make; here it is taken from the packs, and all around it is compared.
            data = self.log.bytes[checksum]
            deflated = data[len(header):-8]
            again = zlib.decompress(deflated, -15)
            trailer = zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")
            demand(again == content and deflated.endswith(tail), f"{name} {version}: its content is another")
            self.crate(name, version, checksum, length, header + deflated + trailer)
        demand(fields.at == len(table) and at == len(contents) and len(line["crates"]) == count, "a frame has more")
        demand(used == encoders, f"a frame names encoders {encoders}, and uses {used}")
        self.encoders |= used
        self.bases += base is not None


def content_of(crate):
    """What a crate file is compressed from, as a base."""
    try:
        return gzip.decompress(crate)
    except (OSError, EOFError, zlib.error):
        return crate


def parts(data, lengths):
    demand(sum(lengths) == len(data), "a piece has another length")
    for length in lengths:
        yield data[:length]
        data = data[length:]


def read_mirror(folder, bundle=None):
    packs = sorted((Pack(path) for path in (folder / "packs").iterdir() if ".tar" in path.name), key=lambda p: p.number)
    log = Log()
    for pack in packs:
        log.read(pack)
    log.check_rows()
    held = [
        {"name": name, "version": version, "sha256": digest, **place}
        for (name, version, digest), place in sorted(log.held.items())
    ]
    return {
        "mirror": log.mirror, "epoch": log.epoch, "packs": log.packs, "sealed": log.sealed, "records": log.sequence,
        "objects": log.objects, "fallback_names": log.fallbacks, "events": log.events, "held": held,
        "generation": log.generation, **({"bundle": Bundle(bundle, log).read()} if bundle else {}),
    }


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: format_reader.py MIRROR [BUNDLE]")
    try:
        print(json.dumps(read_mirror(*map(Path, sys.argv[1:])), indent=1))
    except Damage as damage:
        print(f"damage: {damage}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
