/*
 * multiboot2: the input is the boot information. Whatever its tags say, the bootinfo is sane, the
 * warnings are few, and no byte is usable that some entry forbids.
 */
#include "lib/errors.h"
#include "lib/multiboot2.h"
#include "tests/host/fuzz/bootinfo.h"

/* The entries of the memory maps, by a walk of our own. */
static void walk(const u8 *data, size_t size)
{
    size_t total = MIN(read_le32(data), size), at = 8;
    while (at + 8 <= total) {
        u32 type = read_le32(data + at), len = read_le32(data + at + 4);
        if (len < 8 || len > total - at || type == 0)
            return;
        u32 entry = type == 6 && len >= 16 ? read_le32(data + at + 8) : 0;
        if (entry >= 24 && entry % 8 == 0) {
            for (size_t e = at + 16; e + entry <= at + len; e += entry)
                given_add(read_le64(data + e), read_le64(data + e + 8), read_le32(data + e + 16));
        }
        at += ((size_t)len + 7) / 8 * 8;
    }
}

FUZZ_TARGET(multiboot2)
{
    static struct bootinfo info;
    void *allocation;
    const u8 *copy = fuzz_copy(data, size, 0, &allocation);

    fuzz_warnings = 0;
    given.nr = 0;
    memset(&info, 0xaa, sizeof(info));
    int got = multiboot2_parse(copy, size, fuzz_warn, NULL, &info);
    if (got == 0) {
        walk(copy, size);
        bootinfo_check(&info);
        given_compare(&info);
        FUZZ_CHECK(fuzz_warnings <= 24, "%u warnings", fuzz_warnings);
        FUZZ_CHECK(!info.rsdp_phys, "an address of an RSDP");
        FUZZ_CHECK(info.module_end <= 4 * GIB, "a module above 4 GiB");
    } else {
        FUZZ_CHECK(got == E_FORMAT, "returned %d", got);
        bootinfo_check_empty(&info);
    }
    free(allocation);
    return 0;
}
