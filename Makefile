# One Makefile, no recursion. `make help` lists the targets.
#
# Objects are in $(B)/<variant>/, programs of all variants in $(B)/: after a change of MODE, SAN or CC
# the programs are linked again (see the stamps below). Source lists are wildcards, so a new file
# needs no line here.

VERSION := 0.1.0

B      ?= build
MODE   ?= release
SAN    ?=
T      ?=
PREFIX ?= /usr/local
ifeq ($(origin CC),default)
CC := gcc
endif

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

ifeq ($(filter $(MODE),release debug),)
$(error MODE must be release or debug)
endif
comma := ,
ifneq ($(filter-out address undefined thread,$(subst $(comma), ,$(SAN))),)
$(error SAN must be address, undefined, thread, or address,undefined)
endif

# ---- flags ----

V := $(MODE)$(addprefix -,$(subst $(comma),-,$(SAN)))
O := $(B)/$(V)

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef -Wvla
OPT_release := -O3 -g -DSHOAL_DEBUG=0
OPT_debug   := -O0 -g3 -DSHOAL_DEBUG=1
SANFLAGS    := $(addprefix -fsanitize=,$(SAN)) $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=all)

# An empty _GNU_SOURCE, so that a file that defines it itself does not define it differently.
# CFLAGS and LDFLAGS come from the caller and are last.
SH_CPPFLAGS := -I. -D_GNU_SOURCE= -DSHOAL_VERSION='"$(VERSION)"'
SH_CFLAGS   := -std=gnu11 $(WARN) $(OPT_$(MODE)) $(if $(SAN),-O1) $(SANFLAGS) -fno-omit-frame-pointer -pthread
SH_LDFLAGS  := $(SANFLAGS) -pthread -Wl,--as-needed
MODFLAGS    := -std=gnu11 $(WARN) -shared -fPIC -O2 -g -fno-omit-frame-pointer -idirafter core

# A goroutine may return from a call in another process, so callers in worker/ must not rely on registers
# that a callee happens not to change (gcc's -fipa-ra). clang has neither this optimization nor the flag.
NO_IPA_RA := $(shell $(CC) -Werror -fno-ipa-ra -x c -c /dev/null -o /dev/null 2>/dev/null && echo -fno-ipa-ra)

# shoald is linked with link-time optimization, because its hot paths call many small functions of several
# files (yield 22.0 ns instead of 24.3, round trip 107 instead of 117). The objects contain normal code as
# well, for the other programs. clang would need another linker.
LTO := $(if $(filter release,$(MODE)),$(if $(SAN),,$(shell $(CC) --version 2>/dev/null | grep -qi clang || echo -flto=auto)))

# ---- sources ----

ARCH    := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
foreign := $(foreach a,$(filter-out $(ARCH),x86_64 aarch64 riscv64),%_$a.c %_$a.S)
sources  = $(sort $(filter-out $(foreign),$(wildcard $1)))
# All sources below a folder, at most three folders deep.
tree     = $(call sources,$(foreach d,* */* */*/*,$1/$d.c $1/$d.S))
objects  = $(addprefix $1/,$(addsuffix .o,$(basename $2)))

SHM     := $(call tree,shm)
CORE    := $(call tree,core)
WORKER  := $(call tree,worker)
SUPER   := $(call tree,supervisor)
CLI     := $(call sources,tools/shoal/*.c)
DAEMON  := $(SHM) $(CORE) $(WORKER) $(SUPER)

STRESS  := $(call sources,tests/unit/*_stress.c)
# The unit program exists only if there is a *_test.c; it is linked with helpers such as host.c.
UNIT    := $(if $(wildcard tests/unit/*_test.c),$(filter-out $(STRESS),$(call sources,tests/unit/*.c tests/unit/*.S)))
# Files outside of shm and core that the unit tests test.
UNIT_OF := supervisor/daemon/control.c supervisor/daemon/limits.c supervisor/daemon/verbs.c \
           supervisor/daemon/task/module.c supervisor/daemon/view/trace.c supervisor/keeper/ledger.c \
           supervisor/zygote/closure.c supervisor/zygote/elf.c supervisor/zygote/elf_rewrite.c supervisor/zygote/stub.c \
           tools/shoal/parse.c tools/shoal/print.c tools/shoal/say.c
SIM     := $(call sources,tests/sim/*.c)
OUTSIDE := $(call sources,tests/outside/*.c)
PROC    := $(call sources,tests/proc/*.c) $(OUTSIDE)
KILL    := $(call sources,tests/kill/*.c)
STORM   := $(call sources,tests/storm/*.c) $(OUTSIDE)
FAULTS  := $(call sources,tests/faults/*.c) $(OUTSIDE)
# The fuzz targets and the sources that each one tests; live.c tests running programs.
FUZZ        := words groups stack
FUZZ_words  := tools/shoal/parse.c shm/size.c
FUZZ_groups := supervisor/daemon/limits.c
FUZZ_stack  := tools/shoal/unwind.c
fuzz_sources = tests/fuzz/main.c tests/fuzz/damage.c tests/fuzz/$1.c $(FUZZ_$1)
BENCH   := $(wildcard tests/bench/main.c tests/bench/load.c)
COMPARE := tests/bench/malloc_compare.c

EXAMPLES  := $(patsubst tools/examples/%.c,$(B)/examples/%.so,$(call sources,tools/examples/*.c))
TEST_MODS := $(patsubst tests/modules/%.c,$(B)/tests/modules/%.so,$(call sources,tests/modules/*/*.c))
# Test modules must be in the folder of their suite.
ifneq ($(wildcard tests/modules/*.c),)
$(error move $(wildcard tests/modules/*.c) into the folder of its suite below tests/modules)
endif
BENCH_MODS := $(patsubst tests/bench/%.c,$(B)/bench.d/%.so,$(filter-out $(BENCH) $(COMPARE),$(call sources,tests/bench/*.c)))

# A program is built only if it has sources.
PROGRAMS  := $(if $(CLI),$(B)/shoal) $(if $(SUPER),$(B)/shoald)
TESTS     := $(if $(UNIT),$(B)/tests/unit) $(if $(SIM),$(B)/tests/sim) $(if $(PROC),$(B)/tests/proc) $(if $(KILL),$(B)/tests/kill) \
             $(if $(STORM),$(B)/tests/storm) $(if $(FAULTS),$(B)/tests/faults) \
             $(FUZZ:%=$(B)/tests/fuzz-%) $(B)/tests/fuzz-live $(B)/tests/fuzz-segment \
             $(patsubst tests/unit/%.c,$(B)/tests/%,$(STRESS)) $(if $(SUPER),$(B)/kill/shoald) $(B)/kill/heap_stress

.PHONY: all help test test-programs san-programs lint storm faults fuzz mutants unit-of demo demo-programs bench bench-programs install clean FORCE

all: $(PROGRAMS)	## builds the programs build/shoal and build/shoald
	@:

# ---- stamps: files that are rewritten only when their content changes ----

stamp = @mkdir -p $(@D); printf '%s\n' $1 | cmp -s - $@ || printf '%s\n' $1 >$@
quote = '$(subst ','\'',$1)'
COMPILE_ID := $(CC) $(LTO) $(SH_CPPFLAGS) $(SH_CFLAGS) $(NO_IPA_RA) $(CPPFLAGS) $(CFLAGS)

$(O)/.flags $(O)-kill/.flags $(O)-sim/.flags: FORCE
	$(call stamp,$(call quote,$(COMPILE_ID)))
$(B)/.modflags: FORCE
	$(call stamp,$(call quote,$(CC) $(MODFLAGS) $(CFLAGS)))
# It also lists the sources, so a program is linked again when one of its files is removed.
$(B)/.link: FORCE
	$(call stamp,$(call quote,$(O) $(COMPILE_ID) $(LDFLAGS) $(DAEMON) $(CLI) $(UNIT) $(SIM) $(PROC) $(KILL) $(STORM) $(FAULTS)))

# ---- objects ----

compile = @mkdir -p $(@D); echo "  CC    $@"; \
	$(CC) $(SH_CPPFLAGS) $1 $(SH_CFLAGS) $(if $(filter worker/%,$<),$(NO_IPA_RA)) $(if $(filter worker/posix/%,$<),-fexceptions) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# If a library is missing, this prints its package before the compiler fails.
$(B)/.headers: tools/deps.sh
	@mkdir -p $(@D); CC='$(CC)' CPPFLAGS='$(CPPFLAGS)' CFLAGS='$(CFLAGS)' tools/deps.sh --check
	@touch $@
$(call objects,$(O),$(DAEMON) $(CLI)): | $(B)/.headers
# The daemon contains the header, so it can compile .c modules wherever it is installed.
$(O)/supervisor/daemon/task/header.o $(O)-kill/supervisor/daemon/task/header.o: core/shoal.h

$(O)-kill/%.o: %.c $(O)-kill/.flags
	$(call compile,-DSHOAL_KILL_POINTS)
$(O)-kill/%.o: %.S $(O)-kill/.flags
	$(call compile,-DSHOAL_KILL_POINTS)
$(O)-sim/%.o: %.c $(O)-sim/.flags
	$(call compile,-DSHOAL_SIM)
$(O)-sim/%.o: %.S $(O)-sim/.flags
	$(call compile,-DSHOAL_SIM)
$(O)/%.o: %.c $(O)/.flags
	$(call compile,$(if $(LTO),$(LTO) -ffat-lto-objects))
$(O)/%.o: %.S $(O)/.flags
	$(call compile)

# Programs other than shoald link only the objects of shm and core that they need.
$(O)/libshoal.a: $(call objects,$(O),$(SHM) $(CORE)) $(B)/.link
	@mkdir -p $(@D); rm -f $@; ar rcs $@ $(filter %.o,$^)

# ---- programs ----

link = @mkdir -p $(@D); echo "  LD    $@"; \
	$(CC) $(SH_LDFLAGS) $(if $(findstring -flto,$1),,-fno-lto) $1 $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $2

# shoald exports only shoal_*, sh_* and the libc names that worker/posix defines, so no other function of
# shoald can replace a function of the same name in a module.
INTERPOSED := tests/lint/interposed.txt
$(B)/exports.list: $(INTERPOSED)
	@mkdir -p $(@D); { echo '{ shoal_*; sh_*;'; sed -e 's/#.*//' -e '/^ *$$/d' -e 's/ *$$/;/' $<; echo '};'; } >$@

# jemalloc is linked as a shared library: worker/posix/malloc.c defines malloc and related functions and
# calls mallocx, rallocx, dallocx and sallocx, which only jemalloc has.
DAEMON_LD   = -Wl,--dynamic-list=$(B)/exports.list
DAEMON_LIBS = -ljansson -luv -ljemalloc -ldw -lelf -lpthread -ldl -lm

$(B)/shoald: $(call objects,$(O),$(DAEMON)) $(B)/.link $(B)/exports.list
	$(call link,$(DAEMON_LD) $(if $(LTO),$(LTO) -O3),$(DAEMON_LIBS))
$(B)/kill/shoald: $(call objects,$(O)-kill,$(DAEMON)) $(B)/.link $(B)/exports.list
	$(call link,$(DAEMON_LD),$(DAEMON_LIBS))
$(B)/shoal: $(call objects,$(O),$(CLI)) $(O)/libshoal.a $(B)/.link
	$(call link,,-ljansson -lncursesw -luv -ldw -lelf -lpthread -ldl -lm)
$(B)/tests/unit: $(call objects,$(O),$(UNIT) $(UNIT_OF)) $(O)/libshoal.a $(B)/.link
	$(call link,,-lcriterion -ljansson -luv -lpthread -ldl -lm)
# It calls no function of core/host.h, so these symbols may stay undefined.
$(B)/tests/runq_stress: SH_LDFLAGS += -no-pie -Wl,--unresolved-symbols=ignore-all
$(B)/tests/%_stress: $(O)/tests/unit/%_stress.o $(O)/libshoal.a $(B)/.link
	$(call link,,-lpthread -ldl -lm)
# It has kill points, and decides itself at which one it dies.
$(B)/kill/heap_stress: $(call objects,$(O)-kill,$(filter-out shm/kill.c,$(SHM)) tests/unit/heap_stress.c) $(B)/.link
	$(call link,,-lpthread)
$(B)/tests/sim: $(call objects,$(O)-sim,$(SHM) $(CORE) $(SIM)) $(B)/.link
	$(call link,,-lcriterion -lpthread -ldl -lm)
$(B)/tests/proc: $(call objects,$(O),$(PROC)) $(O)/libshoal.a $(B)/.link
	$(call link,,-lcriterion -ljansson -luv -lpthread -ldl -lm)
$(B)/tests/kill: $(call objects,$(O),$(KILL)) $(B)/.link
	$(call link,,-ljansson)
$(B)/tests/storm: $(call objects,$(O),$(STORM)) $(O)/libshoal.a $(B)/.link
	$(call link,,-ljansson -lpthread -ldl -lm)
$(B)/tests/faults: $(call objects,$(O),$(FAULTS)) $(O)/libshoal.a $(B)/.link
	$(call link,,-ljansson -lpthread -ldl -lm)
define fuzz_target
$(B)/tests/fuzz-$1: $(call objects,$(O),$(call fuzz_sources,$1)) $(B)/.link
	$$(call link,,-ldw -lelf -ldl)
$(B)/fuzz/$1: $(call fuzz_sources,$1)
	@mkdir -p $$(@D); echo "  FUZZ  $$@"
	@clang -g -O1 -std=gnu11 $(SH_CPPFLAGS) -DFUZZ_LIBFUZZER -fsanitize=fuzzer,address,undefined -o $$@ $$^ -ldw -lelf -ldl
endef
$(foreach t,$(FUZZ),$(eval $(call fuzz_target,$t)))
$(B)/tests/fuzz-live: $(call objects,$(O),tests/fuzz/live.c tests/fuzz/damage.c $(OUTSIDE)) $(O)/libshoal.a $(B)/.link
	$(call link,,-ljansson -lpthread -ldl -lm)
$(B)/tests/fuzz-segment: $(call objects,$(O),tests/fuzz/segment.c tests/fuzz/damage.c $(OUTSIDE)) $(O)/libshoal.a $(B)/.link
	$(call link,,-ljansson -lpthread -ldl -lm)
$(B)/bench: $(call objects,$(O),$(BENCH)) $(O)/libshoal.a $(B)/.link
	$(call link,,-luv -lpthread -ldl -lm)
$(B)/malloc_compare: $(call objects,$(O),$(COMPARE)) $(B)/.link
	$(call link,,-lpthread)
.SECONDARY:

# ---- modules, compiled as a user compiles them ----

module = @mkdir -p $(@D); echo "  SO    $@"; $(CC) $(MODFLAGS) $1 $(CFLAGS) -MMD -MP -MF $(@:.so=.d) -o $@ $< $(MODLIBS)

# Libraries that modules link.
$(B)/tests/modules/memory/deflate.so $(B)/examples/gzipcat.so: MODLIBS := -lz

$(B)/examples/%.so: tools/examples/%.c $(B)/.modflags
	$(call module)
$(B)/tests/modules/%.so: tests/modules/%.c $(B)/.modflags
	$(call module,-I.)
$(B)/bench.d/%.so: tests/bench/%.c $(B)/.modflags
	$(call module,-I.)

-include $(foreach d,*/* */*/* */*/*/*,$(wildcard $(O)/$d.d $(O)-kill/$d.d $(O)-sim/$d.d)) \
	$(wildcard $(B)/examples/*.d $(B)/tests/modules/*/*.d $(B)/bench.d/*.d)

# ---- targets to run ----

# For recipes: runs as many jobs as there are processors, unless the caller passed -j.
submake = +@$(MAKE) $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 2))

test-programs: all $(TESTS) $(EXAMPLES) $(TEST_MODS)	## builds all that the tests need, without running them
demo-programs: all $(EXAMPLES) $(TEST_MODS)
bench-programs: all $(if $(BENCH),$(B)/bench) $(B)/malloc_compare $(BENCH_MODS) $(B)/examples/httpd.so \
	$(if $(shell command -v go),$(B)/bench.d/rows)

$(B)/bench.d/rows: tests/bench/rows.go	# the same benchmarks in Go, if Go is installed
	@mkdir -p $(@D); echo "  GO    $@"
	@HOME=$${HOME:-/tmp} GO111MODULE=off go build -o $@ $<

# The suite san: unit, simulation and stress programs, with sanitizers. All that they are made of lies in $(B)/san.
SAN_TESTS := $(B)/tests/unit $(B)/tests/sim $(patsubst tests/unit/%.c,$(B)/tests/%,$(STRESS))
san-programs:
	+@if echo 'int main(void) { return 0; }' | $(CC) -fsanitize=address,undefined -x c - -o /dev/null 2>/dev/null; then \
		$(MAKE) SAN=address,undefined MODE=release LTO= B='$(B)/san' $(patsubst $(B)/%,$(B)/san/%,$(SAN_TESTS)); \
	else rm -rf '$(B)/san/tests'; fi

test:	## installs missing packages, builds, runs all tests; T="unit" or T="unit:chan/*" runs some, SLOW=N multiplies time limits
	@tools/deps.sh
	$(submake) test-programs $(if $(SAN),,$(if $(T),$(filter san-programs,$(T:san%=san-programs)),san-programs)) || { echo '0 passed, 1 failed'; exit 1; }
	@SAN='$(SAN)' SHOAL_BUILD='$(B)' tests/run $(T)

lint:	## checks layers, headers, symbols, comments and style
	$(submake) all
	@SHOAL_BUILD='$(B)' tests/lint/lint

demo:	## installs missing packages, builds, counts words while workers are killed
	@tools/deps.sh
	$(submake) demo-programs
	@SHOAL_BUILD='$(B)' tools/demo.sh

storm:	## runs tasks of all kinds while random processes are killed; SECONDS=120
	@tools/deps.sh
	$(submake) test-programs
	@$(B)/tests/storm $(or $(SECONDS),120)

faults:	## measures deaths and recovery, in one table; LONG=N repeats N times as often, FAULTS_ARGS="--json kill stop"
	@tools/deps.sh
	$(submake) test-programs
	@FAULTS_LONG='$(LONG)' $(B)/tests/faults $(FAULTS_ARGS)

fuzz:	## fuzzes the parsers with clang's libFuzzer (packages clang, libclang-rt-14-dev); SECONDS=60 for each
	$(submake) $(FUZZ:%=$(B)/fuzz/%)
	@for t in $(FUZZ); do mkdir -p $(B)/fuzz/corpus.$$t; (cd $(B)/fuzz && ASAN_OPTIONS=detect_leaks=0 ./$$t -max_total_time=$(or $(SECONDS),60) \
		-print_final_stats=1 -rss_limit_mb=4096 corpus.$$t) || exit 1; done

mutants:	## mutation testing of core and shm, lists the mutants that survive (python3, binutils); SECONDS=900 FILES='core/sched/*' SAMPLE=200 SEED=1 JOBS=2 LOG=FILE
	@CC='$(CC)' tests/mutants/mutants --seconds $(or $(SECONDS),900) --jobs $(or $(JOBS),1) --seed $(or $(SEED),1) \
		$(FILES:%=--files '%') $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(LOG),--log $(LOG))

unit-of:
	@echo $(UNIT_OF)

bench:	## builds and runs the benchmarks
	@tools/deps.sh
	$(submake) bench-programs
	@SHOAL_BUILD='$(B)' $(B)/bench $(BENCH_ARGS)
	@$(if $(BENCH_ARGS),:,$(B)/malloc_compare)

$(B)/shoal.pc: Makefile FORCE
	@mkdir -p $(@D)
	@printf '%s\n' 'prefix=$(PREFIX)' 'includedir=$${prefix}/include' '' 'Name: shoal' \
		'Description: goroutines across processes; modules link nothing, their symbols are bound when loaded' \
		'Version: $(VERSION)' 'Cflags: -I$${includedir} -fstack-clash-protection' 'Libs:' >$@

D := $(DESTDIR)$(PREFIX)
install: all $(B)/shoal.pc	## installs programs, header and man pages; DESTDIR= PREFIX=/usr/local
	install -d $(D)/bin $(D)/include $(D)/lib/pkgconfig
	install -m 755 $(B)/shoal $(B)/shoald $(D)/bin
	install -m 644 core/shoal.h $(D)/include
	install -m 644 $(B)/shoal.pc $(D)/lib/pkgconfig
	install -d $(D)/share/man/man3
	awk -f tools/man/man3 -v out=$(D)/share/man/man3 core/shoal.h
	@for page in $(wildcard tools/man/*.[1-9]); do \
		dir=$(D)/share/man/man$${page##*.}; \
		echo "install -m 644 $$page $$dir"; \
		install -d "$$dir" && install -m 644 "$$page" "$$dir" || exit 1; \
	done

clean:	## removes build/
	rm -rf $(B)

help:	## prints this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done
	@echo '  MODE=release|debug  SAN=address|undefined|thread  CC=gcc|clang  B=build (where all results go)'
