/*
 * Retires frames that machine checks report.
 */
#ifndef KERNEL_MCE_H
#define KERNEL_MCE_H

/* Starts the thread that does. Once, after the CPUs are up. */
void mce_start(void);

#endif
