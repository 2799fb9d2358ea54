/*
 * Reads the kernel's memory from ring 3; secret= says where (without: `text`). It should be
 * killed for it, so reaching the end is the failure: code 1.
 */
#include "guest/images/lib/guest.h"

int main(const struct guest_info *info)
{
    const char *what = word(info, "secret");
    uint64_t at = 0xffffffff81000000; /* the kernel's text */
    what = what ? what : "text";
    say("kernreader: %s", what);

    if (text_equal(what, "direct"))
        at = 0xffff800000000000; /* the direct map */
    else if (text_equal(what, "stack"))
        at = 0xffffc00000000000; /* where kernel stacks are */
    else if (text_equal(what, "top"))
        at = 0xfffffffffffffff8;
    else if (!text_equal(what, "text"))
        say("kernreader: what is secret=%s?", what);
    uint64_t value = *(volatile uint64_t *)at;
    say("kernreader: still alive, read 0x%x", value);
    return 1;
}
