; Where a guest begins (docs/abi.md): rdi has the address of the info page, rsp the top of the
; stack, a multiple of 16. Calls main(info) and exits with what it returns.

HC_EXIT equ 5                           ; guest/abi.h
HC_THREAD_EXIT equ 9

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

; Where a thread of thread_run() begins: rdi has the address of two words, which also is the top of
; its stack: the function and its argument.
global thread_begin
thread_begin:
        xor ebp, ebp
        mov rax, [rdi]
        mov rdi, [rdi + 8]
        call rax
        mov eax, HC_THREAD_EXIT
        syscall
        ud2

section .note.GNU-stack noalloc noexec nowrite progbits
