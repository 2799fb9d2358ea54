/* Never asks for anything again: only a kick can end it. */
#include "guest/images/lib/guest.h"

int main(const struct guest_info *info)
{
    (void)info;
    say("spinner: spinning");
    for (;;)
        __asm__ volatile("pause");
}
