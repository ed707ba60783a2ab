/* unwind.c - see unwind.h. libdw unwinds; it sees one thread, which exists only as saved registers and memory. */
#include "tools/shoal/unwind.h"

#include <dwarf.h>
#include <elfutils/libdwfl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TID 1 /* id of that thread; it is no process id */
#define MAPS_MAX 4096
#define INLINED_MAX 32

struct text {
	struct text *next;
	char at[];
};

struct unwinder {
	Dwfl *dwfl;
	bool attached;
	struct unwind_regs regs; /* of the stack that is being unwound */
	unwind_read *read;
	void *arg;
	struct unwind_frame *frames;
	size_t n, max;
	struct text *texts;
};

/* ---- callbacks of libdw ---- */

static int no_elf(Dwfl_Module *m, void **user, const char *name, Dwarf_Addr base, char **file, Elf **elf)
{
	(void)m, (void)user, (void)name, (void)base, (void)file, (void)elf;
	return -1; /* each module was added with its file */
}

static pid_t next_thread(Dwfl *dwfl, void *arg, void **thread_arg)
{
	(void)dwfl;
	if (*thread_arg)
		return 0;
	*thread_arg = arg;
	return TID;
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *arg, void **thread_arg)
{
	(void)dwfl;
	*thread_arg = arg;
	return tid == TID;
}

static bool read_word(Dwfl *dwfl, Dwarf_Addr at, Dwarf_Word *word, void *arg)
{
	struct unwinder *u = arg;

	(void)dwfl;
	return u->read && u->read(u->arg, at, word);
}

static bool first_registers(Dwfl_Thread *thread, void *arg)
{
	struct unwinder *u = arg;

	for (int i = 0; i < UNWIND_PC; i++) {
		Dwarf_Word word = u->regs.reg[i];

		if (u->regs.known & 1u << i && !dwfl_thread_state_registers(thread, i, 1, &word))
			return false;
	}
	dwfl_thread_state_register_pc(thread, u->regs.reg[UNWIND_PC] - u->regs.called);
	return true;
}

static const Dwfl_Callbacks callbacks = {.find_elf = no_elf, .find_debuginfo = dwfl_standard_find_debuginfo};
static const Dwfl_Thread_Callbacks thread_callbacks = {.next_thread = next_thread,
						       .get_thread = get_thread,
						       .memory_read = read_word,
						       .set_initial_registers = first_registers};

/* ---- modules ---- */

struct unwinder *unwind_open(void)
{
	struct unwinder *u = calloc(1, sizeof *u);

	if (!u)
		return NULL;
	u->dwfl = dwfl_begin(&callbacks);
	if (!u->dwfl) {
		free(u);
		return NULL;
	}
	dwfl_report_begin(u->dwfl);
	return u;
}

void unwind_close(struct unwinder *u)
{
	dwfl_end(u->dwfl);
	while (u->texts) {
		struct text *t = u->texts;

		u->texts = t->next;
		free(t);
	}
	free(u);
}

bool unwind_add(struct unwinder *u, const char *name, const char *file, uint64_t bias)
{
	return dwfl_report_elf(u->dwfl, name, file, -1, bias, true) != NULL;
}

/* The first mapping of a file begins with its ELF header: its address is the bias of a shared object. */
unsigned unwind_add_process(struct unwinder *u, pid_t pid)
{
	char path[64], line[4352], file[4096], last[4096] = "";
	unsigned n = 0, maps = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f) && maps++ < MAPS_MAX) {
		unsigned long start, offset, inode;
		const char *slash;

		if (sscanf(line, "%lx-%*x %*s %lx %*s %lu %4095[^\n]", &start, &offset, &inode, file) != 4 || offset ||
		    file[0] != '/' || !inode || strcmp(file, last) == 0 || strncmp(file, "/memfd:", 7) == 0)
			continue;
		snprintf(last, sizeof last, "%s", file);
		slash = strrchr(file, '/');
		n += dwfl_report_elf(u->dwfl, slash + 1, file, -1, start, true) != NULL;
	}
	if (f)
		fclose(f);
	return n;
}

void unwind_ready(struct unwinder *u)
{
	dwfl_report_end(u->dwfl, NULL, NULL);
	u->attached = dwfl_attach_state(u->dwfl, NULL, TID, &thread_callbacks, u);
}

/* ---- names ---- */

static const char *copy_text(struct unwinder *u, const char *folder, const char *name)
{
	size_t n = (folder ? strlen(folder) + 1 : 0) + strlen(name) + 1;
	struct text *t = malloc(sizeof *t + n);

	if (!t)
		return NULL;
	snprintf(t->at, n, "%s%s%s", folder ? folder : "", folder ? "/" : "", name);
	t->next = u->texts;
	u->texts = t;
	return t->at;
}

/* Fills in the source file and line of an address. */
static void set_line(struct unwinder *u, Dwfl_Module *m, uint64_t at, struct unwind_frame *f)
{
	Dwfl_Line *line = dwfl_module_getsrc(m, at);
	const char *file = line ? dwfl_lineinfo(line, NULL, &f->line, NULL, NULL, NULL) : NULL;

	if (file)
		f->file = copy_text(u, file[0] == '/' ? NULL : dwfl_line_comp_dir(line), file);
}

/* Fills in the file and line from which an inlined function was called. */
static void set_call(struct unwinder *u, Dwarf_Die *cu, Dwarf_Die *inlined, struct unwind_frame *f)
{
	Dwarf_Attribute attr;
	Dwarf_Files *files;
	Dwarf_Word n;
	const char *file = NULL, *folder;

	f->line = dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attr), &n) == 0 ? (int)n : 0;
	if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attr), &n) == 0 &&
	    dwarf_getsrcfiles(cu, &files, NULL) == 0)
		file = dwarf_filesrc(files, n, NULL, NULL);
	folder = dwarf_formstring(dwarf_attr(cu, DW_AT_comp_dir, &attr));
	f->file = file ? copy_text(u, file[0] == '/' ? NULL : folder, file) : NULL;
}

/*
 * Finds the function at an address and the functions inlined there, outermost first, and returns their number.
 * dwarf_getscopes cannot be used: it needs the original of an inlined function in the same unit, and finds nothing
 * after link-time optimization.
 */
static size_t scopes_at(Dwarf_Die *unit, uint64_t at, Dwarf_Die *scopes)
{
	Dwarf_Die around = *unit, die;
	size_t n = 0;

	while (n < INLINED_MAX && dwarf_child(&around, &die) == 0) {
		int tag, more = 0;

		while (more == 0 &&
		       ((tag = dwarf_tag(&die),
			 tag != DW_TAG_subprogram && tag != DW_TAG_inlined_subroutine && tag != DW_TAG_lexical_block) ||
			dwarf_haspc(&die, at) <= 0))
			more = dwarf_siblingof(&die, &die);
		if (more != 0)
			break;
		if (tag != DW_TAG_lexical_block)
			scopes[n++] = die;
		around = die;
	}
	return n;
}

/*
 * True if the compiler split a part off the function and inlined it again, so that the call is at or before the
 * function's declaration.
 */
static bool is_split_part(Dwarf_Die *inlined, Dwarf_Die *around)
{
	const char *name = dwarf_diename(inlined), *of = dwarf_diename(around);
	Dwarf_Attribute attr;
	Dwarf_Word call;
	int line;

	return name && of && strcmp(name, of) == 0 && dwarf_decl_line(around, &line) == 0 &&
	       dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attr), &call) == 0 && call <= (Dwarf_Word)line;
}

size_t unwind_names(struct unwinder *u, uint64_t pc, bool caller, struct unwind_frame *f, size_t max)
{
	uint64_t at = caller && pc ? pc - 1 : pc;
	Dwfl_Module *m = dwfl_addrmodule(u->dwfl, at);
	struct unwind_frame whole = {.pc = pc};
	Dwarf_Die *cu, scopes[INLINED_MAX];
	Dwarf_Addr start = 0, bias;
	GElf_Off offset = 0;
	GElf_Sym sym;
	size_t n = 0, i;

	if (!max)
		return 0;
	*f = whole;
	if (!m)
		return 1;
	whole.module = dwfl_module_info(m, NULL, &start, NULL, NULL, NULL, NULL, NULL);
	whole.offset = pc - start;
	whole.function = dwfl_module_addrinfo(m, at, &offset, &sym, NULL, NULL, NULL);
	if (whole.function)
		whole.offset = offset + (pc - at);
	cu = dwfl_module_addrdie(m, at, &bias);
	i = cu ? scopes_at(cu, at - bias, scopes) : 0;
	if (!whole.function && i)
		whole.function = dwarf_diename(&scopes[0]);
	f[0] = whole;
	set_line(u, m, at, &f[0]);
	for (; i-- > 0 && n + 1 < max && i > 0;) {
		if (is_split_part(&scopes[i], &scopes[i - 1]))
			continue;
		f[n].function = dwarf_diename(&scopes[i]);
		f[n++].inlined = true;
		f[n] = whole;
		set_call(u, cu, &scopes[i], &f[n]);
	}
	return n + 1;
}

void unwind_name(struct unwinder *u, uint64_t pc, bool caller, struct unwind_frame *f)
{
	struct unwind_frame all[INLINED_MAX];
	size_t n = unwind_names(u, pc, caller, all, INLINED_MAX);

	*f = all[n - 1];
}

/* ---- stacks ---- */

static int take_frame(Dwfl_Frame *frame, void *arg)
{
	struct unwinder *u = arg;
	bool exact;
	Dwarf_Addr pc;

	if (u->n == u->max || !dwfl_frame_pc(frame, &pc, &exact) || !pc)
		return DWARF_CB_ABORT;
	if (exact && u->regs.called) {
		pc++;
		exact = false;
	}
	u->n += unwind_names(u, pc, !exact, &u->frames[u->n], u->max - u->n);
	return DWARF_CB_OK;
}

size_t unwind_stack(struct unwinder *u, const struct unwind_regs *regs, unwind_read *read, void *arg,
		    struct unwind_frame *frames, size_t max)
{
	uint64_t pc = regs->reg[UNWIND_PC], sp = regs->reg[UNWIND_RSP], back;

	u->regs = *regs;
	u->read = read;
	u->arg = arg;
	u->frames = frames;
	u->n = 0;
	u->max = max;
	/*
	 * After a call of an address without code, the return address is on top of the stack and nothing else has
	 * changed.
	 */
	if (max && !dwfl_addrmodule(u->dwfl, pc)) {
		unwind_name(u, pc, false, &frames[u->n++]);
		if (!read || !read(arg, sp, &back) || !dwfl_addrmodule(u->dwfl, back))
			return u->n;
		u->regs.reg[UNWIND_PC] = back;
		u->regs.called = true;
		u->regs.reg[UNWIND_RSP] = sp + 8;
	}
	if (u->attached)
		dwfl_getthread_frames(u->dwfl, TID, take_frame, u);
	if (!u->n && max)
		u->n = unwind_names(u, pc, regs->called, frames, max);
	return u->n;
}
