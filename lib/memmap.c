/*
 * Ranges of physical memory: first the firmware's own map, which may be in any state
 * (lib/bootinfo.h), then the list of what is free (lib/memmap.h). Whatever goes wrong here, the
 * outcome errs to one side: memory is lost, never handed out twice or against the firmware.
 */
#include "lib/memmap.h"
#include "lib/bootinfo.h"
#include "lib/bytes.h"
#include "lib/errors.h"

/* ---- the firmware's map ---- */

/* How much a type forbids. */
static unsigned ram_strictness(enum ram_type type)
{
    switch (type) {
    case RAM_USABLE:
        return 0;
    case RAM_ACPI:
        return 1;
    case RAM_NVS:
        return 2;
    case RAM_BAD:
        return 4;
    case RAM_RESERVED:
    default:
        return 3;
    }
}

static enum ram_type ram_type_of(u32 e820)
{
    switch (e820) { /* ACPI 6.5, table 15.4 */
    case 1:
        return RAM_USABLE;
    case 3:
        return RAM_ACPI;
    case 4:
        return RAM_NVS;
    case 5:
        return RAM_BAD;
    default:
        return RAM_RESERVED;
    }
}

#define ram_warn(info, warn, ctx, ...)              \
    do {                                            \
        if ((info)->ram_flaws++ == 0)               \
            parse_warn((warn), (ctx), __VA_ARGS__); \
    } while (0)

void bootinfo_add_ram(struct bootinfo *info, u64 start, u64 bytes, u32 type, parse_warn_fn warn,
                      void *ctx)
{
    struct ram_range r = {start, start + bytes, ram_type_of(type)};

    if (bytes == 0) {
        ram_warn(info, warn, ctx, "memory map: empty range at %#llx left out",
                 (unsigned long long)start);
        return;
    }
    if (r.end < start) {
        bool usable = r.type == RAM_USABLE;
        ram_warn(info, warn, ctx, "memory map: range at %#llx goes past the end of memory: %s",
                 (unsigned long long)start, usable ? "left out" : "cut");
        if (usable)
            return;
        r.end = ~0ULL;
    }
    if (info->nr_ram < BOOT_RANGES_MAX) {
        info->ram[info->nr_ram++] = r;
        return;
    }
    /*
     * No room. A usable range can be left out. One that forbids cannot, or the usable range that
     * it overlaps would be used: it takes the place of the smallest usable one.
     */
    ram_warn(info, warn, ctx, "memory map: more than %d ranges, the smallest are not used",
             BOOT_RANGES_MAX);
    struct ram_range *victim = NULL;
    for (unsigned i = 0; i < info->nr_ram; i++) {
        struct ram_range *x = &info->ram[i];
        if (x->type == RAM_USABLE && (!victim || x->end - x->start < victim->end - victim->start))
            victim = x;
    }
    if (victim && (r.type != RAM_USABLE || r.end - r.start > victim->end - victim->start))
        *victim = r;
}

static void ram_sort(struct bootinfo *info, bool *moved)
{
    for (unsigned i = 1; i < info->nr_ram; i++) {
        struct ram_range r = info->ram[i];
        unsigned at = i;
        for (; at > 0 && info->ram[at - 1].start > r.start; at--)
            info->ram[at] = info->ram[at - 1];
        info->ram[at] = r;
        *moved |= at != i;
    }
}

void bootinfo_settle_ram(struct bootinfo *info, parse_warn_fn warn, void *ctx)
{
    /* 6 KiB, too much for a boot stack. The boot CPU alone comes here. */
    static struct ram_range out[BOOT_RANGES_MAX];
    unsigned nr = 0;
    bool moved = false, overlap = false, full = false;

    ram_sort(info, &moved);

    /* From boundary to boundary: the strictest range that covers the piece names it. */
    u64 pos = info->nr_ram ? info->ram[0].start : 0;
    for (;;) {
        u64 next = ~0ULL;
        const struct ram_range *owner = NULL;
        for (unsigned i = 0; i < info->nr_ram; i++) {
            const struct ram_range *r = &info->ram[i];
            if (r->start > pos) {
                next = MIN(next, r->start);
                break; /* sorted: the others begin later still */
            }
            if (r->end <= pos)
                continue;
            next = MIN(next, r->end);
            overlap |= owner != NULL;
            if (!owner || ram_strictness(r->type) > ram_strictness(owner->type))
                owner = r;
        }
        if (owner) {
            if (nr && out[nr - 1].end == pos && out[nr - 1].type == owner->type)
                out[nr - 1].end = next;
            else if (nr < BOOT_RANGES_MAX)
                out[nr++] = (struct ram_range){pos, next, owner->type};
            else
                full = true; /* what is not in the list is not used */
        }
        if (next == ~0ULL)
            break;
        pos = next;
    }
    for (unsigned i = 0; i < nr; i++)
        info->ram[i] = out[i];
    info->nr_ram = nr;

    if (info->ram_flaws > 1)
        parse_warn(warn, ctx, "memory map: %u more ranges are empty, wrap or find no room",
                   info->ram_flaws - 1);
    if (moved)
        parse_warn(warn, ctx, "memory map: ranges out of order, sorted");
    if (overlap)
        parse_warn(warn, ctx, "memory map: ranges overlap, the stricter type wins");
    if (full)
        parse_warn(warn, ctx, "memory map: more than %d ranges after sorting, the rest is not used",
                   BOOT_RANGES_MAX);
}

bool bootinfo_usable(const struct bootinfo *info, u64 start, u64 end)
{
    for (unsigned i = 0; i < info->nr_ram; i++) {
        const struct ram_range *r = &info->ram[i];
        if (r->type == RAM_USABLE && r->start <= start && start < r->end)
            return ALIGN_UP(r->start, FRAME_SIZE) <= start && start < end &&
                   end <= ALIGN_DOWN(r->end, FRAME_SIZE);
    }
    return false;
}

bool bootinfo_touches_usable(const struct bootinfo *info, u64 start, u64 end)
{
    for (unsigned i = 0; i < info->nr_ram; i++) {
        const struct ram_range *r = &info->ram[i];
        if (r->type == RAM_USABLE && start < r->end && r->start < end)
            return true;
    }
    return false;
}

bool bootinfo_use_rsdp(struct bootinfo *info, u64 phys)
{
    u64 end = phys + BOOT_RSDP_BYTES;
    bool in_module = phys < info->module_end && info->module_start < end;
    /* Room for the range itself and for what it may split off. */
    if (!bootinfo_usable(info, phys, end) || in_module || info->nr_ram + 2 > BOOT_RANGES_MAX)
        return false;
    bootinfo_add_ram(info, phys, BOOT_RSDP_BYTES, 3, NULL, NULL); /* 3: ACPI 15.4 */
    bootinfo_settle_ram(info, NULL, NULL);
    info->rsdp_phys = phys;
    info->rsdp_copy_len = 0;
    return true;
}

/* ---- what is free ---- */

static void memmap_delete(struct memmap *m, unsigned at)
{
    m->nr--;
    for (unsigned i = at; i < m->nr; i++)
        m->range[i] = m->range[i + 1];
}

static int memmap_insert(struct memmap *m, unsigned at, u64 start, u64 end, unsigned node)
{
    if (m->nr == MEMMAP_MAX)
        return E_NOSPC;
    for (unsigned i = m->nr; i > at; i--)
        m->range[i] = m->range[i - 1];
    m->range[at] = (struct memrange){start, end, node};
    m->nr++;
    return 0;
}

/* Joins neighbours of one node. */
static void memmap_join(struct memmap *m)
{
    unsigned kept = 0;
    for (unsigned i = 1; i < m->nr; i++) {
        struct memrange *last = &m->range[kept], *r = &m->range[i];
        if (last->end == r->start && last->node == r->node)
            last->end = r->end;
        else
            m->range[++kept] = *r;
    }
    if (m->nr)
        m->nr = kept + 1;
}

/* Rounds outwards; saturates at the last whole frame of the address space. */
static u64 frame_up(u64 x)
{
    return x > ~(FRAME_SIZE - 1) ? ~(FRAME_SIZE - 1) : ALIGN_UP(x, FRAME_SIZE);
}

int memmap_add(struct memmap *m, u64 start, u64 end, unsigned node)
{
    if (start > ~(FRAME_SIZE - 1))
        return 0; /* no whole frame behind it */
    start = ALIGN_UP(start, FRAME_SIZE);
    end = ALIGN_DOWN(end, FRAME_SIZE);

    /* Fills the gaps between the ranges that are there. */
    int error = 0;
    for (unsigned i = 0; start < end && !error; i++) {
        bool last = i >= m->nr;
        u64 gap_end = last ? end : MIN(end, m->range[i].start);
        if (start < gap_end) {
            error = memmap_insert(m, i, start, gap_end, node);
            if (error && i > 0 && m->range[i - 1].end == start && m->range[i - 1].node == node) {
                m->range[i - 1].end = gap_end; /* no room is needed to grow a neighbour */
                error = 0;
                i--;
            }
            start = gap_end;
        } else if (!last) {
            start = MAX(start, m->range[i].end);
        }
    }
    memmap_join(m);
    return error;
}

int memmap_remove(struct memmap *m, u64 start, u64 end)
{
    int error = 0;
    if (start >= end)
        return 0; /* before rounding: nothing stays nothing */
    start = ALIGN_DOWN(start, FRAME_SIZE);
    end = frame_up(end);
    for (unsigned i = 0; i < m->nr;) {
        struct memrange *r = &m->range[i];
        if (r->end <= start || r->start >= end) {
            i++;
        } else if (r->start >= start && r->end <= end) {
            memmap_delete(m, i);
        } else if (r->start >= start) {
            r->start = end;
            i++;
        } else if (r->end <= end) {
            r->end = start;
            i++;
        } else {
            /* A hole in the middle. Without room for two halves the larger one stays. */
            struct memrange whole = *r;
            r->end = start;
            error = memmap_insert(m, i + 1, end, whole.end, whole.node);
            if (error && whole.end - end > start - whole.start) {
                r->start = end;
                r->end = whole.end;
            }
            return error;
        }
    }
    return error;
}

/* Makes `at` a border between two ranges if it lies inside one. */
static int memmap_cut(struct memmap *m, u64 at)
{
    for (unsigned i = 0; i < m->nr; i++) {
        struct memrange *r = &m->range[i];
        if (r->start < at && at < r->end) {
            int error = memmap_insert(m, i + 1, at, r->end, r->node);
            if (!error)
                m->range[i].end = at;
            return error;
        }
    }
    return 0;
}

int memmap_set_node(struct memmap *m, u64 start, u64 end, unsigned node)
{
    if (start > ~(FRAME_SIZE - 1))
        return 0;
    start = ALIGN_UP(start, FRAME_SIZE);
    end = ALIGN_DOWN(end, FRAME_SIZE);
    if (start >= end)
        return 0;
    int error = memmap_cut(m, start);
    if (!error)
        error = memmap_cut(m, end);
    for (unsigned i = 0; i < m->nr; i++) {
        if (m->range[i].start >= start && m->range[i].end <= end)
            m->range[i].node = node;
    }
    memmap_join(m);
    return error;
}

u64 memmap_take(struct memmap *m, u64 bytes, u64 align, u64 limit)
{
    if (bytes == 0 || bytes > ~(FRAME_SIZE - 1))
        return 0;
    bytes = ALIGN_UP(bytes, FRAME_SIZE);
    align = MAX(align, FRAME_SIZE);
    for (unsigned i = m->nr; i-- > 0;) {
        const struct memrange *r = &m->range[i];
        u64 end = MIN(r->end, limit);
        if (end < r->start || end - r->start < bytes)
            continue;
        u64 at = ALIGN_DOWN(end - bytes, align);
        if (at < r->start || at == 0) /* 0 would say "none" */
            continue;
        memmap_remove(m, at, at + bytes); /* no room for a rest: the rest is lost */
        return at;
    }
    return 0;
}

u64 memmap_bytes(const struct memmap *m)
{
    u64 sum = 0;
    for (unsigned i = 0; i < m->nr; i++)
        sum += m->range[i].end - m->range[i].start;
    return sum;
}
