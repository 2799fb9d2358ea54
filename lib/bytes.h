/*
 * Little-endian numbers out of bytes of any alignment: what the parsers of foreign data read
 * with. x86 is little-endian, so a copy is all it takes.
 */
#ifndef LIB_BYTES_H
#define LIB_BYTES_H

#include "lib/base.h"

static inline u16 read_le16(const void *p)
{
    u16 v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

static inline u32 read_le32(const void *p)
{
    u32 v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

static inline u64 read_le64(const void *p)
{
    u64 v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}

/* A warning to who asked for warnings. */
#define parse_warn(warn, ctx, ...)        \
    do {                                  \
        if (warn)                         \
            (warn)((ctx), ##__VA_ARGS__); \
    } while (0)

#endif
