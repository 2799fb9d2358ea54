/*
 * Every file of corpus/ through its fuzz target, without a fuzzer, and its nearest neighbours: one
 * byte more or less, and all cut off from there. Run from the top of the tree.
 * A broken promise or a sanitizer's report ends the program; the file's name stands above it.
 */
#include <dirent.h>
#include <signal.h>

#include "lib/base.h"
#include "tests/host/check.h"

#define CORPUS "tests/host/fuzz/corpus/"

#define NONE ((size_t)-1)

static char file_name[600]; /* what runs now */
static size_t neighbour = NONE;

void __sanitizer_set_death_callback(void (*callback)(void)); /* sanitizer/common_interface_defs.h */

static void say_file(void)
{
    fprintf(stderr, "the input was %s", file_name);
    if (neighbour != NONE)
        fprintf(stderr, ", with the byte at %zu one more or less, or cut off there", neighbour);
    fprintf(stderr, "\n");
}

/* A broken promise aborts, of which the sanitizer takes no notice. */
static void say_file_of_abort(int signal_number)
{
    signal(signal_number, SIG_DFL);
    say_file();
}

typedef int target_fn(const u8 *data, size_t size);

/* At so many places, evenly spread. */
static void run_neighbours(target_fn *target, u8 *data, size_t len, size_t places)
{
    places = MIN(places, len);
    for (size_t i = 0; i < places; i++) {
        neighbour = i * len / places;
        u8 *p = &data[neighbour], was = *p;
        *p = (u8)(was + 1);
        target(data, len);
        *p = (u8)(was - 1);
        target(data, len);
        *p = was;
        target(data, neighbour);
    }
    neighbour = NONE;
}

static bool run_file(target_fn *target, size_t places)
{
    FILE *f = fopen(file_name, "rb");
    if (!f)
        return false;
    static u8 data[1 << 20];
    size_t len = fread(data, 1, sizeof(data), f);
    bool ok = !ferror(f) && feof(f);
    fclose(f);
    if (ok) {
        target(data, len);
        run_neighbours(target, data, len, places);
    }
    return ok;
}

static void run_corpus(const char *name, target_fn *target, size_t places)
{
    char folder[300];
    struct dirent **entry;
    unsigned ran = 0;

    snprintf(folder, sizeof(folder), CORPUS "%s", name);
    int nr = scandir(folder, &entry, NULL, alphasort);
    CHECK_MSG(nr > 0, "%s cannot be read", folder);
    for (int i = 0; i < nr; i++) {
        if (entry[i]->d_name[0] != '.') {
            snprintf(file_name, sizeof(file_name), "%s/%s", folder, entry[i]->d_name);
            CHECK_MSG(run_file(target, places), "%s cannot be read", file_name);
            ran++;
        }
        free(entry[i]);
    }
    if (nr >= 0)
        free(entry);
    CHECK_MSG(ran > 0, "%s is empty", folder);
}

#define CORPUS_CASE(name, places)                 \
    int fuzz_##name(const u8 *data, size_t size); \
    static void corpus_##name(void)               \
    {                                             \
        run_corpus(#name, fuzz_##name, places);   \
    }

CORPUS_CASE(acpi, 300)
CORPUS_CASE(multiboot2, 300)
CORPUS_CASE(pvh, 300)
CORPUS_CASE(memmap, 20) /* slow where the table is full */
CORPUS_CASE(cpio, 300)
CORPUS_CASE(elf64, 600)
CORPUS_CASE(words, 300)

int main(int argc, char **argv)
{
    check_start(argc, argv);
    __sanitizer_set_death_callback(say_file);
    signal(SIGABRT, say_file_of_abort);
    RUN(corpus_acpi);
    RUN(corpus_multiboot2);
    RUN(corpus_pvh);
    RUN(corpus_memmap);
    RUN(corpus_cpio);
    RUN(corpus_elf64);
    RUN(corpus_words);
    return check_done();
}
