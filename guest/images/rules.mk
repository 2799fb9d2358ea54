# How the guests are built: build/guests/NAME, an ELF64 program for each NAME.c of this directory,
# and build/guests.cpio with all of them. Included by the Makefile, which has B, Q, CC, LD, AS and
# PY. A guest of your own: put its NAME.c here.

MKCPIO ?= $(PY) tools/mkcpio.py

GUEST_DIR    := guest/images
GUEST_NAMES  := $(patsubst $(GUEST_DIR)/%.c,%,$(wildcard $(GUEST_DIR)/*.c))
GUEST_FILES  := $(GUEST_NAMES:%=$(B)/guests/%)
GUEST_LIB    := $(B)/guests/obj/start.o $(B)/guests/obj/lib.o
# No calls of memset() or memcpy() out of loops: those loops are memset() and memcpy().
GUEST_CFLAGS := -std=gnu11 -ffreestanding -fno-builtin -nostdinc \
                -isystem $(shell $(CC) -print-file-name=include 2>/dev/null) \
                -fno-pic -fno-pie -fno-stack-protector -fcf-protection=none \
                -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns \
                -O2 -g -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(WERROR) -I.
GUEST_LDFLAGS := -m elf_x86_64 -static -nostdlib --build-id=none -z max-page-size=4096 \
                 -z noexecstack -T $(GUEST_DIR)/lib/guest.ld

$(B)/guests/obj/%.o: $(GUEST_DIR)/%.c $(GUEST_DIR)/rules.mk
	@mkdir -p $(@D)
	@echo "  GUESTCC $<"
	$(Q)$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/guests/obj/lib.o: $(GUEST_DIR)/lib/lib.c $(GUEST_DIR)/rules.mk
	@mkdir -p $(@D)
	@echo "  GUESTCC $<"
	$(Q)$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/guests/obj/start.o: $(GUEST_DIR)/lib/start.asm $(GUEST_DIR)/rules.mk
	@mkdir -p $(@D)
	@echo "  GUESTAS $<"
	$(Q)$(AS) -f elf64 -o $@ $<

$(GUEST_FILES): $(B)/guests/%: $(B)/guests/obj/%.o $(GUEST_LIB) $(GUEST_DIR)/lib/guest.ld
	@echo "  GUESTLD $@"
	$(Q)$(LD) $(GUEST_LDFLAGS) -o $@ $(B)/guests/obj/$*.o $(GUEST_LIB)

$(B)/guests.cpio: $(GUEST_FILES) tools/mkcpio.py
	@echo "  CPIO    $@"
	$(Q)$(MKCPIO) $@ $(GUEST_FILES)

-include $(GUEST_NAMES:%=$(B)/guests/obj/%.d) $(B)/guests/obj/lib.d
