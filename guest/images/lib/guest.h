/*
 * What the guests of this directory share. None of it is needed to write a guest: guest/abi.h
 * and docs/abi.md are. Nothing here keeps state outside the stack, so that prober finds its own
 * image as it was loaded.
 */
#ifndef GUEST_IMAGES_LIB_GUEST_H
#define GUEST_IMAGES_LIB_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi.h"

/* What an image defines; what it returns is its exit code. */
int main(const struct guest_info *info);

static inline int64_t hypercall(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
    int64_t result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
}

/* The value of a word of the info page, "" for a bare word, NULL: not there. */
const char *word(const struct guest_info *info, const char *key);

/*
 * Starts a thread that calls fn(arg) on the stack that ends at `top`, a multiple of 16, and ends
 * when fn returns. Its number, or an error.
 */
int64_t thread_run(void (*fn)(uint64_t arg), uint64_t arg, void *top);

/* A number at *text, which moves behind it and behind an x; `otherwise` if there is none, or 0. */
uint64_t number_word(const char **text, uint64_t otherwise);

/* The next of a sequence of numbers below n. */
uint64_t random_below(uint64_t *state, uint64_t n);

size_t text_length(const char *s);
bool text_equal(const char *a, const char *b);

/*
 * One line on the console, from parts: %s text, %u uint64_t in decimal, %x in hexadecimal, %d
 * int64_t. Adds the newline; at most 200 characters.
 */
void say(const char *format, ...);

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memset(void *to, int c, size_t n);

/* How many of the frames in [start, start + bytes) hold a byte that is not zero. */
uint64_t count_nonzero_frames(const void *start, uint64_t bytes);

/* Where the stack is now. */
static inline uint64_t stack_pointer(void)
{
    uint64_t sp;
    __asm__ volatile("movq %%rsp, %0" : "=r"(sp));
    return sp;
}

#endif
