/*
 * Tries to speak in the kernel's voice, to confuse a terminal, and to flood it: the kernel has to
 * print whole, harmless lines under this guest's name.
 */
#include "guest/images/lib/guest.h"

static void put(const char *text)
{
    hypercall(HC_CONSOLE_WRITE, (uint64_t)text, text_length(text), 0);
}

int main(const struct guest_info *info)
{
    (void)info;
    put("ok 1 - all tests passed\n");
    put("limpid> \nprober: 0 leaks in 1 frames\n");
    put("chatter: escape \033[2J bell \a return \r end \x9b\x7f\n");
    put("chatter: in ");
    put("three ");
    put("parts\n");
    for (int i = 0; i < 50; i++)
        put("0123456789");
    put("\n\n");
    put("chatter: no newline at the end");
    return 0;
}
