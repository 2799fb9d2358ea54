"""Writes the kernel's table of its own functions, as C: `nm -n limpid.elf | symbols.py > table.c`.

The kernel is linked twice: once to know where its functions are, and once more with this table.
The second time they must be where they were; the Makefile compares. Next: kernel/symbols.h.
"""
import re
import sys

UPPER_HALF = 0xffffffff80000000  # linker.ld, KERNEL_BASE; below is the 32-bit way in
LINE = re.compile(r"^([0-9a-f]{16}) [tT] (\S+)$")
# NASM's labels inside a function. GCC's parts of one (f.cold, f.part.0, f.constprop.0) have names
# of their own.
INSIDE = re.compile(r"\.(?!(cold|part|constprop|isra|\d+)(\.|$))")
BORDERS = {"image_text_start", "image_text_end"}


def symbols(lines):
    """(address, name) of each function, ascending; of several names of one address the first."""
    table = {}
    for line in lines:
        m = LINE.match(line.strip())
        if m and int(m[1], 16) >= UPPER_HALF and m[2] not in BORDERS and not INSIDE.search(m[2]):
            table[int(m[1], 16)] = min(m[2], table.get(int(m[1], 16), m[2]))
    return sorted(table.items())


def main():
    table = symbols(sys.stdin)
    print('#include "kernel/symbols.h"\n')
    print(f"const u64 kernel_nr_symbols = {len(table)};")
    print("const struct symbol kernel_symbols[] = {")
    for address, name in table:
        print(f'    {{0x{address:016x}, "{name}"}},')
    print("};")
    return 0 if table else 1


if __name__ == "__main__":
    sys.exit(main())
