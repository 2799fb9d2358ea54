# build/steps/limpid.elf: the kernel with mm/ and its maps compiled to call kernel/steps.c at every
# basic block, so that the longest hold of a zone lock can be counted. All other objects are those
# of the image itself. Without the table of functions: backtraces are plain addresses.
STEPS_ELF     := $(B)/steps/limpid.elf
STEPS_SOURCES := $(filter mm/% lib/map512.c,$(SOURCES))
STEPS_OBJECTS := $(patsubst %,$(B)/steps/%.o,$(STEPS_SOURCES)) \
                 $(patsubst %,$(B)/kernel/%.o,$(filter-out $(STEPS_SOURCES),$(SOURCES)))

$(B)/steps/%.c.o: %.c $(B)/kernel/flags.txt
	@mkdir -p $(@D)
	@echo "  CC      $< (steps)"
	$(Q)$(CC) $(CFLAGS) -fsanitize-coverage=trace-pc -MMD -MP -c -o $@ $<

$(STEPS_ELF): $(STEPS_OBJECTS) linker.ld $(B)/kernel/objects.txt
	@echo "  LD      $@"
	$(Q)$(LD) $(LDFLAGS) -T linker.ld --defsym=kernel_symbols=0 --defsym=kernel_nr_symbols=0 \
	    -o $@ $(STEPS_OBJECTS)

-include $(patsubst %,$(B)/steps/%.d,$(STEPS_SOURCES))
