; How the other CPUs come up. smp.c copies the code to a frame below 1 MiB and keeps the words
; that both sides share in the frame behind it; INIT and STARTUP start the CPU in real mode at
; the beginning of the code, CS:IP = frame:0 (SDM3 9.4.4.1).
;
; ebx is the address of the code frame; smp.c adds it to the three addresses at the end.
; Each stage is as short as it can be: real mode -> 32 bit -> long mode on a page table that has
; these two frames and the kernel -> the kernel's own code, stack and page table.
;
; The claim. A CPU that comes so late that the boot CPU has given it up must not run into the
; stack of the next one. The word `wanted` holds the APIC id of the CPU that is awaited; who
; comes changes it from its own id to CLAIMED, who gives up changes it to NOBODY, each by
; compare-and-exchange, so that one of the two loses and knows it.

CLAIMED         equ 0xfffffffe
MSR_EFER        equ 0xc0000080
MSR_GS_BASE     equ 0xc0000101
EFER_LME_NXE    equ 1 << 8 | 1 << 11
CR0_PE          equ 1
CR0_PG_WP_NE_ET_MP_PE equ 0x80010033
CR4_PAE         equ 1 << 5

; The shared frame: struct trampoline_data in smp.c
%define D_WANTED  0x1000
%define D_X2APIC  0x1004
%define D_CR3     0x1008
%define D_STACK   0x1010
%define D_CPU     0x1018
%define D_ENTRY   0x1020
%define D_ROOT    0x1028

section .rodata progbits alloc noexec nowrite align=16
global trampoline_start, trampoline_end

trampoline_start:
bits 16
        cli
        cld
        mov ax, cs
        mov ds, ax
        movzx ebx, ax
        shl ebx, 4
        lgdt [gdt_pointer - trampoline_start]
        mov eax, CR0_PE
        mov cr0, eax
        jmp far dword [far32 - trampoline_start]

bits 32
stage32:
        mov ax, 0x10
        mov ds, ax
        mov ss, ax
        mov eax, CR4_PAE
        mov cr4, eax
        mov eax, [ebx + D_CR3]
        mov cr3, eax
        mov ecx, MSR_EFER
        rdmsr
        or eax, EFER_LME_NXE
        wrmsr
        mov eax, CR0_PG_WP_NE_ET_MP_PE
        mov cr0, eax
        jmp far [ebx + far64 - trampoline_start]

bits 64
stage64:
        mov r8d, ebx                    ; cpuid overwrites ebx
        xor eax, eax
        mov ds, eax
        mov ss, eax
        cmp dword [r8 + D_X2APIC], 0
        jne .x2apic
        mov eax, 1
        cpuid
        shr ebx, 24                     ; initial APIC id (SDM2 CPUID leaf 1)
        mov edx, ebx
        jmp .claim
.x2apic:
        mov eax, 0xb
        xor ecx, ecx
        cpuid                           ; edx: x2APIC id (leaf 0xb)
.claim:
        mov eax, edx
        mov ecx, CLAIMED
        lock cmpxchg [r8 + D_WANTED], ecx
        jne .late
        mov rsp, [r8 + D_STACK]
        mov rdi, [r8 + D_CPU]
        mov rsi, [r8 + D_ENTRY]
        mov r9, [r8 + D_ROOT]
        mov rax, ap_high
        jmp rax
.late:
        cli
        hlt
        jmp .late

align 8
gdt:    dq 0                            ; accessed bits set: the CPU would write them into this
        dq 0x00cf9b000000ffff           ; frame, which is read-only once paging is on (32-bit code,
        dq 0x00cf93000000ffff           ; data,
        dq 0x00209b0000000000           ; 64-bit code)
global trampoline_gdt_pointer, trampoline_far32, trampoline_far64
trampoline_gdt_pointer:
gdt_pointer:
        dw $ - gdt - 1
        dd gdt - trampoline_start
trampoline_far32:
far32:  dd stage32 - trampoline_start
        dw 0x08
trampoline_far64:
far64:  dd stage64 - trampoline_start
        dw 0x18
trampoline_end:

section .text progbits alloc exec nowrite align=16
extern smp_ap_main
; rdi: struct cpu, rsi: what to run, r9: the kernel's page table. The stack is the kernel's, and
; the code is; the last thing that needed the two low frames is behind us.
ap_high:
        mov cr3, r9
        mov eax, edi
        mov rdx, rdi
        shr rdx, 32
        mov ecx, MSR_GS_BASE
        wrmsr
        xor ebp, ebp
        call smp_ap_main
        ud2
