#!/usr/bin/env python3
"""Makes another bundle of one, as somebody could who has the key: the digests are right, and what they seal is not.

Usage: resign.py BUNDLE < CHANGES, where those are {"generation": N, "published_at": N, "texts": {NAME: TEXT}}. Each key may be left out. Index
files are changed in a full bundle of level none with one volume. The manifest is to be signed anew.
"""

import json
import subprocess
import sys
from pathlib import Path

from format_reader import BLOCK, blake3, count_rows, padded, parts, read_header, sha256, tree_root, unzstd


def zstd(data):
    return subprocess.run(["zstd", "--quiet", "--stdout", "--stream-size", str(len(data))], input=data,
                          capture_output=True, check=True).stdout


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def header(name, length):
    block = bytearray(BLOCK)
    block[:len(name)] = name.encode()
    for begin, end, value in ((100, 108, 0o644), (108, 116, 0), (116, 124, 0), (124, 136, length), (136, 148, 0)):
        block[begin:end] = f"{value:0{end - begin - 1}o}\0".encode()
    block[148:156] = b" " * 8
    block[156:157] = b"0"
    block[257:265] = b"ustar\x0000"
    block[148:156] = f"{sum(block):07o}\0".encode()
    return bytes(block)


def member(name, data):
    return header(name, len(data)) + data.ljust(padded(len(data)), b"\0")


def with_texts(path, manifest, changed):
    """The volume with these index files, and what the manifest says of it and of the generation."""
    data = path.read_bytes()
    _, length = read_header(data[:BLOCK], 0)
    lines = [json.loads(line) for line in unzstd(data[BLOCK:BLOCK + length]).splitlines()]
    body, at = BLOCK + padded(length), BLOCK
    members, served, rows = b"", {}, 0
    for line in lines:
        if "offset" not in line:
            continue
        begin = body + line["offset"]
        name, piece = read_header(data[begin - BLOCK:begin], 0)[0], data[begin:begin + line["length"]]
        if line["line"] == "texts":
            texts = list(parts(unzstd(piece), [document["length"] for document in line["texts"]]))
            for number, document in enumerate(line["texts"]):
                text = texts[number] = changed.get(document["name"], texts[number].decode()).encode()
                document["text"] = {"sha256": sha256(text), "blake3": blake3(text).hex()}
                document["length"], document["rows"] = len(text), count_rows(text)
                served[document["name"]] = document["text"]
                rows += document["rows"]
            piece = zstd(b"".join(texts))
            line["blake3"], line["length"] = blake3(piece).hex(), len(piece)
            name = f"index/{line['blake3']}.zst"
        line["offset"] = at
        members += member(name, piece)
        at = len(members) + BLOCK
    table = zstd(b"".join(compact(line) + b"\n" for line in lines))
    volume = member("contents.jsonl.zst", table) + members + bytes(2 * BLOCK)
    path.write_bytes(volume)
    manifest["volumes"] = [{"length": len(volume), "sha256": sha256(volume), "blake3": blake3(volume).hex(),
                            "contents": {"length": len(table), "blake3": blake3(table).hex()}}]
    manifest["totals"]["carried"] = sum(line["length"] for line in lines if "offset" in line)
    manifest["to"]["digest"] = tree_root(served)
    manifest["to"]["counts"] = {"crates": len(served), "rows": rows}


def main():
    folder, changes = Path(sys.argv[1]), json.load(sys.stdin)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    if "texts" in changes:
        with_texts(folder / f"{manifest['bundle']}-0001.tar", manifest, changes["texts"])
    to = manifest["to"]
    to["number"] = changes.get("generation", to["number"])
    to["published_at"] = changes.get("published_at", to["published_at"])
    manifest["through"][-1] = {"epoch": to["epoch"], "generation": to["number"], "digest": to["digest"]}
    (folder / "manifest.json").write_bytes(compact(manifest) + b"\n")


if __name__ == "__main__":
    main()
