#!/usr/bin/env python3
"""mkcpio.py OUT FILE...: a newc archive (cpio(5)) of plain files under their last names.

Nothing of the machine gets in, no times and no owners, so the same files make the same archive.
"""
import os
import sys


def entry(number, name, data, mode):
    name = name.encode() + b"\0"
    #        inode   mode  uid gid links mtime size       major minor rmajor rminor namesize   sum
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + name
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    out, files = sys.argv[1], sorted(sys.argv[2:], key=os.path.basename)
    archive = b""
    for number, path in enumerate(files, 1):
        with open(path, "rb") as f:
            archive += entry(number, os.path.basename(path), f.read(), 0o100755)
    archive += entry(0, "TRAILER!!!", b"", 0)
    with open(out, "wb") as f:
        f.write(archive + b"\0" * (-len(archive) % 512))


if __name__ == "__main__":
    main()
