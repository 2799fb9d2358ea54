/*
 * pvh: one byte says where in a physical memory the start info lies (in steps of 8), the rest is
 * that memory, at PHYS_BASE.
 */
#include "lib/errors.h"
#include "lib/pvh.h"
#include "tests/host/fuzz/bootinfo.h"

/* The entries of the memory map, by a walk of our own. False: none can be read. */
static bool walk(const u8 *memory, size_t size, size_t at)
{
    if (size < at + 56 || read_le32(memory + at + 4) < 1)
        return false;
    u64 map = read_le64(memory + at + 40) - PHYS_BASE;
    u64 nr = MIN(read_le32(memory + at + 48), 4096u);
    if (nr == 0 || map > size || nr * 24 > size - map)
        return false;
    for (const u8 *e = memory + map; nr; nr--, e += 24)
        given_add(read_le64(e), read_le64(e + 8), read_le32(e + 16));
    return true;
}

/* The command line is what stands at its address, as far as it can be read and fits. */
static void cmdline_check(const struct bootinfo *info, const u8 *memory, size_t size, size_t at)
{
    u64 text = read_le64(memory + at + 24) - PHYS_BASE;
    size_t len = strlen(info->cmdline);
    if (read_le64(memory + at + 24) == 0 || text >= size) {
        FUZZ_CHECK(len == 0, "a command line out of nothing");
        return;
    }
    FUZZ_CHECK(len <= size - text && memcmp(info->cmdline, memory + text, len) == 0,
               "another command line");
    const u8 *end = memchr(memory + text, 0, size - text);
    if (end && end < memory + text + BOOT_CMDLINE_MAX &&
        (text + PHYS_BASE) / FRAME_SIZE == (size - 1 + PHYS_BASE) / FRAME_SIZE)
        return; /* the page it is on cannot be read to its end: cut is right */
    if (end && end < memory + text + BOOT_CMDLINE_MAX && fuzz_warnings == 0)
        FUZZ_CHECK(len == (size_t)(end - memory - text), "cut, and no warning");
}

FUZZ_TARGET(pvh)
{
    static struct bootinfo info;
    struct input in = {data, size};
    size_t at = (size_t)input_number(&in, 1) * 8;

    phys_begin(in.at, in.left);
    fuzz_warnings = 0;
    given.nr = 0;
    memset(&info, 0xaa, sizeof(info));
    int got = pvh_parse(PHYS_BASE + at, phys_read, fuzz_warn, NULL, &info);
    phys_end(); /* the copies must be complete */
    if (got == 0) {
        bool have_map = walk(in.at, in.left, at);
        bootinfo_check(&info);
        cmdline_check(&info, in.at, in.left, at);
        given_compare(&info);
        FUZZ_CHECK(have_map || (info.nr_ram == 0 && fuzz_warnings), "a memory map out of nothing");
        FUZZ_CHECK(fuzz_warnings <= 12, "%u warnings", fuzz_warnings);
        FUZZ_CHECK(!info.rsdp_copy_len && !info.fb.phys, "what PVH does not tell");
    } else {
        FUZZ_CHECK(got == (in.left < at + 40 ? E_FAULT : E_FORMAT), "returned %d", got);
        bootinfo_check_empty(&info);
    }
    return 0;
}
