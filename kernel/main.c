/*
 * The boot, as a table: one call a line, in the order in which each can stand on what is above
 * it, with the reason. Then the boot thread becomes "main": tests, commands, story, prompt.
 *
 * Owns what the boot collects (bootinfo, topology, the map of free memory): constant afterwards.
 *
 * Read next: arch/x86_64/arch.h (the machine's calls), mm/mm.h, sched/sched.h, guest/guest.h.
 */
#include "kernel/cmdline.h"
#include "kernel/commands.h"
#include "kernel/console.h"
#include "kernel/mce.h"
#include "kernel/policy.h"
#include "kernel/story.h"
#include "kernel/tables.h"
#include "guest/guest.h"
#include "lib/acpi.h"
#include "lib/bootinfo.h"
#include "lib/memmap.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "sched/sched.h"
#include "tests/ktest.h"

void kernel_main(u32 magic, u64 info_phys) __attribute__((noreturn));

static struct bootinfo info;
static struct topology topology;
static struct memmap free_memory; /* until mm_init() has it */
static struct options options;
static bool have_images;

/* ---- the lines of the table that need more than a call ---- */

/* A copy is cut up, so that the bootinfo keeps the line as it was given. */
static void boot_cmdline(void)
{
    static char text[BOOT_CMDLINE_MAX];

    str_copy(text, info.cmdline, sizeof(text));
    cmdline_parse(text, &options);
    if (options.plain)
        console_set_plain();
    log_line("Limpid, by %s, command line: %s", info.loader, info.cmdline);
    if (options.rsdp && !bootinfo_use_rsdp(&info, options.rsdp))
        log_line("command line: rsdp=%#lx ignored; expected %lu KiB of usable memory from there",
                 options.rsdp, (u64)(BOOT_RSDP_BYTES / KIB));
}

/* Which memory belongs to which node: the firmware's map does not say, the SRAT does. */
static void boot_set_nodes(void)
{
    for (unsigned i = 0; i < topology.nr_mem; i++) {
        const struct topo_mem *m = &topology.mem[i];
        if (memmap_set_node(&free_memory, m->start, m->end, m->node) != 0)
            log_line("boot: too many memory ranges: some of node %u's counts as another's",
                     m->node);
    }
}

/*
 * alloc= chooses the backend; scrub= alone, with a strategy that only another one has, brings that
 * one along. Both, and they do not go together: alloc= wins, and a line says so.
 */
static void boot_backend(void)
{
    const char *owner = *options.strategy ? mm_strategy_backend(options.strategy) : NULL;
    if (options.alloc)
        mm_backend_set(options.alloc);
    else if (owner)
        mm_backend_set(owner);
}

static void boot_strategy(void)
{
    if (!*options.strategy)
        return;
    if (mm_strategy_set(options.strategy) == 0) {
        policy_warn();
        return;
    }
    log_line("command line: scrub=%s ignored; it is a strategy of alloc=%s, not of alloc=%s; %s "
             "stays",
             options.strategy, mm_strategy_backend(options.strategy), mm_backend_name(),
             mm_strategy_name());
}

static void boot_mm(void)
{
    static struct mm_range range[MEMMAP_MAX];
    static u8 distance[TOPO_NODES_MAX * TOPO_NODES_MAX];
    struct mm_config cfg = {
        .range = range,
        .nr_nodes = nr_nodes,
        .distance = distance,
        .scrub_off = options.scrub_off,
        .zone_gib = (unsigned)options.zone_gib,
    };

    for (unsigned i = 0; i < free_memory.nr; i++) {
        const struct memrange *r = &free_memory.range[i];
        range[cfg.nr_ranges++] = (struct mm_range){
            .start = r->start >> FRAME_SHIFT,
            .end = r->end >> FRAME_SHIFT,
            .node = r->node,
        };
    }
    for (unsigned from = 0; from < nr_nodes; from++)
        for (unsigned to = 0; to < nr_nodes; to++)
            distance[from * nr_nodes + to] = topology.distance[from][to];
    boot_backend();
    if (cfg.zone_gib && strcmp(mm_backend_name(), "limpid") != 0)
        log_line("command line: zone= means nothing to alloc=%s: it has one heap a node",
                 mm_backend_name());
    int error = mm_init(&cfg);
    if (error)
        panic("mm_init: %s", error_text(error));
    if (!mm_has_age_bound() && options.policy.age_ms != MM_AGE_MS)
        log_line(
            "command line: age= means nothing to alloc=%s: it scrubs nothing because of its age",
            mm_backend_name());
    mm_policy_set(&options.policy); /* its values were looked at when they were read */
    boot_strategy();
}

static pfn_t boot_frame_take(void)
{
    return mm_take(0, TAKE_CLEAN, cpu_node(cpu_id()));
}

static void boot_frame_free(pfn_t pfn)
{
    mm_free(pfn, 0);
}

static void boot_frame_source(void)
{
    paging_set_frame_source(boot_frame_take, boot_frame_free);
}

static void boot_smp(void)
{
    unsigned online = smp_start(sched_ap_entry);
    if (online != nr_cpus)
        log_line("boot: %u of %u CPUs came", online, nr_cpus);
}

static void boot_report(void)
{
    struct mm_zone_info all;
    u64 ns = time_ns(); /* before anything is printed: the serial line takes its time */

    mm_node_info(MM_ALL_NODES, &all);
    u64 milli = all.frames ? all.metadata_bytes * 1000 / all.frames : 0;
    log_line("kernel entry to scheduler up: %lu ms", MS_OF(ns));
    log_line("metadata: %lu.%03lu byte a frame", milli / 1000, milli % 1000);
    log_line("%lu MiB in %u zone%s on %u node%s, %u CPU%s", MIB_OF(all.frames), mm_nr_zones(),
             mm_nr_zones() == 1 ? "" : "s", nr_nodes, nr_nodes == 1 ? "" : "s", nr_cpus,
             nr_cpus == 1 ? "" : "s");
}

static void boot_guests(void)
{
    if (info.module_end <= info.module_start) {
        log_line("no guests.cpio: no module was loaded; guests cannot be started");
        return;
    }
    have_images = guests_init(phys_va(info.module_start), info.module_end - info.module_start) == 0;
}

/* ---- what main does ---- */

static void main_leave(bool ok)
{
    if (options.exit)
        machine_exit(ok ? EXIT_PASS : EXIT_FAIL);
}

static void main_demo(void)
{
    do {
        story_tell();
        for (unsigned i = 0; i < 20 && !console_input_waiting(); i++)
            thread_sleep(100 * 1000 * 1000);
    } while (!console_input_waiting());
}

static void __attribute__((noreturn)) main_thread(void)
{
    static char script[BOOT_CMDLINE_MAX];

    if (options.test)
        machine_exit((enum exit_code)ktest_main(options.test, options.seed));
    if (options.run) {
        str_copy(script, options.run, sizeof(script)); /* it is cut up */
        commands_run(script);
        main_leave(true);
    } else if (options.demo) {
        main_demo();
    } else {
        bool ok = story_tell();
        main_leave(ok);
    }
    commands_prompt();
}

void kernel_main(u32 magic, u64 info_phys)
{
    serial_init();                              /* first, so that whatever fails is heard */
    cpu_early_init();                           /* IDT and per-CPU data: a fault says its name */
    boot_info_collect(magic, info_phys, &info); /* copied before low memory is reused */
    boot_cmdline();                             /* everything below may depend on a word */
    boot_memmap_build(&info, &free_memory);     /* firmware's map less all that lives somewhere */
    paging_init(&info, &free_memory);           /* W^X, NX, the direct map: phys_va() from here */
    screen_init(&info);                         /* needs a mapping of the framebuffer */
    topology_init(&info, &topology);            /* ACPI is read through the direct map */
    machine_init(&topology);                    /* APICs, clock, stacks of the other CPUs */
    boot_set_nodes();                           /* after the tables took theirs from the map */
    boot_mm();                                  /* what is left of it; all of it counts as dirty */
    boot_frame_source();                        /* page tables and stacks come from mm/ now */
    sched_init();                               /* we are the thread "main" from here */
    console_input_init();                       /* a wait queue, and interrupts that wake it */
    boot_smp();                                 /* the others go idle, and begin to scrub */
    aged_start();                               /* one thread a node: no dirt is forgotten */
    mce_start();                                /* bad frames that are reported leave the game */
    tables_init(&topology);                     /* what the tables say of the machine */
    boot_report();                              /* the scheduler is up on every CPU */
    boot_guests();                              /* reads the archive's table of contents */
    main_thread();
}
