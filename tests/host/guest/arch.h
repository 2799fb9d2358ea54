/*
 * The machine as guest/memory.c sees it on a host: the port of mm/, and the few types more that
 * guest/internal.h names. There are no page tables: the test is the guest_ops table itself.
 */
#ifndef GUEST_ARCH_H
#define GUEST_ARCH_H

#include "../port/arch.h"

static inline void *phys_va(u64 phys)
{
    return port_memory + phys;
}

static inline u64 va_phys(const void *va)
{
    return (u64)((const char *)va - port_memory);
}

struct aspace {
    u64 root, tables;
};

struct arch_thread;

enum prot { PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4 };
#define USER_TOP 0x0000800000000000ULL

#endif
