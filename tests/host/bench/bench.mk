# The benchmarks of the hosted build, and the test of their baseline.
#
#   build/host/bench/bench          all rows (tests/host/bench/main.c)
#   build/host/bench/steps          counts steps under a zone lock; the one above runs it
#   build/host/mm/test_classic      mm/classic/ under ASan and UBSan, with the other hosted tests

.PHONY: bench-programs

$(B)/host/mm/test_classic: $(TEXTBOOK:%=$(B)/host/mm/%.o)

# As the kernel is compiled, as far as that costs time or saves it; no sanitizer.
BENCH_CFLAGS := -std=gnu11 -O2 -g -pthread -fno-omit-frame-pointer -fno-optimize-sibling-calls \
                -fno-strict-aliasing -fno-stack-protector -fcf-protection=none -fno-pie -no-pie \
                -Wall -Wextra -Wshadow $(WERROR) -Itests/host/bench -I.
BENCH_MM     := $(filter-out tests/%,$(MM_SOURCES)) $(TEXTBOOK)
BENCH        := $(filter-out %/steps.c,$(wildcard tests/host/bench/*.c))
BENCH_HOST   := $(BENCH_MM:%=$(B)/host/bench/%.o) $(BENCH:%=$(B)/host/bench/%.o)
$(BENCH_MM:%=$(B)/host/bench/%.o): BENCH_CFLAGS += -mgeneral-regs-only -fno-builtin

$(B)/host/bench/%.c.o: %.c tests/host/bench/bench.mk
	@mkdir -p $(@D)
	@echo "  BENCHCC $<"
	$(Q)$(CC) $(BENCH_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/host/bench/bench: $(BENCH_HOST)
	@echo "  BENCHLD $@"
	$(Q)$(CC) $(BENCH_CFLAGS) -o $@ $^ -lm

# Only mm/ and the maps it stands on are counted.
STEPS_COUNTED := $(filter mm/% lib/map512.c,$(MM_SOURCES))
STEPS_REST    := tests/host/bench/steps.c tests/host/bench/machine.c lib/errors.c
STEPS_HOST    := $(STEPS_COUNTED:%=$(B)/host/steps/%.o) $(STEPS_REST:%=$(B)/host/steps/%.o)
$(STEPS_COUNTED:%=$(B)/host/steps/%.o): STEPS_COUNT := -fsanitize-coverage=trace-pc

$(B)/host/steps/%.c.o: %.c tests/host/bench/bench.mk
	@mkdir -p $(@D)
	@echo "  BENCHCC $<"
	$(Q)$(CC) $(BENCH_CFLAGS) -DBENCH_STEPS $(STEPS_COUNT) -MMD -MP -c -o $@ $<

$(B)/host/bench/steps: $(STEPS_HOST)
	@mkdir -p $(@D)
	@echo "  BENCHLD $@"
	$(Q)$(CC) $(BENCH_CFLAGS) -o $@ $^ -lm

bench-programs: $(B)/host/bench/bench $(B)/host/bench/steps

-include $(BENCH_HOST:.o=.d) $(STEPS_HOST:.o=.d) $(TEXTBOOK:%=$(B)/host/mm/%.d)
