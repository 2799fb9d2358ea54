/*
 * What guests say, made harmless: whole lines, no control characters, and every line under the
 * guest's name. A line that begins with `NAME: ` is printed as it is; any other gets that in
 * front. So no guest can speak in the kernel's voice, or in another guest's.
 *
 * Owns the unfinished line of each thread (o): two threads do not mix theirs. Next:
 * guest/hypercall.c.
 */
#include "guest/internal.h"
#include "lib/log.h"
#include "lib/string.h"

void guest_console_flush(struct guest *g)
{
    struct guest_local *l = guest_thread_self(g)->local;
    size_t name = strlen(g->name);

    if (!l || !l->line_len)
        return;
    l->line[l->line_len] = 0;
    l->line_len = 0;
    if (strncmp(l->line, g->name, name) == 0 && l->line[name] == ':' && l->line[name + 1] == ' ')
        log_line("%s", l->line);
    else
        log_line("%s: %s", g->name, l->line);
}

void guest_console_put(struct guest *g, const char *text, u64 bytes)
{
    struct guest_local *l = guest_thread_self(g)->local;

    for (u64 i = 0; i < bytes; i++) {
        char c = text[i];
        if (c == '\n') {
            guest_console_flush(g);
            continue;
        }
        if (c == '\t')
            c = ' ';
        /* A terminal does things for bytes below a blank, for DEL, and for some above it. */
        l->line[l->line_len++] = c < ' ' || c > '~' ? '.' : c;
        if (l->line_len == GUEST_LINE_MAX)
            guest_console_flush(g);
    }
}
