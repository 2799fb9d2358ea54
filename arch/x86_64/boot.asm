; The way in: two loaders, one kernel_main().
;
; GRUB (multiboot2, section 3.3) and QEMU's -kernel (PVH) both enter in 32-bit protected mode
; with flat segments, paging off and interrupts off. This file checks that the CPU has what
; Limpid cannot do without, builds page tables that are good enough to reach C, and goes there.
;
; Early map, 2 MiB pages, everything writable and executable: physical 0 to 4 GiB at the same
; address and physical 0 to 1 GiB at KERNEL_BASE. paging_init() replaces it with the real one.
; Next: arch/x86_64/paging.c, kernel/main.c.

KERNEL_BASE     equ 0xffffffff80000000
PVH_START_MAGIC equ 0x336ec578          ; how kernel_main() learns that it was PVH

MSR_EFER        equ 0xc0000080          ; APM2 3.1.7
EFER_LME        equ 1 << 8
EFER_NXE        equ 1 << 11
CR0_PE_MP_ET_NE equ 0x33
CR0_WP          equ 1 << 16
CR0_PG          equ 1 << 31
CR4_PAE         equ 1 << 5

PTE_P_RW        equ 3
PTE_P_RW_PS     equ 0x83

extern kernel_main, image_phys_end

; ---- headers -----------------------------------------------------------------------------------
section .boot.header progbits alloc noexec nowrite align=8

multiboot2_header:                      ; multiboot2, 3.1.1
        dd 0xe85250d6
        dd 0                            ; i386, protected mode
        dd multiboot2_header_end - multiboot2_header
        dd -(0xe85250d6 + 0 + (multiboot2_header_end - multiboot2_header))

        ; No EFI tags: GRUB leaves boot services and enters here under either firmware.
        ; No relocatable tag: the image is not position-independent.
        align 8
        dw 5, 1                         ; framebuffer, optional (3.1.10)
        dd 20
        dd 1024, 768, 32
        align 8
        dw 6, 0                         ; modules on frame borders (3.1.11)
        dd 8
        align 8
        dw 0, 0                         ; the end
        dd 8
multiboot2_header_end:

; XEN_ELFNOTE_PHYS32_ENTRY (Xen public/elfnote.h): where to enter, 32 bit, paging off.
section .note.pvh note alloc noexec nowrite align=4
        dd 4                            ; length of the name
        dd 8                            ; length of the value
        dd 18
        db 'Xen', 0
        dq boot_pvh

; ---- 32 bit, paging off, at the physical address -----------------------------------------------
section .boot.text progbits alloc exec nowrite align=16
bits 32

global boot_multiboot2
boot_multiboot2:
        mov edi, eax
        jmp boot_common

boot_pvh:
        mov edi, PVH_START_MAGIC

; edi: who loaded us, ebx: physical address of what it has to say
boot_common:
        cli
        cld
        ; QEMU loads an image that ends beyond the memory, too. Is the end of .bss there?
        mov eax, 0x5aa5c33c
        mov [image_phys_end - 4], eax
        xor eax, [image_phys_end - 4]
        mov [image_phys_end - 4], eax   ; zero again
        jnz .no_memory
        mov esp, boot_stack_top - KERNEL_BASE
        mov [boot_info_saved - KERNEL_BASE], ebx

        rdtsc                           ; time_ns() counts from here
        mov [time_entry_tsc - KERNEL_BASE], eax
        mov [time_entry_tsc - KERNEL_BASE + 4], edx

        mov eax, 0x80000000
        cpuid
        cmp eax, 0x80000001
        jb .no_long_mode
        mov eax, 0x80000001
        cpuid
        bt edx, 29                      ; LM (APM3 E.4.2)
        jnc .no_long_mode
        bt edx, 20                      ; NX
        jnc .no_nx

        ; 2048 entries in four adjoining directories: physical 0 to 4 GiB.
        mov ecx, 0
        mov eax, PTE_P_RW_PS
.fill:
        mov [boot_directories - KERNEL_BASE + ecx * 8], eax
        mov dword [boot_directories - KERNEL_BASE + ecx * 8 + 4], 0
        add eax, 0x200000
        inc ecx
        cmp ecx, 2048
        jb .fill

        mov eax, boot_directories - KERNEL_BASE + PTE_P_RW
        mov [boot_pdpt_low - KERNEL_BASE], eax
        mov [boot_pdpt_high - KERNEL_BASE + 510 * 8], eax
        add eax, 0x1000
        mov [boot_pdpt_low - KERNEL_BASE + 8], eax
        add eax, 0x1000
        mov [boot_pdpt_low - KERNEL_BASE + 16], eax
        add eax, 0x1000
        mov [boot_pdpt_low - KERNEL_BASE + 24], eax
        mov dword [boot_pml4 - KERNEL_BASE], boot_pdpt_low - KERNEL_BASE + PTE_P_RW
        mov dword [boot_pml4 - KERNEL_BASE + 511 * 8], boot_pdpt_high - KERNEL_BASE + PTE_P_RW

        ; Long mode is on when PAE, LME and PG are (APM2 14.6.1).
        mov eax, CR4_PAE
        mov cr4, eax
        mov eax, boot_pml4 - KERNEL_BASE
        mov cr3, eax
        mov ecx, MSR_EFER
        rdmsr
        or eax, EFER_LME | EFER_NXE
        wrmsr
        mov eax, CR0_PG | CR0_WP | CR0_PE_MP_ET_NE
        mov cr0, eax

        lgdt [boot_gdt_pointer]
        jmp 0x08:boot_long

.no_memory:
        mov esi, boot_text_no_memory
        jmp boot_refuse
.no_long_mode:
        mov esi, boot_text_no_long_mode
        jmp boot_refuse
.no_nx:
        mov esi, boot_text_no_nx

; Says the text at esi on COM1 and leaves, or stops. Bounded: there may be no UART.
boot_refuse:
        mov ecx, 100000
.wait:
        mov dx, 0x3fd
        in al, dx
        test al, 0x20                   ; transmitter empty (16550, LSR)
        jnz .ready
        loop .wait
.ready:
        lodsb
        test al, al
        jz .halt
        mov dx, 0x3f8
        out dx, al
        jmp boot_refuse
.halt:
        mov dx, 0xf4                    ; QEMU's isa-debug-exit, if it is there (arch.h)
        mov eax, 0x12                   ; EXIT_PANIC
        out dx, eax
.forever:
        cli
        hlt
        jmp .forever

bits 64
boot_long:
        xor eax, eax
        mov ds, eax
        mov es, eax
        mov fs, eax
        mov gs, eax
        mov ss, eax
        mov rax, boot_high
        jmp rax

align 8
boot_gdt:
        dq 0
        dq 0x00209b0000000000           ; 64-bit code (APM2 4.8.1)
boot_gdt_pointer:
        dw $ - boot_gdt - 1
        dd boot_gdt

boot_text_no_memory: db 'Limpid: the memory ends before the image does', 13, 10, 0
boot_text_no_long_mode: db 'Limpid: this CPU has no long mode', 13, 10, 0
boot_text_no_nx: db 'Limpid: this CPU has no NX bit', 13, 10, 0

; ---- 64 bit, where it is linked ----------------------------------------------------------------
section .text progbits alloc exec nowrite align=16
boot_high:
        mov rsp, boot_stack_top
        xor ebp, ebp                    ; the end of every chain of stack frames
        mov edi, edi                    ; the upper halves are undefined after the mode switch
        mov esi, [rel boot_info_saved]
        call kernel_main
        ud2                             ; kernel_main() does not come back

section .data progbits alloc noexec write align=8
global time_entry_tsc
time_entry_tsc: dq 0
boot_info_saved: dd 0

; The stacks of the boot CPU that must exist before there is memory. paging_init() unmaps each
; page named guard: who runs off a stack faults instead of writing over its neighbour.
section .bss nobits alloc noexec write align=4096
global boot_stacks, boot_stacks_end
boot_stacks:
boot_stack_guard:
        resb 4096
        resb 16384                      ; KSTACK_SIZE
global boot_stack_top
boot_stack_top:
        ; four IST stacks: #DF, NMI, #MC, #DB; each a guard page and IST_STACK_SIZE
global boot_ist_stacks
boot_ist_stacks:
        resb 4 * (4096 + 8192)
boot_stacks_end:

boot_pml4:              resb 4096
boot_pdpt_low:          resb 4096
boot_pdpt_high:         resb 4096
boot_directories:       resb 4 * 4096
