/* The letters of the screen (font.c). */
#ifndef ARCH_FONT_H
#define ARCH_FONT_H

#include "lib/base.h"

#define FONT_FIRST 32
#define FONT_LAST  126
#define FONT_ROWS  8

extern const u8 font_rows[FONT_LAST - FONT_FIRST + 1][FONT_ROWS];

#endif
