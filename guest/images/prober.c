/*
 * Reads all memory that it was given, from inside, before it writes any of it, and counts the
 * frames in which somebody left something: a byte that is not zero and was not put there by this
 * image. Its memory area and its unused stack must be zero; of its image pages what lies around
 * the segments, and the bss; of the info page what follows the words.
 *
 * Ends with code 0 if there was nothing, else 1.
 */
#include "guest/images/lib/guest.h"

extern const char image_text[], image_text_end[], image_rodata[], image_rodata_end[];
extern const char image_data[], image_data_end[], image_bss_end[];

/* What the functions called from main() may write of the stack below it. */
#define STACK_OURS 1024

struct probe {
    uint64_t frames, leaks;
    uint64_t first; /* the address of the first leaking frame */
};

/* Is there a byte that is not zero in [from, to)? */
static bool dirty(uint64_t from, uint64_t to)
{
    for (; from < to; from++)
        if (*(const volatile char *)from)
            return true;
    return false;
}

static void probe_count(struct probe *p, uint64_t address, bool leak)
{
    p->frames++;
    if (leak && !p->leaks++)
        p->first = address;
}

/* Pages of which all bytes have to be zero. */
static void probe_zero(struct probe *p, uint64_t start, uint64_t end)
{
    for (; start < end; start += GUEST_PAGE)
        probe_count(p, start, count_nonzero_frames((const void *)start, GUEST_PAGE) != 0);
}

/* Pages that begin at `start`, of which [start, used) is ours. */
static void probe_rest(struct probe *p, uint64_t start, uint64_t used, uint64_t end)
{
    for (; start < end; start += GUEST_PAGE)
        probe_count(p, start, dirty(used > start ? used : start, start + GUEST_PAGE));
}

static void probe_segment(struct probe *p, const char *start, const char *used, const char *end)
{
    probe_rest(p, (uint64_t)start, (uint64_t)used,
               ((uint64_t)end + GUEST_PAGE - 1) & ~(GUEST_PAGE - 1));
}

static void probe_stack(struct probe *p, const struct guest_info *info, uint64_t sp)
{
    uint64_t ours = sp - STACK_OURS, page = ours & ~(GUEST_PAGE - 1);

    probe_zero(p, info->stack_base, page);
    for (; page < info->stack_base + info->stack_bytes; page += GUEST_PAGE)
        probe_count(p, page, dirty(page, ours));
}

int main(const struct guest_info *info)
{
    struct probe p = {0};

    probe_stack(&p, info, stack_pointer()); /* first: every call writes a little of it */
    probe_segment(&p, image_text, image_text_end, image_text_end);
    probe_segment(&p, image_rodata, image_rodata_end, image_rodata_end);
    probe_segment(&p, image_data, image_data_end, image_bss_end);
    probe_rest(&p, (uint64_t)info, (uint64_t)info + info->words_offset + info->words_bytes,
               (uint64_t)info + GUEST_PAGE);
    probe_zero(&p, info->mem_base, info->mem_base + info->mem_bytes);

    if (p.leaks)
        say("prober: the first leak is in the page at 0x%x", p.first);
    if (p.frames != info->frames) {
        say("prober: looked at %u frames, but was given %u", p.frames, info->frames);
        return 2;
    }
    say("prober: %u leaks in %u frames", p.leaks, p.frames);
    return p.leaks ? 1 : 0;
}
