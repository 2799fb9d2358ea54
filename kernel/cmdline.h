/*
 * What the boot loader's command line asks for.
 */
#ifndef KERNEL_CMDLINE_H
#define KERNEL_CMDLINE_H

#include "mm/mm.h"

struct options {
    const char *test;        /* test=SELECTOR: run tests and leave. NULL: none */
    u64 seed;                /* seed=N: of the tests' order and random numbers */
    const char *run;         /* run='cmd; cmd': instead of the story. NULL: none */
    const char *alloc;       /* alloc=limpid, alloc=classic: the backend. NULL: not said */
    char strategy[16];       /* scrub=claim, scrub=eager, ... "": the backend's default */
    bool scrub_off;          /* scrub=off, scrub=hold */
    struct mm_policy policy; /* age=10s rate=200M scrubbers=2 */
    u64 zone_gib;            /* zone=16G: the largest a zone may be. 0: the largest there is */
    u64 rsdp;                /* rsdp=0xADDRESS: of the ACPI tables to use. 0: the firmware's */
    bool plain;              /* console=plain */
    bool exit;               /* leave after the story or the commands */
    bool demo;               /* tell the story until a key is pressed */
};

/*
 * Reads it, which must stay where it is: it is cut up, and the options point into it. What is
 * wrong costs itself and one line.
 */
void cmdline_parse(char *text, struct options *out);

#endif
