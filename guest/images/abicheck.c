/*
 * Holds the kernel to docs/abi.md: numbers that make no sense get the error that is written
 * there, registers keep their values, the FPU starts empty. Ends with the number of broken
 * promises.
 */
#include "guest/images/lib/guest.h"

static unsigned broken, checks;

static void check(const char *what, int64_t got, int64_t want)
{
    checks++;
    if (got == want)
        return;
    broken++;
    say("abicheck: %s gave %d, not %d", what, got, want);
}

/* Everything but rax, rcx and r11 comes back as it went, rflags too. */
static uint64_t registers_changed(void)
{
    uint64_t changed;
    __asm__ volatile(
        "movq $0x11, %%rbx; movq $0x12, %%rdx; movq $0x13, %%rsi; movq $0x14, %%rdi\n\t"
        "movq $0x15, %%r8;  movq $0x16, %%r9;  movq $0x17, %%r10; movq $0x18, %%r12\n\t"
        "movq $0x19, %%r13; movq $0x1a, %%r14; movq $0x1b, %%r15\n\t"
        "stc; std\n\t"
        "movl %1, %%eax; syscall\n\t"
        "movl $0, %%eax; jc 1f; incl %%eax\n"
        "1: pushfq; popq %%rcx; btl $10, %%ecx; jc 2f; incl %%eax\n"
        "2: cld\n\t"
        "subq $0x11, %%rbx; orq %%rbx, %%rax; subq $0x12, %%rdx; orq %%rdx, %%rax\n\t"
        "subq $0x13, %%rsi; orq %%rsi, %%rax; subq $0x14, %%rdi; orq %%rdi, %%rax\n\t"
        "subq $0x15, %%r8;  orq %%r8, %%rax;  subq $0x16, %%r9;  orq %%r9, %%rax\n\t"
        "subq $0x17, %%r10; orq %%r10, %%rax; subq $0x18, %%r12; orq %%r12, %%rax\n\t"
        "subq $0x19, %%r13; orq %%r13, %%rax; subq $0x1a, %%r14; orq %%r14, %%rax\n\t"
        "subq $0x1b, %%r15; orq %%r15, %%rax"
        : "=&a"(changed)
        : "i"(HC_YIELD)
        : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
          "memory", "cc");
    return changed;
}

/* FXSAVE (APM3): what another guest may have left in x87, MMX and SSE registers. */
static unsigned fpu_left(void)
{
    static uint8_t area[512] __attribute__((aligned(16)));
    unsigned left = 0;
    __asm__ volatile("fxsave64 %0" : "=m"(area));
    for (unsigned i = 32; i < 416; i++)
        left += area[i] != 0;
    return left;
}

/* The values that a hypercall, and so perhaps a switch to another guest, must not change. */
static unsigned fpu_kept(void)
{
    uint64_t out, in = 0x0123456789abcdefULL;
    __asm__ volatile("movq %1, %%xmm7; movq %1, %%mm3\n\t"
                     "movl %2, %%eax; movl $2000000, %%edi; syscall\n\t"
                     "movq %%xmm7, %0; movq %%mm3, %%rcx; andq %%rcx, %0; emms"
                     : "=&r"(out)
                     : "r"(in), "i"(HC_SLEEP)
                     : "rax", "rcx", "rdi", "r11", "xmm7", "mm3", "memory");
    return out == in;
}

static void check_identity(const struct guest_info *info)
{
    struct guest_whoami who;
    check("whoami", hypercall(HC_WHOAMI, (uint64_t)&who, 0, 0), 0);
    check("whoami.version", who.version, GUEST_ABI_VERSION);
    check("whoami.id", who.id, info->id);
    check("whoami.node", who.node, info->node);
    check("whoami.cpu", who.cpu, info->cpu);
    check("whoami.frames_held", (int64_t)who.frames_held, (int64_t)info->frames);
    check("whoami.name", text_equal(who.name, "abicheck"), 1);
    check("info.version", info->version, GUEST_ABI_VERSION);
    check("info.frames", (int64_t)info->frames,
          (int64_t)((info->mem_bytes + info->stack_bytes) / GUEST_PAGE + info->image_frames + 1));
    check("stack pointer",
          (int64_t)(stack_pointer() - info->stack_base) < (int64_t)info->stack_bytes, 1);
}

/* ---- threads ---- */

static char stacks[GUEST_THREADS_MAX][2048] __attribute__((aligned(16)));
static volatile uint64_t stop, running, seen_fpu, seen_number[GUEST_THREADS_MAX];
static volatile int64_t sum;

static void thread_wait(uint64_t number)
{
    struct guest_whoami who;
    seen_fpu += fpu_left();
    if (hypercall(HC_WHOAMI, (uint64_t)&who, 0, 0) == 0)
        seen_number[number] = who.id;
    __atomic_fetch_add(&running, 1, __ATOMIC_RELAXED);
    while (!stop)
        hypercall(HC_YIELD, 0, 0, 0);
    seen_fpu += !fpu_kept();
    __atomic_fetch_add(&sum, (int64_t)number, __ATOMIC_RELAXED);
    __atomic_fetch_add(&running, -1, __ATOMIC_RELAXED);
}

/* One that has ended is counted until it is gone. */
static int64_t thread_start(uint64_t i)
{
    int64_t result;
    while ((result = thread_run(thread_wait, i, stacks[i] + sizeof(stacks[i]))) == E_NOSPC)
        hypercall(HC_YIELD, 0, 0, 0);
    return result;
}

static void check_threads(const struct guest_info *info)
{
    uint64_t code = (uint64_t)main, top = (uint64_t)stacks[0];
    struct guest_whoami before, after;
    hypercall(HC_WHOAMI, (uint64_t)&before, 0, 0);
    check("a crooked stack", hypercall(HC_THREAD_START, code, top + 2056, 0), E_INVAL);
    for (unsigned round = 0; round < 3; round++) {
        stop = 0;
        sum = 0;
        for (uint64_t i = 1; i < GUEST_THREADS_MAX; i++)
            check("a thread", thread_start(i) > 0, 1);
        check("one thread more", thread_run(thread_wait, 0, stacks[0] + sizeof(stacks[0])),
              E_NOSPC);
        while (running < GUEST_THREADS_MAX - 1)
            hypercall(HC_YIELD, 0, 0, 0);
        for (unsigned i = 1; i < GUEST_THREADS_MAX; i++)
            check("its guest", (int64_t)seen_number[i], info->id);
        stop = 1;
        while (running)
            hypercall(HC_YIELD, 0, 0, 0);
        check("the arguments", sum, GUEST_THREADS_MAX * (GUEST_THREADS_MAX - 1) / 2);
    }
    check("fpu of threads", (int64_t)seen_fpu, 0);
    hypercall(HC_WHOAMI, (uint64_t)&after, 0, 0);
    check("frames of threads", (int64_t)after.frames_held, (int64_t)before.frames_held);
}

int main(const struct guest_info *info)
{
    check("fpu at the start", fpu_left(), 0);
    check("fpu kept", fpu_kept(), 1);
    check("registers", (int64_t)registers_changed(), 0);
    check_identity(info);

    check("call 0", hypercall(0, 0, 0, 0), E_NOSYS);
    check("call 10", hypercall(10, 0, 0, 0), E_NOSYS);
    check("call 2^32 + 4", hypercall((1ULL << 32) + HC_YIELD, 0, 0, 0), E_NOSYS);
    check("call -1", hypercall(~0ULL, 0, 0, 0), E_NOSYS);

    check("write nothing", hypercall(HC_CONSOLE_WRITE, 0, 0, 0), 0);
    check("write too much", hypercall(HC_CONSOLE_WRITE, info->mem_base, GUEST_WRITE_MAX + 1, 0),
          E_INVAL);
    check("write 2^64-1", hypercall(HC_CONSOLE_WRITE, info->mem_base, ~0ULL, 0), E_INVAL);

    check("get 0", hypercall(HC_MEM_GET, 0, 0, 0), E_INVAL);
    check("get too much", hypercall(HC_MEM_GET, 1ULL << 40, 0, 0), E_NOMEM);
    check("get 2^64-1", hypercall(HC_MEM_GET, ~0ULL, 0, 0), E_NOMEM);
    check("give 0", hypercall(HC_MEM_GIVE, info->mem_base, 0, 0), E_INVAL);
    check("give crooked", hypercall(HC_MEM_GIVE, info->mem_base + 8, 1, 0), E_INVAL);
    check("give 2^60", hypercall(HC_MEM_GIVE, info->mem_base, 1ULL << 60, 0), E_INVAL);
    check("sleep 0", hypercall(HC_SLEEP, 0, 0, 0), 0);
    check("sleep 1 ms", hypercall(HC_SLEEP, 1000000, 0, 0), 0);
    check("yield", hypercall(HC_YIELD, 1, 2, 3), 0);
    /* Never touched before: the kernel does it for us. The second one goes across two pages. */
    check("write what is zero", hypercall(HC_CONSOLE_WRITE, info->mem_base + 8 * GUEST_PAGE, 1, 0),
          1);
    check("whoami into new memory",
          hypercall(HC_WHOAMI, info->mem_base + 12 * GUEST_PAGE - 20, 0, 0), 0);
    check_threads(info);

    say("abicheck: %u of %u promises broken", (uint64_t)broken, (uint64_t)checks);
    return (int)broken;
}
