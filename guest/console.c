/*
 * What guests say, made harmless: whole lines, no control characters, and every line under the
 * guest's name. A line that begins with `NAME: ` is printed as it is; any other gets that in
 * front. So no guest can speak in the kernel's voice, or in another guest's.
 *
 * Owns the unfinished line in the head frame (o). Next: guest/hypercall.c.
 */
#include "guest/internal.h"
#include "lib/log.h"
#include "lib/string.h"

void guest_console_flush(struct guest *g)
{
    struct guest_head *h = g->head;
    size_t name = strlen(g->name);

    if (!h || !h->line_len)
        return;
    h->line[h->line_len] = 0;
    h->line_len = 0;
    if (strncmp(h->line, g->name, name) == 0 && h->line[name] == ':' && h->line[name + 1] == ' ')
        log_line("%s", h->line);
    else
        log_line("%s: %s", g->name, h->line);
}

void guest_console_put(struct guest *g, const char *text, u64 bytes)
{
    struct guest_head *h = g->head;

    for (u64 i = 0; i < bytes; i++) {
        char c = text[i];
        if (c == '\n') {
            guest_console_flush(g);
            continue;
        }
        if (c == '\t')
            c = ' ';
        /* A terminal does things for bytes below a blank, for DEL, and for some above it. */
        h->line[h->line_len++] = c < ' ' || c > '~' ? '.' : c;
        if (h->line_len == GUEST_LINE_MAX)
            guest_console_flush(g);
    }
}
