/*
 * Fills all memory that it may write with the text of secret=, repeated without separator or
 * NUL: the memory area, and the stack but for the page it stands on. With `linger` it then sleeps
 * until it is killed, so that somebody can look for the secret from outside.
 */
#include "guest/images/lib/guest.h"

/* A run of whole secrets small enough to stay in the cache while it is copied on and on. */
#define RUN_MAX 65536ULL

static void fill(char *area, uint64_t bytes, const char *secret, uint64_t length)
{
    uint64_t done = length < bytes ? length : bytes;

    memcpy(area, secret, done);
    while (done < bytes) {
        /* What is there is whole secrets, so a copy of its beginning goes on where it ends. */
        uint64_t run = done < RUN_MAX ? done : RUN_MAX / length * length;
        uint64_t n = run < bytes - done ? run : bytes - done;
        memcpy(area + done, area, n);
        done += n;
    }
}

int main(const struct guest_info *info)
{
    const char *secret = word(info, "secret");
    if (!secret || !*secret)
        secret = "no-secret-was-given-";
    uint64_t length = text_length(secret);

    fill((char *)info->mem_base, info->mem_bytes, secret, length);
    /* The page below ours keeps what this very call needs. */
    uint64_t stack_end = (stack_pointer() & ~(GUEST_PAGE - 1)) - GUEST_PAGE;
    fill((char *)info->stack_base, stack_end - info->stack_base, secret, length);

    say("secretive: filled %u frames",
        (info->mem_bytes + stack_end - info->stack_base) / GUEST_PAGE);
    while (word(info, "linger"))
        hypercall(HC_SLEEP, 3600ULL * 1000 * 1000 * 1000, 0, 0);
    return 0;
}
