/*
 * A race on purpose: ThreadSanitizer has to speak of it, or its silence about test_threads.c
 * means nothing. One thread takes and frees under the zone's lock; the other reads one of the
 * zone's counters without the lock and without load_relaxed(). Not run by anything else.
 */
#include "tests/host/port/port.h"
#include "mm/zone.h"

#include <pthread.h>
#include <stdio.h>

static void *planted_reader(void *sum)
{
    for (unsigned n = 0; n < 100000; n++)
        *(u64 *)sum += mm_zones[0].outside;
    return NULL;
}

int main(void)
{
    struct port_machine m = {.cpus = 2, .nodes = 1, .nr_ranges = 1};
    static u64 sum;
    pthread_t reader;
    m.range[0] = (struct mm_range){0x1000, 0x2000, 0};
    if (port_boot(&m) != 0 || pthread_create(&reader, NULL, planted_reader, &sum) != 0)
        return 2;
    for (unsigned n = 0; n < 1000; n++)
        mm_free(mm_take(1, TAKE_ANY, 0), 1);
    pthread_join(reader, NULL);
    printf("nobody saw the planted race\n");
    return 0;
}
