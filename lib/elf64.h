/*
 * Reads an ELF64 executable (ELF-64 object file format 1.5; System V psABI for x86-64) and checks
 * everything that a loader would otherwise have to trust. Pure; nothing is copied.
 */
#ifndef LIB_ELF64_H
#define LIB_ELF64_H

#include "lib/base.h"
#include "lib/errors.h"

#define ELF64_SEGMENTS_MAX 16

enum elf64_flags { ELF64_EXEC = 1, ELF64_WRITE = 2, ELF64_READ = 4 }; /* as p_flags has them */

struct elf64_segment { /* one PT_LOAD of non-zero memsz */
    u64 vaddr;         /* any alignment; start and end stay below the limit */
    u64 memsz;         /* > 0 */
    u64 filesz;        /* <= memsz; the rest is zero */
    const void *data;  /* filesz bytes inside the image */
    unsigned flags;    /* enum elf64_flags; never both WRITE and EXEC */
};

struct elf64 {
    u64 entry; /* inside the file's part of an executable segment */
    unsigned nr;
    struct elf64_segment segment[ELF64_SEGMENTS_MAX]; /* by vaddr, no two share a page */
};

/*
 * Checks an image of `len` bytes whose segments must lie in [4 KiB, limit). 0, or E_FORMAT and
 * *why (may be NULL) says what is wrong with it; `out` is then empty.
 */
int elf64_parse(const void *image, u64 len, u64 limit, struct elf64 *out, const char **why);

#endif
