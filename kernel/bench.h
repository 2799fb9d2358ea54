/* Measurements that need the kernel's own memory: the command `bench`. */
#ifndef KERNEL_BENCH_H
#define KERNEL_BENCH_H

/* Gives 256 MiB back with strategy claim and with eager, and prints both times. */
void bench_destroy(void);

#endif
