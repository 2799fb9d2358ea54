# Proofs that need a build of mm/ of their own; tools/proofs.py and tools/mutants.py run them.
#
#   build/host/fuzz_mm/test_corpus_mm   the corpus of the fuzzer of mm/, replayed (ASan, UBSan)
#   build/host/tsan/*                   real threads under ThreadSanitizer, and a race on purpose
#   build/coverage/test_corpus_mm       the corpus again, counting lines
#   build/fuzz/fuzz_mm                  the fuzzer itself (clang, libFuzzer)

.PHONY: fuzz-mm-programs proof-programs

FUZZ_MM      := $(wildcard tests/host/fuzz_mm/*.c)
FUZZ_MM_HOST := $(FUZZ_MM:%=$(B)/host/mm/%.o)
TSAN_PROGRAMS := $(addprefix $(B)/host/tsan/,test_threads test_guest_threads test_heaps planted_race)
TSAN_MM      := $(MM_SOURCES:%=$(B)/host/tsan/%.o)

proof-programs: $(B)/host/fuzz_mm/test_corpus_mm $(TSAN_PROGRAMS)
host-programs: proof-programs

$(B)/host/fuzz_mm/test_corpus_mm: $(FUZZ_MM_HOST) $(MM_HOST)
	@mkdir -p $(@D)
	@echo "  HOSTLD  $@"
	$(Q)$(CC) $(HOST_CFLAGS) -o $@ $^

TSAN_CFLAGS := -std=gnu11 -O1 -g -pthread -fsanitize=thread -fno-omit-frame-pointer \
               -Wall -Wextra -Wshadow $(WERROR) -Itests/host/port -I.
$(B)/host/tsan/%.c.o: %.c $(B)/host/flags.txt
	@mkdir -p $(@D)
	@echo "  TSANCC  $<"
	$(Q)$(CC) $(TSAN_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/host/tsan/test_threads: $(B)/host/tsan/tests/host/mm/test_threads.c.o $(TSAN_MM)
	@echo "  TSANLD  $@"
	$(Q)$(CC) $(TSAN_CFLAGS) -o $@ $^
# Guests see another arch.h, which has a few types more.
TSAN_GUEST := tests/host/guest/test_guest_threads.c guest/memory.c guest/touch.c guest/gather.c \
              guest/check.c
TSAN_GUEST_OBJECTS := $(TSAN_GUEST:%=$(B)/host/tsan/guest-kind/%.o)
$(TSAN_GUEST_OBJECTS): $(B)/host/tsan/guest-kind/%.c.o: %.c $(B)/host/flags.txt
	@mkdir -p $(@D)
	@echo "  TSANCC  $<"
	$(Q)$(CC) -Itests/host/guest $(TSAN_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/host/tsan/test_guest_threads: $(TSAN_GUEST_OBJECTS) $(TSAN_MM)
	@echo "  TSANLD  $@"
	$(Q)$(CC) $(TSAN_CFLAGS) -o $@ $^
-include $(TSAN_GUEST_OBJECTS:.o=.d)

$(B)/host/tsan/test_heaps: $(B)/host/tsan/tests/host/mm/test_heaps.c.o $(TSAN_MM)
	@echo "  TSANLD  $@"
	$(Q)$(CC) $(TSAN_CFLAGS) -o $@ $^
$(B)/host/tsan/planted_race: $(B)/host/tsan/tests/host/tsan/planted_race.c.o $(TSAN_MM)
	@echo "  TSANLD  $@"
	$(Q)$(CC) $(TSAN_CFLAGS) -o $@ $^

# Not optimised, so that a line is a line. Only mm/ is counted.
COVERAGE_CFLAGS := -std=gnu11 -O0 -g -pthread -Wall -Wextra $(WERROR) -Itests/host/port -I.
COVERAGE_MM     := $(wildcard mm/*.c mm/strategy/*.c)
COVERAGE_REST   := $(filter-out mm/%,$(MM_SOURCES)) $(CLASSIC_MM) $(FUZZ_MM)
$(COVERAGE_MM:%=$(B)/coverage/%.o): COVERAGE := --coverage
$(B)/coverage/%.c.o: %.c
	@mkdir -p $(@D)
	@echo "  COVCC   $<"
	$(Q)$(CC) $(COVERAGE_CFLAGS) $(COVERAGE) -MMD -MP -c -o $@ $<
$(B)/coverage/test_corpus_mm: $(COVERAGE_MM:%=$(B)/coverage/%.o) $(COVERAGE_REST:%=$(B)/coverage/%.o)
	@echo "  COVLD   $@"
	$(Q)$(CC) $(COVERAGE_CFLAGS) --coverage -o $@ $^

# libFuzzer is guided by mm/ alone: not by the oracle, nor by the walker.
CLANG_CFLAGS := -std=gnu11 -O2 -g -pthread -fsanitize=address,undefined \
                -fno-sanitize-recover=all -fno-omit-frame-pointer -Wall -Wextra -Wshadow \
                $(WERROR) -DFUZZ_ALONE -Itests/host/port -I.
FUZZ_GUIDES  := $(filter-out mm/check.c,$(COVERAGE_MM))
FUZZ_REST    := mm/check.c $(filter-out %/test_corpus_mm.c,$(COVERAGE_REST))
$(FUZZ_GUIDES:%=$(B)/fuzz/mm/%.o): GUIDE := -fsanitize=fuzzer-no-link
$(B)/fuzz/mm/%.c.o: %.c
	@mkdir -p $(@D)
	@echo "  CLANG   $<"
	$(Q)clang $(CLANG_CFLAGS) $(GUIDE) -MMD -MP -c -o $@ $<
$(B)/fuzz/fuzz_mm: $(FUZZ_GUIDES:%=$(B)/fuzz/mm/%.o) $(FUZZ_REST:%=$(B)/fuzz/mm/%.o)
	@echo "  CLANG   $@"
	$(Q)clang $(CLANG_CFLAGS) -fsanitize=fuzzer -o $@ $^
fuzz-mm-programs: $(B)/fuzz/fuzz_mm

-include $(FUZZ_MM_HOST:.o=.d) $(TSAN_MM:.o=.d) $(COVERAGE_MM:%=$(B)/coverage/%.d)
-include $(wildcard $(B)/host/tsan/tests/host/*/*.d $(B)/coverage/tests/host/*/*.d)
-include $(wildcard $(B)/fuzz/mm/*.d $(B)/fuzz/mm/*/*.d $(B)/fuzz/mm/tests/host/*/*.d)
