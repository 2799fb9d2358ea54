/*
 * elf64: an image that is accepted keeps every promise of lib/elf64.h; one that is refused says
 * why and leaves nothing behind. Input: one byte that chooses the limit, then the image.
 */
#include "lib/elf64.h"
#include "tests/host/fuzz/fuzz.h"

static void accepted_check(const struct elf64 *e, const u8 *image, size_t len, u64 limit)
{
    bool entry_ok = false;
    FUZZ_CHECK(e->nr >= 1 && e->nr <= ELF64_SEGMENTS_MAX, "%u segments", e->nr);
    for (unsigned i = 0; i < e->nr; i++) {
        const struct elf64_segment *s = &e->segment[i];
        FUZZ_CHECK(s->memsz > 0 && s->filesz <= s->memsz, "segment %u: its sizes", i);
        FUZZ_CHECK(s->vaddr >= FRAME_SIZE && s->vaddr < limit && s->memsz <= limit - s->vaddr,
                   "segment %u is outside", i);
        u64 off = (u64)((const u8 *)s->data - image);
        FUZZ_CHECK(off <= len && s->filesz <= len - off, "segment %u: its data", i);
        FUZZ_CHECK(!(s->flags & ~7u), "segment %u: its flags", i);
        FUZZ_CHECK((s->flags & 3) != (ELF64_WRITE | ELF64_EXEC), "segment %u: W and X", i);
        if (i > 0)
            FUZZ_CHECK((s[-1].vaddr + s[-1].memsz - 1) / FRAME_SIZE < s->vaddr / FRAME_SIZE,
                       "segment %u shares a page, or is out of order", i);
        entry_ok |=
            s->flags & ELF64_EXEC && e->entry >= s->vaddr && e->entry < s->vaddr + s->filesz;
    }
    FUZZ_CHECK(entry_ok, "an entry point that is no code");
}

/* The same image, where it would just not fit. */
static void tighter_check(const struct elf64 *e, const u8 *image, size_t len)
{
    const struct elf64_segment *last = &e->segment[e->nr - 1];
    u64 end = last->vaddr + last->memsz;
    struct elf64 again;
    FUZZ_CHECK(elf64_parse(image, len, end, &again, NULL) == 0, "it fits, and is refused");
    FUZZ_CHECK(elf64_parse(image, len, end - 1, &again, NULL) == E_FORMAT, "it does not fit");
}

FUZZ_TARGET(elf64)
{
    static const u64 limits[] = {1ULL << 47, 1ULL << 32, 0x800000, 0x1000, 0, ~0ULL};
    struct input in = {data, size};
    u64 limit = limits[input_number(&in, 1) % ARRAY_SIZE(limits)];
    void *allocation;
    const u8 *image = fuzz_copy(in.at, in.left, 3, &allocation);
    struct elf64 e, empty;
    const char *why = "unset";

    memset(&empty, 0, sizeof(empty));
    memset(&e, 0xaa, sizeof(e));
    int got = elf64_parse(image, in.left, limit, &e, &why);
    if (got == 0) {
        FUZZ_CHECK(why == NULL, "accepted, but: %s", why);
        accepted_check(&e, image, in.left, limit);
        tighter_check(&e, image, in.left);
    } else {
        FUZZ_CHECK(got == E_FORMAT && why && *why, "refused with %d", got);
        FUZZ_CHECK(memcmp(&e, &empty, sizeof(e)) == 0, "refused, but not empty");
    }
    free(allocation);
    return 0;
}
