/*
 * From an image in guests.cpio to a guest that can run: image, stack, info page, memory area.
 *
 *     GUEST_IMAGE_BASE  the segments of the ELF image, each with its own rights, never W and X
 *     below the stack   nothing is mapped
 *     GUEST_STACK_TOP   the stack, below it; above it a page that is not mapped
 *     GUEST_INFO        the info page, read-only
 *     GUEST_MEM_BASE    the memory area: what mem= leaves when the above is taken off
 *
 * Image and info page are written through the direct map, into frames that the check before
 * mapping has found to be zero. So what an image does not fill is zero. Stack and memory area are
 * taken here, and mapped when the guest first touches them.
 *
 * Owns the archive (c). Next: guest/memory.c.
 */
#include "guest/internal.h"
#include "lib/log.h"
#include "lib/string.h"

static const void *loader_cpio; /* (c) after guests_init() */
static size_t loader_bytes;

#define STACK_BASE (GUEST_STACK_TOP - GUEST_STACK_PAGES * FRAME_SIZE)

int guests_init(const void *cpio, size_t bytes)
{
    struct cpio archive;
    struct cpio_entry entry;
    int more;

    cpio_open(&archive, cpio, bytes);
    do {
        more = cpio_next(&archive, &entry);
    } while (more > 0);
    if (more < 0) {
        log_line("guests: the archive of guest images is broken: %s", archive.why);
        return more;
    }
    loader_cpio = cpio;
    loader_bytes = bytes;
    return 0;
}

void guests_each_image(void (*say)(void *ctx, const char *name), void *ctx)
{
    struct cpio archive;
    struct cpio_entry entry;

    cpio_open(&archive, loader_cpio, loader_bytes);
    while (loader_cpio && cpio_next(&archive, &entry) > 0)
        if (cpio_is_file(&entry))
            say(ctx, entry.name);
}

struct name_list {
    char text[120];
    size_t len;
};

static void name_list_add(void *ctx, const char *name)
{
    struct name_list *list = ctx;
    if (list->len + strlen(name) + 2 > sizeof(list->text))
        return;
    list->text[list->len++] = ' ';
    list->len += str_copy(list->text + list->len, name, sizeof(list->text) - list->len);
}

static void segment_span(const struct elf64_segment *s, u64 *first, u64 *end)
{
    *first = ALIGN_DOWN(s->vaddr, FRAME_SIZE);
    *end = ALIGN_UP(s->vaddr + s->memsz, FRAME_SIZE);
}

int guest_image_find(const char *name, struct guest_image *out)
{
    struct cpio_entry entry;
    const char *why = "";
    u64 first, end;

    int err = loader_cpio ? cpio_find(loader_cpio, loader_bytes, name, &entry, &why) : E_NOENT;
    if (err == E_NOENT) {
        struct name_list list = {.len = 0};
        guests_each_image(name_list_add, &list);
        log_line("start %s: there is no such guest image; there are:%s", name,
                 list.len ? list.text : " none");
        return err;
    }
    if (!err)
        err = elf64_parse(entry.data, entry.size, GUEST_IMAGE_END, &out->elf, &why);
    if (err) {
        log_line("start %s: the image is broken: %s", name, why);
        return err;
    }
    out->pages = 0;
    for (unsigned i = 0; i < out->elf.nr; i++) {
        segment_span(&out->elf.segment[i], &first, &end);
        if (first < GUEST_IMAGE_BASE) {
            log_line("start %s: the image is broken: a segment lies below 0x%llx", name,
                     GUEST_IMAGE_BASE);
            return E_FORMAT;
        }
        out->pages += (end - first) >> FRAME_SHIFT;
    }
    return 0;
}

u64 guest_image_frames(const struct guest_image *im)
{
    return im->pages + GUEST_STACK_PAGES + 1;
}

/* The part of a segment's file contents that falls into the page at va. */
static void segment_copy_page(void *frame, u64 va, const struct elf64_segment *s)
{
    u64 start = MAX(va, s->vaddr);
    u64 end = MIN(va + FRAME_SIZE, s->vaddr + s->filesz);
    if (start < end)
        memcpy((u8 *)frame + (start - va), (const u8 *)s->data + (start - s->vaddr), end - start);
}

static int load_segment(struct guest *g, const struct elf64_segment *s)
{
    enum prot prot = PROT_READ;
    u64 va, end;
    int err;

    if (s->flags & ELF64_WRITE)
        prot |= PROT_WRITE;
    else if (s->flags & ELF64_EXEC)
        prot |= PROT_EXEC;
    segment_span(s, &va, &end);
    for (; va < end; va += FRAME_SIZE) {
        if (guest_must_end(g))
            return E_KILLED;
        pfn_t pfn = guest_memory_page(g, va, prot, USE_IMAGE, &err);
        if (pfn == PFN_NONE)
            return err;
        segment_copy_page(frame_va(pfn), va, s);
    }
    return 0;
}

/* Words as docs/abi.md has them: each ended by a NUL. Where the next one goes. */
static char *word_put(char *to, const char *key, const char *value)
{
    size_t len = strlen(key);
    memcpy(to, key, len);
    to += len;
    len = strlen(value);
    memcpy(to, value, len + 1);
    return to + len + 1;
}

static int load_info(struct guest *g, const struct guest_image *im, const struct guest_config *cfg)
{
    int err;
    pfn_t pfn = guest_memory_page(g, GUEST_INFO, PROT_READ, USE_IMAGE, &err);
    if (pfn == PFN_NONE)
        return err;

    struct guest_info *info = frame_va(pfn);
    *info = (struct guest_info){
        .version = GUEST_ABI_VERSION,
        .id = g->id,
        .node = g->node,
        .cpu = g->cpu,
        .frames = g->frames_given,
        .mem_base = GUEST_MEM_BASE,
        .mem_bytes = (g->frames_given - guest_image_frames(im)) * FRAME_SIZE,
        .stack_base = STACK_BASE,
        .stack_bytes = GUEST_STACK_PAGES * FRAME_SIZE,
        .image_frames = im->pages,
        .words_offset = sizeof(*info),
    };
    char *words = (char *)info + info->words_offset, *to = words;
    _Static_assert(sizeof(*info) + GUEST_SECRET_MAX + 32 <= FRAME_SIZE, "words fit in the page");
    if (cfg->secret)
        to = word_put(to, "secret=", cfg->secret);
    if (cfg->linger)
        to = word_put(to, "linger", "");
    info->words_bytes = (u32)(to - words);
    return 0;
}

int guest_load(struct guest *g, const struct guest_image *im, const struct guest_config *cfg)
{
    const enum prot rw = PROT_READ | PROT_WRITE;

    for (unsigned i = 0; i < im->elf.nr; i++) {
        int err = load_segment(g, &im->elf.segment[i]);
        if (err)
            return err;
    }
    int err = guest_memory_fill(g, STACK_BASE, GUEST_STACK_PAGES, rw, USE_IMAGE);
    if (!err)
        err = load_info(g, im, cfg);
    if (!err)
        err = guest_memory_fill(g, GUEST_MEM_BASE, g->frames_given - guest_image_frames(im), rw,
                                USE_MEMORY);
    ASSERT(err || g->frames_held == g->frames_given);
    return err;
}
