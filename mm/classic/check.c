/*
 * The invariant walker of classic: recounts the lists against the records and the counters, while
 * nobody scrubs. Naive on purpose.
 */
#include "mm/classic/classic_backend.h"
#include "mm/classic/strategy/strategy.h"
#include "lib/printf.h"

struct check {
    struct heap *h;
    void (*say)(const char *line);
    unsigned wrong;
    bool contents;
    u64 listed, out, dirty, busy, clean_blocks, retired, other; /* recounted frames */
};

static void __printf_like(2, 3) complain(struct check *c, const char *fmt, ...)
{
    char text[160], line[200];
    __builtin_va_list ap;
    c->wrong++;
    if (!c->say || c->wrong > 20)
        return;
    __builtin_va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    __builtin_va_end(ap);
    snprintf(line, sizeof(line), "mm_check: heap %u (node %u): %s", c->h->index, c->h->node, text);
    c->say(line);
}

#define EXPECT(c, cond, ...)            \
    do {                                \
        if (!(cond))                    \
            complain((c), __VA_ARGS__); \
    } while (0)

/* The frames of a free block: bad ones are not in it, dirt stands behind first_dirty. */
static u32 check_frames(struct check *c, u32 i, unsigned order)
{
    struct heap *h = c->h;
    u32 dirty = 0, from = block_dirt(h, i);
    for (u32 n = 0; n < 1u << order; n++) {
        u8 f = load_relaxed(&rec(h, i + n)->flags);
        EXPECT(c, n == 0 || rec(h, i + n)->order == NOT_A_HEAD,
               "P2: a free block begins inside of another, pfn 0x%llx",
               (unsigned long long)heap_pfn(h, i + n));
        EXPECT(c,
               (!(f & FR_MINE) && !rec(h, i + n)->bad) || load_relaxed(&rec(h, i)->flags) & BK_OUT,
               "pfn 0x%llx is free with flags 0x%x", (unsigned long long)heap_pfn(h, i + n), f);
        if (f & FR_DIRTY) {
            dirty++;
            EXPECT(c, from != NO_DIRT && n >= from,
                   "pfn 0x%llx is dirty, before its block's first dirty frame",
                   (unsigned long long)heap_pfn(h, i + n));
        } else if (c->contents) {
            EXPECT(c, frame_is_zero(frame_va(heap_pfn(h, i + n))),
                   "P3: pfn 0x%llx counts as clean and is not zero",
                   (unsigned long long)heap_pfn(h, i + n));
        }
    }
    return dirty;
}

static void check_block(struct check *c, u32 i, unsigned k)
{
    const struct heap *h = c->h;
    const struct record *r = rec(h, i);
    EXPECT(c, IS_ALIGNED(i, 1u << k) && i + (1u << k) <= h->end,
           "a block of order %u at 0x%x is not aligned or ends outside", k, i);
    EXPECT(c, !(load_relaxed(&r->flags) & (BK_OUT | BK_SCRUBBING | BK_ABORT)),
           "pfn 0x%llx is listed with flags 0x%x", (unsigned long long)heap_pfn(h, i),
           load_relaxed(&r->flags));
    EXPECT(c, !(load_relaxed(&r->flags) & BK_DIRT) == (block_dirt(h, i) == NO_DIRT),
           "pfn 0x%llx: first dirty %u, flags 0x%x", (unsigned long long)heap_pfn(h, i),
           r->first_dirty, load_relaxed(&r->flags));
    u32 buddy = i ^ 1u << k;
    if (k < ORDER_MAX && !h->unmerged && buddy >= h->first && buddy < h->end)
        EXPECT(c, rec(h, buddy)->order != k || load_relaxed(&rec(h, buddy)->flags) & BK_OUT,
               "two free buddies of order %u were not merged, pfn 0x%llx", k,
               (unsigned long long)heap_pfn(h, i));
    if (r->first_dirty == NO_DIRT)
        c->clean_blocks += 1ULL << k;
    c->listed += 1ULL << k;
    c->dirty += check_frames(c, i, k);
}

static void check_lists(struct check *c)
{
    const struct heap *h = c->h;
    for (unsigned k = 0; k <= ORDER_MAX; k++) {
        u32 before = LINK_NONE;
        u64 n = 0;
        for (u32 i = h->head[k]; i != LINK_NONE; before = i, i = rec(h, i)->next) {
            if (i < h->first || i >= h->end || n++ > h->total) {
                complain(c, "the list of order %u leads to 0x%x", k, i);
                return;
            }
            if (rec(h, i)->order != k) {
                complain(c, "a block of order %u on the list of order %u", rec(h, i)->order, k);
                return;
            }
            EXPECT(c, rec(h, i)->prev == before, "order %u: back link of 0x%x", k, i);
            check_block(c, i, k);
        }
        EXPECT(c, h->tail[k] == before, "order %u: the tail is not the last", k);
    }
}

/* By address: what begins a block must be listed or aside; all other frames of ours are owned. */
static void check_records(struct check *c)
{
    struct heap *h = c->h;
    u64 heads = 0;
    for (u32 i = h->first; i < h->end;) {
        if (heap_of(heap_pfn(h, i)) != h) {
            i++;
            continue;
        }
        const struct record *r = rec(h, i);
        if (r->order == NOT_A_HEAD) {
            /* Owned; a bad frame that has an owner yet is told from a retired one by the counter. */
            c->other++;
            c->retired += r->bad;
            EXPECT(c, !(load_relaxed(&r->flags) & (BK_DIRT | BK_OUT | BK_SCRUBBING)),
                   "pfn 0x%llx is not free and has flags 0x%x", (unsigned long long)heap_pfn(h, i),
                   load_relaxed(&r->flags));
            i++;
            continue;
        }
        if (load_relaxed(&r->flags) & BK_OUT) {
            c->out += 1ULL << r->order;
            c->busy += check_frames(c, i, r->order);
        } else {
            heads += 1ULL << r->order;
        }
        i += 1u << r->order;
    }
    EXPECT(c, heads == c->listed, "P2: records say %llu frames are free, the lists %llu",
           (unsigned long long)heads, (unsigned long long)c->listed);
}

static void check_counters(struct check *c)
{
    const struct heap *h = c->h;
    const struct {
        const char *what;
        u64 says, is;
    } count[] = {
        {"free", h->nr_free, c->listed},
        {"aside", h->nr_out, c->out},
        {"dirty", h->nr_dirty, c->dirty + c->busy},
        {"dirty and aside", h->busy_dirt, c->busy},
        {"in clean blocks", h->whole_clean, c->clean_blocks},
        {"allocated or retired", h->allocated + h->retired, c->other},
        {"in all", h->total, h->nr_free + h->nr_out + h->allocated + h->retired},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(count); n++)
        EXPECT(c, count[n].says == count[n].is, "%llu frames %s, counted %llu",
               (unsigned long long)count[n].says, count[n].what, (unsigned long long)count[n].is);
    EXPECT(c, h->retired <= c->retired, "%llu frames retired, %llu marked bad",
           (unsigned long long)h->retired, (unsigned long long)c->retired);
}

unsigned heaps_check(bool contents, void (*say)(const char *line))
{
    unsigned wrong = 0;
    strategies_stop();
    heap_lock();
    for (unsigned n = 0; n < classic_nr_heaps; n++) {
        struct check c = {.h = &classic_heaps[n], .say = say, .contents = contents};
        check_lists(&c);
        check_records(&c);
        check_counters(&c);
        wrong += c.wrong;
    }
    heap_unlock();
    strategies_go();
    heaps_bell_pass_on();
    return wrong;
}
