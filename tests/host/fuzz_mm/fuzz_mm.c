/*
 * The way in: libFuzzer's (make fuzz-mm), or test_corpus_mm.c's (make test). See fuzz_mm.h.
 */
#include "fuzz_mm.h"

struct input input;
bool fuzz_tracing;

void fuzz_log(const char *line)
{
    TRACE("%s\n", line);
}

static void run(void)
{
    static const struct port_hooks quiet = {.log = fuzz_log};
    port_set_hooks(&quiet);
    port_set_clock(1000000000);
    if (machine_boot()) {
        ops_run();
        oracle_end();
    }
}

#ifdef FUZZ_ALONE
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
#else
int fuzz_mm(const u8 *data, size_t size);
int fuzz_mm(const u8 *data, size_t size)
#endif
{
    fuzz_tracing = getenv("LIMPID_FUZZ_TRACE") != NULL;
    input = (struct input){data, size};
    run();
    return 0;
}
