/* unwind.c - see unwind.h. libdw does the work: dwfl with a thread that exists only in what was saved. */
#include "tools/shoal/unwind.h"

#include <dwarf.h>
#include <elfutils/libdwfl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TID 1 /* of the one thread; no process has to have it */
#define MAPS_MAX 4096

struct text {
	struct text *next;
	char at[];
};

struct unwinder {
	Dwfl *dwfl;
	bool attached;
	struct unwind_regs regs; /* of the stack in hand */
	unwind_read *read;
	void *arg;
	struct unwind_frame *frames;
	size_t n, max;
	struct text *texts;
};

/* ---- what libdw asks ---- */

static int no_elf(Dwfl_Module *m, void **user, const char *name, Dwarf_Addr base, char **file, Elf **elf)
{
	(void)m, (void)user, (void)name, (void)base, (void)file, (void)elf;
	return -1; /* each was given with its file */
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
	dwfl_thread_state_register_pc(thread, u->regs.reg[UNWIND_PC]);
	return true;
}

static const Dwfl_Callbacks callbacks = {.find_elf = no_elf, .find_debuginfo = dwfl_standard_find_debuginfo};
static const Dwfl_Thread_Callbacks thread_callbacks = {.next_thread = next_thread, .get_thread = get_thread,
	.memory_read = read_word, .set_initial_registers = first_registers};

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

static const char *keep(struct unwinder *u, const char *folder, const char *name)
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

void unwind_name(struct unwinder *u, uint64_t pc, bool caller, struct unwind_frame *f)
{
	uint64_t at = caller && pc ? pc - 1 : pc;
	Dwfl_Module *m = dwfl_addrmodule(u->dwfl, at);
	const char *function, *file;
	Dwarf_Addr start = 0;
	GElf_Off offset = 0;
	GElf_Sym sym;
	Dwfl_Line *line;

	memset(f, 0, sizeof *f);
	f->pc = pc;
	if (!m)
		return;
	f->module = dwfl_module_info(m, NULL, &start, NULL, NULL, NULL, NULL, NULL);
	f->offset = pc - start;
	function = dwfl_module_addrinfo(m, at, &offset, &sym, NULL, NULL, NULL);
	if (function) {
		f->function = function;
		f->offset = offset + (pc - at);
	}
	line = dwfl_module_getsrc(m, at);
	file = line ? dwfl_lineinfo(line, NULL, &f->line, NULL, NULL, NULL) : NULL;
	if (file)
		f->file = keep(u, file[0] == '/' ? NULL : dwfl_line_comp_dir(line), file);
}

/* ---- stacks ---- */

static int take_frame(Dwfl_Frame *frame, void *arg)
{
	struct unwinder *u = arg;
	bool exact;
	Dwarf_Addr pc;

	if (u->n == u->max || !dwfl_frame_pc(frame, &pc, &exact) || !pc)
		return DWARF_CB_ABORT;
	unwind_name(u, pc, !exact, &u->frames[u->n++]);
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
	/* A call of what is no code: its caller is on top of the stack, and nothing else has changed. */
	if (max && !dwfl_addrmodule(u->dwfl, pc)) {
		unwind_name(u, pc, false, &frames[u->n++]);
		if (!read || !read(arg, sp, &back) || !dwfl_addrmodule(u->dwfl, back))
			return u->n;
		u->regs.reg[UNWIND_PC] = back - 1; /* within the call, as libdw takes it for where we are */
		u->regs.reg[UNWIND_RSP] = sp + 8;
	}
	if (u->attached)
		dwfl_getthread_frames(u->dwfl, TID, take_frame, u);
	if (!u->n && max)
		unwind_name(u, pc, false, &frames[u->n++]);
	return u->n;
}
