/*
 * What a guest and Limpid say to each other: the one header that both compile. docs/abi.md tells
 * it in words. A guest asks with the instruction `syscall`:
 *
 *   rax  the call's number       rdi, rsi, rdx  its arguments
 *   rax  the result; negative: an error of lib/errors.h
 *   rcx and r11 are lost; everything else keeps its value.
 */
#ifndef GUEST_ABI_H
#define GUEST_ABI_H

#include <stdint.h>

#include "lib/errors.h"

#define GUEST_ABI_VERSION 1

enum hypercall {
    HC_CONSOLE_WRITE = 1, /* (text, bytes) -> bytes */
    HC_MEM_GET = 2,       /* (pages) -> address */
    HC_MEM_GIVE = 3,      /* (address, pages) -> 0 */
    HC_YIELD = 4,         /* () -> 0 */
    HC_EXIT = 5,          /* (code) does not return */
    HC_WHOAMI = 6,        /* (struct guest_whoami *) -> 0 */
    HC_SLEEP = 7,         /* (nanoseconds) -> 0 */
    HC_THREAD_START = 8,  /* (entry, stack, argument) -> the thread's number */
    HC_THREAD_EXIT = 9,   /* () does not return */
};

/* Threads of one guest at the same time, the first one included. */
#define GUEST_THREADS_MAX 8

/* The most that one HC_CONSOLE_WRITE takes. */
#define GUEST_WRITE_MAX 4096

/* Where things stand in a guest. The image is linked somewhere in [IMAGE_BASE, IMAGE_END). */
#define GUEST_PAGE        4096ULL
#define GUEST_IMAGE_BASE  0x0000000000400000ULL
#define GUEST_IMAGE_END   0x000000003fe00000ULL
#define GUEST_STACK_TOP   0x000000003fffe000ULL /* a page that is not mapped follows, then */
#define GUEST_STACK_PAGES 16                    /* below it: nothing is mapped */
#define GUEST_INFO        0x000000003ffff000ULL /* the info page; its address comes in rdi, too */
#define GUEST_MEM_BASE    0x0000000040000000ULL /* the memory area, as large as mem= leaves */

/*
 * The info page: read-only, written once, before the guest starts. What follows the words is
 * zero.
 */
struct guest_info {
    uint32_t version; /* GUEST_ABI_VERSION; fields may be added at the end without a new one */
    uint32_t id;
    uint32_t node; /* its memory was asked for there */
    uint32_t cpu;
    uint64_t frames;                  /* all frames it was given: image, stack, info page, area */
    uint64_t mem_base, mem_bytes;     /* the memory area: writable, all zero */
    uint64_t stack_base, stack_bytes; /* writable, all zero */
    uint64_t image_frames;
    uint32_t words_offset; /* from the start of this page: words, each ended by a NUL, */
    uint32_t words_bytes;  /* NULs included. `secret=TEXT`, `linger` */
};

struct guest_whoami {
    uint32_t version;
    uint32_t id;
    uint32_t node;
    uint32_t cpu;
    uint64_t frames_held;  /* now */
    uint64_t frames_limit; /* HC_MEM_GET fails beyond it */
    char name[32];         /* ends with a NUL */
};

#endif
