/*
 * The prompt and its commands; the word run= does the same without a person.
 */
#ifndef KERNEL_COMMANDS_H
#define KERNEL_COMMANDS_H

#include "lib/base.h"

#define PROMPT "limpid> "

/* Reads and executes for ever. */
void commands_prompt(void) __attribute__((noreturn));
/* Executes "a; b; c", echoed as if they had been typed. The text is cut up. */
void commands_run(char *script);

#endif
