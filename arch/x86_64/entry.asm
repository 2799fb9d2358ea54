; The ways into the kernel from outside it, and the way between threads.
;
;   trap stubs        256 of them; push the vector (and 0 where the CPU pushes no error code)
;   trap_common       ordinary traps: from ring 3 swap GS, build a struct trapframe, call C
;   trap_paranoid     #DB, NMI, #DF, #MC, each on an IST stack: they may hit between the entry
;                     of a hypercall and its swapgs, where CS says ring 0 but GS is still the
;                     guest's. So they look at the GS base itself: ours is negative, a guest
;                     cannot make its own so (no FSGSBASE, no wrmsr).
;   hypercall_entry   the syscall instruction (APM2 6.1.1): no stack switch, rip in rcx, flags
;                     in r11; SFMASK has cleared IF, DF, TF, NT and AC
;   trap_return       out again, always by iretq: sysret would fault in ring 0 on a guest's
;                     stack if rip were not canonical
;
; Interrupt gates leave AC as ring 3 had it; with AC set SMAP is off, so it is cleared here.
; Offsets of struct trapframe (trap.h): cr2 0, r15 8 ... rax 120, vector 128, error 136,
; rip 144, cs 152, rflags 160, rsp 168, ss 176; 184 bytes.

extern trap_handle
extern trap_handle_paranoid
extern hypercall_handle
extern user_return_prepare
extern cpu_has_smap

%define TF_VECTOR 128
%define TF_RIP    144
%define TF_CS     152
%define TF_SIZE   184
%define GS_USER_RSP   8                 ; struct cpu (cpu.h)
%define GS_KERNEL_RSP 16
USER_DS           equ 0x1b
USER_CS           equ 0x23
TRAP_HYPERCALL    equ 256
TRAP_DB           equ 1
MSR_GS_BASE       equ 0xc0000101

%macro PUSH_REGISTERS 0
        push rax
        push rbx
        push rcx
        push rdx
        push rsi
        push rdi
        push rbp
        push r8
        push r9
        push r10
        push r11
        push r12
        push r13
        push r14
        push r15
%endmacro

%macro POP_REGISTERS 0
        pop r15
        pop r14
        pop r13
        pop r12
        pop r11
        pop r10
        pop r9
        pop r8
        pop rbp
        pop rdi
        pop rsi
        pop rdx
        pop rcx
        pop rbx
        pop rax
%endmacro

; As if what was interrupted had called us: a frame for the chain that a backtrace follows
; (freeze.h). rsp: the struct trapframe. Of ring 3 only the address is told, its rbp is a guest's.
%macro STACK_FRAME 0
        push qword [rsp + TF_RIP]
        push rbp
        mov rbp, rsp
%endmacro
global trap_handled, trap_handled_paranoid

; AC off. clac only where the CPU has it.
%macro CLEAR_AC 0
        cmp byte [rel cpu_has_smap], 0
        je %%none
        clac
%%none:
%endmacro

section .text progbits alloc exec nowrite align=16

; ---- stubs -------------------------------------------------------------------------------------
; The CPU pushes an error code for these (APM2 8.2): #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX
%define HAS_ERROR(v) ((v) == 8 || ((v) >= 10 && (v) <= 14) || (v) == 17 || (v) == 21 || (v) == 29 || (v) == 30)
%define IS_PARANOID(v) ((v) == 1 || (v) == 2 || (v) == 8 || (v) == 18)

%assign v 0
%rep 256
align 16
trap_stub_ %+ v:
    %if !HAS_ERROR(v)
        push 0
    %endif
        push v
    %if IS_PARANOID(v)
        jmp trap_paranoid
    %else
        jmp trap_common
    %endif
    %assign v v + 1
%endrep

; ---- ordinary traps ----------------------------------------------------------------------------
align 16
trap_common:
        cld
        PUSH_REGISTERS
        test byte [rsp + TF_CS - 8], 3
        jz .kernel
        swapgs
        xor ebp, ebp                    ; the chain of stack frames ends here
.kernel:
        CLEAR_AC
        mov rax, cr2
        push rax
trap_call:
        mov rdi, rsp
        mov rbx, rsp
        STACK_FRAME
        and rsp, -16
        call trap_handle                ; interrupts are off again when it comes back
trap_handled:
        mov rsp, rbx
trap_leave:
        add rsp, 8                      ; cr2
        test byte [rsp + TF_CS - 8], 3
        jz .kernel
        swapgs
.kernel:
        POP_REGISTERS
        add rsp, 16                     ; vector, error
        iretq

; void trap_return(struct trapframe *tf): to ring 3 for the first time
global trap_return
trap_return:
        mov rsp, rdi
        mov rbx, rdi
        and rsp, -16
        call user_return_prepare
        mov rsp, rbx
        jmp trap_leave

; ---- traps that trust nothing ------------------------------------------------------------------
align 16
trap_paranoid:
        cld
        PUSH_REGISTERS
        CLEAR_AC
        mov rax, cr2
        push rax

        ; #DB from ring 3 is a guest's own fault: it may be killed for it, and interrupts come on,
        ; so it has to leave the IST stack before the next #DB overwrites it.
        cmp qword [rsp + TF_VECTOR], TRAP_DB
        jne .stay
        test byte [rsp + TF_CS], 3
        jz .stay
        swapgs
        xor ebp, ebp
        mov rsi, rsp
        mov rdi, [gs:GS_KERNEL_RSP]
        sub rdi, TF_SIZE
        mov rax, rdi
        mov ecx, TF_SIZE / 8
        rep movsq
        mov rsp, rax
        jmp trap_call

.stay:
        xor r12d, r12d
        mov ecx, MSR_GS_BASE
        rdmsr
        test edx, edx
        js .ours
        swapgs
        inc r12d
.ours:
        mov rdi, rsp
        mov rbx, rsp
        STACK_FRAME
        and rsp, -16
        call trap_handle_paranoid
trap_handled_paranoid:
        mov rsp, rbx
        test r12d, r12d
        jz .leave
        swapgs
.leave:
        add rsp, 8
        POP_REGISTERS
        add rsp, 16
        iretq

; ---- hypercalls --------------------------------------------------------------------------------
align 16
global hypercall_entry
hypercall_entry:
        swapgs
        mov [gs:GS_USER_RSP], rsp
        mov rsp, [gs:GS_KERNEL_RSP]
        push USER_DS
        push qword [gs:GS_USER_RSP]
        push r11
        push USER_CS
        push rcx
        push 0                          ; error
        push TRAP_HYPERCALL
        PUSH_REGISTERS
        push 0                          ; cr2
        xor ebp, ebp
        mov rdi, rsp
        mov rbx, rsp
        and rsp, -16
        call hypercall_handle
        mov rsp, rbx
        jmp trap_leave

; ---- threads -----------------------------------------------------------------------------------
; void stack_switch(u64 *save_rsp, u64 next_rsp): the registers that a C function must keep stay
; on the old stack; the rest is dead across a call.
global stack_switch
stack_switch:
        push rbp
        push rbx
        push r12
        push r13
        push r14
        push r15
        mov [rdi], rsp
        mov rsp, rsi
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbx
        pop rbp
        ret

; A new thread comes out of stack_switch() here: r12 is its function, r13 the argument.
global thread_begin
thread_begin:
        xor ebp, ebp
        mov rdi, r13
        call r12
        ud2                             ; a thread ends in thread_exit(), not by returning

section .rodata progbits alloc noexec nowrite align=8
global trap_stubs
trap_stubs:
%assign v 0
%rep 256
        dq trap_stub_ %+ v
    %assign v v + 1
%endrep
