/*
 * Text on the framebuffer that the loader left: lines that scroll, and nothing else. Who calls
 * screen_write() serialises (kernel/log.c holds its lock). Owns the framebuffer and its shadow.
 *
 * The framebuffer is never read: reading it is slow on hardware. What stands on it is known
 * from the shadow, one byte a letter, and a scroll redraws only the cells that change. It moves
 * up by a quarter of the screen at a time, so that most lines cost only themselves.
 */
#include "machine.h"
#include "font.h"
#include "lib/log.h"
#include "lib/string.h"

#define CELL_WIDTH  8
#define CELL_HEIGHT 16
#define COLUMNS_MAX 320
#define LINES_MAX   160
#define INK         0xd0d8d0u /* red, green, blue */
#define PAPER       0x101820u

static volatile u8 *pixels; /* (c) volatile: a device. NULL: no screen */
static u32 pitch, pixel_bytes;
static u32 ink, paper; /* as the framebuffer wants them */
static unsigned columns, lines;
static unsigned at_column, at_line;
static char shadow[LINES_MAX][COLUMNS_MAX]; /* what is drawn */

static u32 screen_color(const struct framebuffer *fb, u32 rgb)
{
    return (rgb >> 16 & 0xff) << fb->red_shift | (rgb >> 8 & 0xff) << fb->green_shift |
           (rgb & 0xff) << fb->blue_shift;
}

static void screen_draw_pixel(volatile u8 *at, u32 color)
{
    if (pixel_bytes == 4) {
        *(volatile u32 *)at = color;
    } else {
        at[0] = (u8)color;
        at[1] = (u8)(color >> 8);
        at[2] = (u8)(color >> 16);
    }
}

static void screen_draw_cell(unsigned line, unsigned column, char c)
{
    const u8 *rows = font_rows[c - FONT_FIRST];
    volatile u8 *row = pixels + (u64)line * CELL_HEIGHT * pitch + column * CELL_WIDTH * pixel_bytes;
    for (unsigned y = 0; y < CELL_HEIGHT; y++, row += pitch) {
        unsigned thin = rows[y / 2];
        unsigned bits = (thin | thin << 1) << 1; /* five columns become six, a blank on each side */
        for (unsigned x = 0; x < CELL_WIDTH; x++)
            screen_draw_pixel(row + x * pixel_bytes, bits & 0x80u >> x ? ink : paper);
    }
}

static void screen_put(unsigned line, unsigned column, char c)
{
    if (c < FONT_FIRST || c > FONT_LAST)
        c = '?';
    if (shadow[line][column] == c)
        return;
    shadow[line][column] = c;
    screen_draw_cell(line, column, c);
}

static void screen_scroll(void)
{
    unsigned up = MAX(1u, lines / 4);
    for (unsigned line = 0; line < lines; line++)
        for (unsigned column = 0; column < columns; column++)
            screen_put(line, column, line + up < lines ? shadow[line + up][column] : ' ');
    at_line -= up;
}

static void screen_newline(void)
{
    at_column = 0;
    if (++at_line == lines)
        screen_scroll();
}

static void screen_fill(const struct framebuffer *fb)
{
    for (u32 y = 0; y < fb->height; y++)
        for (u32 x = 0; x < fb->width; x++)
            screen_draw_pixel(pixels + (u64)y * pitch + x * pixel_bytes, paper);
}

void screen_init(const struct bootinfo *info)
{
    const struct framebuffer *fb = &info->fb;
    if (!fb->phys)
        return;
    u64 bytes = (u64)fb->pitch * fb->height;
    if ((fb->bpp != 32 && fb->bpp != 24) || fb->width < CELL_WIDTH || fb->height < CELL_HEIGHT ||
        (u64)fb->width * (fb->bpp / 8) > fb->pitch || fb->phys + bytes < fb->phys) {
        log_line("screen: %ux%u with %u bits a pixel is not for us", fb->width, fb->height,
                 fb->bpp);
        return;
    }
    pitch = fb->pitch;
    pixel_bytes = fb->bpp / 8;
    columns = MIN(fb->width / CELL_WIDTH, COLUMNS_MAX);
    lines = MIN(fb->height / CELL_HEIGHT, LINES_MAX);
    ink = screen_color(fb, INK);
    paper = screen_color(fb, PAPER);
    pixels = mmio_map(fb->phys, bytes, PTE_WC);
    memset(shadow, ' ', sizeof(shadow));
    screen_fill(fb);
    log_line("screen: %ux%u, %u columns of %u lines", fb->width, fb->height, columns, lines);
}

void screen_write(const char *s, size_t n)
{
    for (size_t i = 0; pixels && i < n; i++) {
        u8 c = (u8)s[i];
        if (c == '\n') {
            screen_newline();
        } else if (c == '\r') {
            at_column = 0;
        } else if (c == '\b') {
            at_column -= at_column > 0;
        } else if (c == '\t') {
            at_column = MIN(ALIGN_UP(at_column + 1, 8u), columns - 1);
        } else if ((c & 0xc0) != 0x80) { /* the rest of a UTF-8 letter: one sign for all of it */
            screen_put(at_line, at_column, c < 128 ? (char)c : '?');
            if (++at_column == columns)
                screen_newline();
        }
    }
}
