/*
 * Every file of corpus/ through the fuzzer of mm/, without a fuzzer. Run from the top of the
 * tree. A broken promise or a sanitizer's report ends the program; the file's name stands below.
 */
#include <dirent.h>
#include <signal.h>

#include "lib/base.h"
#include "tests/host/check.h"

#define CORPUS "tests/host/fuzz_mm/corpus"

int fuzz_mm(const u8 *data, size_t size);

static char file_name[600]; /* what runs now */

static void say_file(int signal_number)
{
    signal(signal_number, SIG_DFL);
    fprintf(stderr, "the input was %s; LIMPID_FUZZ_TRACE=1 shows what it does\n", file_name);
}

static bool run_file(void)
{
    static u8 data[1 << 16];
    FILE *f = fopen(file_name, "rb");
    if (!f)
        return false;
    size_t len = fread(data, 1, sizeof(data), f);
    bool ok = !ferror(f) && feof(f);
    fclose(f);
    if (ok)
        fuzz_mm(data, len);
    return ok;
}

static void corpus_mm(void)
{
    struct dirent **entry;
    unsigned ran = 0;
    int nr = scandir(CORPUS, &entry, NULL, alphasort);
    CHECK_MSG(nr > 0, "%s cannot be read", CORPUS);
    for (int i = 0; i < nr; i++) {
        if (entry[i]->d_name[0] != '.') {
            snprintf(file_name, sizeof(file_name), CORPUS "/%s", entry[i]->d_name);
            CHECK_MSG(run_file(), "%s cannot be read", file_name);
            ran++;
        }
        free(entry[i]);
    }
    if (nr >= 0)
        free(entry);
    CHECK_MSG(ran > 0, "%s is empty", CORPUS);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    signal(SIGABRT, say_file);
    RUN(corpus_mm);
    return check_done();
}
