# The explorer: mm/ and the idle loop as they are, over the arch.h of this directory.
#
# Without sanitizers: the CPUs are stacks that it switches by itself. What mm/ keeps in .data and
# .bss gets sections of its own, which are put back before each execution.

EXPLORE_CFLAGS := -std=gnu11 -O2 -g -fno-pie -fno-strict-aliasing -fcf-protection=none -Wall \
                  -Wextra -Wshadow -Wno-ignored-qualifiers $(WERROR) -Itests/host/explore -I.
EXPLORE_MM     := $(patsubst %,$(B)/host/explore/%.o,$(wildcard mm/*.c mm/strategy/*.c) $(CLASSIC_MM))
EXPLORE_HOST   := $(patsubst %,$(B)/host/explore/%.o,lib/map512.c lib/errors.c sched/idle.c \
                    $(wildcard tests/host/explore/*.c))
EXPLORE_TEST   := $(B)/host/explore/test_explore

host-programs: $(EXPLORE_TEST)

$(B)/host/explore/%.c.o: %.c $(B)/host/flags.txt
	@mkdir -p $(@D)
	@echo "  HOSTCC  $<"
	$(Q)$(CC) $(EXPLORE_CFLAGS) -MMD -MP -c -o $@ $<
	$(Q)$(if $(filter mm/%,$<),objcopy --rename-section .data=mm_data --rename-section .bss=mm_bss $@)

$(EXPLORE_TEST): $(EXPLORE_MM) $(EXPLORE_HOST)
	@echo "  HOSTLD  $@"
	$(Q)$(CC) -no-pie -o $@ $^

-include $(EXPLORE_MM:.o=.d) $(EXPLORE_HOST:.o=.d)
