/*
 * Runs an instruction that a guest may not run; secret= says which (without: `ud2`). It should be
 * killed for it, so reaching the end is the failure: code 1.
 */
#include "guest/images/lib/guest.h"

int main(const struct guest_info *info)
{
    const char *what = word(info, "secret");
    what = what ? what : "ud2";
    say("illegal: %s", what);

    if (text_equal(what, "ud2"))
        __asm__ volatile("ud2");
    else if (text_equal(what, "hlt"))
        __asm__ volatile("hlt");
    else if (text_equal(what, "cli"))
        __asm__ volatile("cli");
    else if (text_equal(what, "out"))
        __asm__ volatile("outb %b0, %w1" ::"a"(0x10), "Nd"(0xf4)); /* the debug exit */
    else if (text_equal(what, "cr3"))
        __asm__ volatile("movq %%cr3, %%rax" ::: "rax");
    else if (text_equal(what, "wrmsr"))
        __asm__ volatile("wrmsr" ::"a"(0), "d"(0), "c"(0xc0000082));
    else if (text_equal(what, "int3"))
        __asm__ volatile("int3");
    else if (text_equal(what, "int80"))
        __asm__ volatile("int $0x80");
    else if (text_equal(what, "kick"))
        __asm__ volatile("int $0xf1"); /* an interrupt vector of the kernel */
    else if (text_equal(what, "nmi"))
        __asm__ volatile("int $2");
    else if (text_equal(what, "trap"))
        __asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; nop" ::: "memory", "cc");
    else if (text_equal(what, "divide"))
        __asm__ volatile("divl %0" ::"r"(0), "a"(1), "d"(0));
    else if (text_equal(what, "sysenter"))
        __asm__ volatile("sysenter" ::: "rcx", "rdx");
    else if (text_equal(what, "iret"))
        __asm__ volatile("pushq $0; pushq $0; pushfq; pushq $0x8; pushq $0; iretq" ::: "memory");
    else
        say("illegal: what is secret=%s?", what);
    say("illegal: still alive");
    return 1;
}
