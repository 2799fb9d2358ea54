# Limpid's front door. `make run` boots it, `make test` tests it; `make` alone says what else.
#
# A goal that people type first asks tools/doctor.sh for the tools that it needs, then builds in
# a second make: so rules below may take it for granted that every tool is there.
# What QEMU is told stands in tools/machine.py, what is tested in tools/test.py.

# ---- knobs -------------------------------------------------------------------------------------
# They reach tools/*.py through the environment: no quoting to get wrong. Empty: the default that
# tools/machine.py states.
CPUS     ?=
NODES    ?=
MEM      ?=
FIRMWARE ?=
ACCEL    ?=
APPEND   ?=
GDB      ?=
GDB_AT   ?= localhost:1234
DRYRUN   ?=
TIMEOUT  ?=
T        ?=
SEED     ?=
N        ?=
V        ?=
TIME     ?=
QUICK    ?=
RULE     ?=
RULES    ?=
KEEP     ?=
export CPUS NODES MEM FIRMWARE ACCEL APPEND GDB DRYRUN TIMEOUT T SEED N V B TIME QUICK KEEP
export PYTHONDONTWRITEBYTECODE = 1

# B=/tmp/mine builds and runs elsewhere.
B  := build
CC := gcc
LD := ld
AS := nasm
PY := python3

Q     := $(if $(filter 1,$(V)),,@)
# CI=true is set by .ci/run and by most build farms. Elsewhere a new compiler's new warning must
# not keep anybody from building.
WERROR := $(if $(filter true,$(CI)),-Werror)
JOBS  := $(shell nproc 2>/dev/null || echo 1)
# One more make with as many jobs as there are CPUs, unless a -j was given already.
BUILD  = $(Q)$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))
NEED  := $(if $(DRYRUN),@:,@sh tools/doctor.sh need)

# What T= has to be built for: one kind of test needs no other's programs.
TEST_PARTS := $(if $(filter-out host host.%,$(T)),images,host-programs $(if $(T),,images))
ELF    := $(B)/limpid.elf
GUESTS := $(B)/guests.cpio
ISO    := $(B)/limpid.iso

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# ---- goals that people type --------------------------------------------------------------------
.PHONY: help run test test-host soak iso explore fuzz fuzz-mm coverage mutants model bench-host compare list doctor fmt lint gdb clean images host-programs fuzz-programs
help:
	@sed -n 's/^## \{0,1\}//p' Makefile

## make run        boot in QEMU and tell the story; with a terminal, then the prompt
run:
	$(NEED) python build run $(FIRMWARE)
	@$(PY) tools/run.py --check
	$(if $(DRYRUN),,$(BUILD) images)
	@$(PY) tools/run.py

## make test       every test: hosted, in the kernel, from outside (T=suite.case: just that)
test:
	$(NEED) python build hosted run uefi gdb model
	@$(PY) tools/test.py --check
	$(if $(DRYRUN)$(filter tools model model.%,$(T)),,$(BUILD) $(TEST_PARTS))
	@$(PY) tools/test.py all

## make test-host  only the tests that run on this machine, with ASan and UBSan
test-host:
	$(NEED) python build hosted
	$(BUILD) host-programs
	@$(PY) tools/test.py host

## make soak       all boots of the tests N=20 times over, and the long forms of the slow proofs
soak:
	$(NEED) python build hosted run uefi model
	@$(PY) tools/test.py --check
	$(BUILD) images host-programs $(B)/coverage/test_corpus_mm
	@$(PY) tools/test.py soak

## make fuzz       libFuzzer on the parsers, TIME=60 seconds each; keeps what is new (T=acpi)
fuzz:
	$(NEED) python hosted fuzz
	$(BUILD) fuzz-programs
	@$(PY) tools/fuzz.py

## make fuzz-mm    libFuzzer on mm/, TIME=60 seconds; keeps what is new in its corpus
fuzz-mm:
	$(NEED) python hosted fuzz
	$(BUILD) fuzz-mm-programs
	@$(PY) tools/proofs.py fuzz

## make coverage   which lines of mm/ that corpus reaches: 95%, and reasons for the others
coverage:
	$(NEED) python build hosted
	$(BUILD) $(B)/coverage/test_corpus_mm
	@$(PY) tools/proofs.py coverage

## make mutants    mistakes made on purpose: each has to be found by a test (T=27: just that)
mutants:
	$(NEED) python build hosted
	$(BUILD) host-programs
	@$(PY) tools/mutants.py

## make model      the protocol as models, exhausted by spin (RULE=8: what goes wrong without rule
##                 8, as two columns; RULES=all: a table of what each rule is there for)
model:
	$(NEED) python hosted model
	@$(PY) tools/model.py $(if $(RULES),rules,$(if $(RULE),rule $(RULE)))

## make explore    schedules of mm/ enumerated, then sampled; one that breaks a promise is printed
##                 (SCENARIO=name BOUND=3 SECONDS=2 SEED=1; SCHEDULE=... replays, STEPS=1: all)
explore:
	$(NEED) build hosted
	$(BUILD) $(B)/host/explore/test_explore
	@$(B)/host/explore/test_explore $(if $(SCENARIO),$(SCENARIO)) $(if $(BOUND),bound=$(BOUND)) \
	    $(if $(SECONDS),seconds=$(SECONDS)) $(if $(SEED),seed=$(SEED)) $(if $(STEPS),steps) \
	    $(if $(SCHEDULE),schedule=$(SCHEDULE)) $(if $(filter list,$(T)),list)

## make bench-host the speed of mm/ on this machine against its baselines (QUICK=1: in seconds)
bench-host:
	$(NEED) python build hosted
	$(BUILD) bench-programs
	@$(B)/host/bench/bench $(B)
	@sh tests/host/bench/plot.sh $(B)

## make compare    every strategy of the thread through the nine promises and the same work; tables
##                 and plots in build/compare/ (T=eager,claim: just these; KEEP=1: into docs/)
compare:
	$(NEED) python build hosted run
	$(BUILD) images $(STEPS_ELF) $(EXPLORE_TEST)
	@$(PY) tools/compare.py

## make list       the suites and cases that T= takes
list:
	$(NEED) python
	@$(PY) tools/test.py list

## make iso        build/limpid.iso, build/limpid.elf, build/guests.cpio
iso:
	$(NEED) python build
	$(BUILD) images
	@ls -l $(ISO) $(ELF) $(GUESTS)

## make gdb        a debugger on a `make run GDB=1` in another terminal; `help limpid` there
gdb:
	$(NEED) python build gdb
	gdb -q -x tools/gdb/limpid.py -ex 'target remote $(GDB_AT)' $(ELF)

## make lint       format, include direction, what must not stand in the tree
lint:
	$(NEED) python lint
	@$(PY) tools/lint.py

## make fmt        format the C sources
fmt:
	$(NEED) python lint
	@$(PY) tools/lint.py --fix

## make doctor     which tools are there and which are missing
doctor:
	@sh tools/doctor.sh report

## make clean      remove build/
clean:
	rm -rf $(B)

##
## Knobs: CPUS=4 NODES=2 MEM=1G FIRMWARE=bios|uefi|pvh ACCEL=tcg|kvm APPEND='words'
##        GDB=1 (wait for a debugger)  DRYRUN=1 (say the QEMU line)  V=1 (say every command)
##        TIMEOUT=seconds  T=suite.case  SEED=number  N=rounds  TIME=seconds

# ---- the kernel --------------------------------------------------------------------------------
images: $(ELF) $(GUESTS) $(ISO)

CFLAGS := -std=gnu11 -ffreestanding -fno-builtin -nostdinc \
          -isystem $(shell $(CC) -print-file-name=include 2>/dev/null) \
          -mno-red-zone -mgeneral-regs-only -mcmodel=kernel -fno-pic -fno-pie \
          -fno-stack-protector -fno-omit-frame-pointer -fno-optimize-sibling-calls \
          -fno-asynchronous-unwind-tables -fno-strict-aliasing -fcf-protection=none \
          -O2 -g -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(WERROR) \
          -I. -Iarch/x86_64
ASFLAGS := -f elf64 -g -F dwarf -I./ -Iarch/x86_64/ $(if $(WERROR),-Werror)
# No libgcc: its functions use the red zone, which an interrupt in the kernel would overwrite.
LDFLAGS := -m elf_x86_64 -static -nostdlib --build-id=none -z max-page-size=4096 -z noexecstack

# The textbook allocator in its plain form is only measured and tested on the host.
TEXTBOOK   := mm/classic/classic.c mm/classic/classic_pcp.c
CLASSIC_MM := $(filter-out $(TEXTBOOK),$(wildcard mm/classic/*.c mm/classic/strategy/*.c))
SOURCES := $(wildcard $(addsuffix /*.c,lib arch/x86_64 mm mm/strategy sched guest kernel \
             kernel/bench kernel/work kernel/promise tests)) \
           $(CLASSIC_MM) $(wildcard arch/x86_64/*.asm)
OBJECTS := $(patsubst %,$(B)/kernel/%.o,$(SOURCES))

# Objects of sources that are gone must not stay in the image, and other flags are other objects:
# both lists are files that change only when their text does.
define text_file # file, text
$(shell mkdir -p $(dir $(1)); printf '%s\n' '$(2)' | cmp -s - $(1) || printf '%s\n' '$(2)' > $(1))
endef
ifneq ($(filter images host-programs $(B)/%,$(MAKECMDGOALS)),)
$(call text_file,$(B)/kernel/objects.txt,$(OBJECTS))
$(call text_file,$(B)/kernel/flags.txt,$(CC) $(CFLAGS) $(ASFLAGS))
endif
$(B)/kernel/objects.txt $(B)/kernel/flags.txt:

# Twice: the kernel has a table of its own functions, for backtraces, and only a link tells where
# they are. The table must not have moved them.
TABLE := $(B)/kernel/table

$(ELF): $(OBJECTS) linker.ld tools/symbols.py $(B)/kernel/objects.txt
	@echo "  LD      $@"
	$(Q)$(LD) $(LDFLAGS) -T linker.ld --defsym=kernel_symbols=0 --defsym=kernel_nr_symbols=0 \
	    -o $(TABLE).elf $(OBJECTS)
	$(Q)nm -n $(TABLE).elf | $(PY) tools/symbols.py > $(TABLE).c
	$(Q)$(CC) $(CFLAGS) -g0 -c -o $(TABLE).o $(TABLE).c
	$(Q)$(LD) $(LDFLAGS) -T linker.ld -o $@ $(OBJECTS) $(TABLE).o
	$(Q)nm -n $@ | $(PY) tools/symbols.py | cmp - $(TABLE).c

$(B)/kernel/%.c.o: %.c $(B)/kernel/flags.txt
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/kernel/%.asm.o: %.asm $(B)/kernel/flags.txt
	@mkdir -p $(@D)
	@echo "  AS      $<"
	$(Q)$(AS) $(ASFLAGS) -MD $(@:.o=.d) -MT $@ -MP -o $@ $<

include kernel/steps.mk

# The guests: build/guests.cpio.
-include guest/images/rules.mk

$(ISO): $(ELF) $(GUESTS) iso/grub.cfg
	@echo "  ISO     $@"
	@rm -rf $(B)/iso
	@mkdir -p $(B)/iso/boot/grub
	@cp $(ELF) $(GUESTS) $(B)/iso/boot/
	@cp iso/grub.cfg $(B)/iso/boot/grub/
	$(Q)grub-mkrescue --locales= --fonts= --themes= -o $@ $(B)/iso >$(B)/iso.log 2>&1 || { cat $(B)/iso.log; exit 1; }

# ---- the hosted tests --------------------------------------------------------------------------
# tests/host/lib/test_*.c: the pure parsers. tests/host/mm/test_*.c: mm/ itself, unchanged, over
# the arch.h of tests/host/port/.
HOST_CFLAGS := -std=gnu11 -O1 -g -pthread -fsanitize=address,undefined -fno-sanitize-recover=all \
               -fno-omit-frame-pointer -Wall -Wextra -Wshadow $(WERROR)

LIB_PARTS := acpi memmap multiboot2 pvh cpio elf64 words errors map512 printf
LIB_HOST  := $(patsubst %,$(B)/host/lib/%.o,$(wildcard $(LIB_PARTS:%=lib/%.c)))
LIB_TESTS := $(patsubst tests/host/lib/%.c,$(B)/host/lib/%,$(wildcard tests/host/lib/test_*.c))
MM_SOURCES := $(wildcard mm/*.c mm/strategy/*.c) $(CLASSIC_MM) lib/map512.c lib/errors.c \
              $(wildcard tests/host/port/*.c)
MM_HOST   := $(patsubst %,$(B)/host/mm/%.o,$(MM_SOURCES))
MM_TESTS  := $(patsubst tests/host/mm/%.c,$(B)/host/mm/%,$(wildcard tests/host/mm/test_*.c))
# tests/host/guest/: a guest's map of memory, over the same mm/.
GUEST_HOST  := $(patsubst %,$(B)/host/guest/%.o,guest/memory.c guest/touch.c guest/gather.c \
                 guest/check.c)
GUEST_TESTS := $(patsubst tests/host/guest/%.c,$(B)/host/guest/%,\
                 $(wildcard tests/host/guest/test_*.c))

host-programs: $(LIB_TESTS) $(MM_TESTS) $(GUEST_TESTS) $(B)/host/fuzz/test_corpus

ifneq ($(filter host-programs $(B)/%,$(MAKECMDGOALS)),)
$(call text_file,$(B)/host/flags.txt,$(CC) $(HOST_CFLAGS) $(MM_SOURCES))
endif
$(B)/host/flags.txt:

# The kernel's printf beside libc's: under names of its own.
$(B)/host/lib/lib/printf.c.o: HOST_DEFINES := \
    -Dvsnprintf=limpid_vsnprintf -Dsnprintf=limpid_snprintf

$(B)/host/lib/%.c.o: %.c $(B)/host/flags.txt
	@mkdir -p $(@D)
	@echo "  HOSTCC  $<"
	$(Q)$(CC) $(HOST_CFLAGS) $(HOST_DEFINES) -I. -MMD -MP -c -o $@ $<

$(B)/host/mm/%.c.o: %.c $(B)/host/flags.txt
	@mkdir -p $(@D)
	@echo "  HOSTCC  $<"
	$(Q)$(CC) $(HOST_CFLAGS) -Itests/host/port -I. -MMD -MP -c -o $@ $<

$(B)/host/guest/%.c.o: %.c $(B)/host/flags.txt
	@mkdir -p $(@D)
	@echo "  HOSTCC  $<"
	$(Q)$(CC) $(HOST_CFLAGS) -Itests/host/guest -Itests/host/port -I. -MMD -MP -c -o $@ $<

$(LIB_TESTS): $(B)/host/lib/%: $(B)/host/lib/tests/host/lib/%.c.o $(LIB_HOST)
	@echo "  HOSTLD  $@"
	$(Q)$(CC) $(HOST_CFLAGS) -o $@ $^

$(MM_TESTS): $(B)/host/mm/%: $(B)/host/mm/tests/host/mm/%.c.o $(MM_HOST)
	@echo "  HOSTLD  $@"
	$(Q)$(CC) $(HOST_CFLAGS) -o $@ $^

$(GUEST_TESTS): $(B)/host/guest/%: $(B)/host/guest/tests/host/guest/%.c.o $(GUEST_HOST) $(MM_HOST)
	@echo "  HOSTLD  $@"
	$(Q)$(CC) $(HOST_CFLAGS) -o $@ $^

# tests/host/fuzz/: one target a parser. test_corpus replays what is kept of their inputs; make
# fuzz builds each with libFuzzer, which needs clang.
FUZZ      := acpi multiboot2 pvh memmap cpio elf64 words
FUZZ_HOST := $(FUZZ:%=$(B)/host/lib/tests/host/fuzz/fuzz_%.c.o) \
             $(B)/host/lib/tests/host/fuzz/test_corpus.c.o
$(B)/host/fuzz/test_corpus: $(FUZZ_HOST) $(LIB_HOST)
	@mkdir -p $(@D)
	@echo "  HOSTLD  $@"
	$(Q)$(CC) $(HOST_CFLAGS) -o $@ $^

fuzz-programs: $(FUZZ:%=$(B)/fuzz/fuzz_%)
$(B)/fuzz/fuzz_%: tests/host/fuzz/fuzz_%.c $(FUZZ:%=lib/%.c) $(wildcard lib/*.h tests/host/fuzz/*.h)
	@mkdir -p $(@D)
	@echo "  CLANG   $@"
	$(Q)clang -std=gnu11 -O2 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
	    -Wall -Wextra -Wshadow $(WERROR) -DFUZZ_ALONE -I. -o $@ $(filter %.c,$^)

include tests/host/proofs.mk

include tests/host/bench/bench.mk

include tests/host/explore/explore.mk

# Kept, so that a second build is quick; make would remove them as intermediates.
.SECONDARY:

# What each object was made of, written by the compilers above.
-include $(OBJECTS:.o=.d)
-include $(LIB_HOST:.o=.d) $(MM_HOST:.o=.d) $(FUZZ_HOST:.o=.d)
-include $(LIB_TESTS:$(B)/host/lib/%=$(B)/host/lib/tests/host/lib/%.c.d)
-include $(MM_TESTS:$(B)/host/mm/%=$(B)/host/mm/tests/host/mm/%.c.d)
-include $(GUEST_HOST:.o=.d)
-include $(GUEST_TESTS:$(B)/host/guest/%=$(B)/host/guest/tests/host/guest/%.c.d)
