; Where a guest begins (docs/abi.md): rdi has the address of the info page, rsp the top of the
; stack, a multiple of 16. Calls main(info) and exits with what it returns.

HC_EXIT equ 5                           ; guest/abi.h

extern main

section .text progbits alloc exec nowrite align=16
global _start
_start:
        xor ebp, ebp                    ; the chain of stack frames ends here
        call main
        movsxd rdi, eax
        mov eax, HC_EXIT
        syscall
        ud2

section .note.GNU-stack noalloc noexec nowrite progbits
