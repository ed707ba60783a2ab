/*
 * crash.c - prints crash records: signal, address, goroutine, registers, and the backtrace.
 *
 * A record has the registers and the top of the stack at the crash. Frames are found here, with the files that the
 * code was loaded from. Where the copy of the stack ends, or a file is missing, the return addresses are used that
 * the dying worker found.
 */
#include "tools/shoal/cli.h"
#include "tools/shoal/unwind.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FRAMES 100
#define REPORT_FRAMES 16
#define REPORT_MS 10000

struct stack {
	uint64_t at;
	size_t n;
	const char *hex;
};

static struct unwinder *unwinder;

static uint64_t hex_number(json_t *object, const char *key)
{
	return strtoull(get_text(object, key), NULL, 16);
}

static int digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

static bool read_word(void *arg, uint64_t at, uint64_t *word)
{
	const struct stack *s = arg;
	const char *hex;

	if (at < s->at || at - s->at > s->n || s->n - (at - s->at) < 8)
		return false;
	hex = s->hex + 2 * (at - s->at);
	*word = 0;
	for (int i = 7; i >= 0; i--)
		*word = *word << 8 | (uint64_t)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
	return true;
}

static void open_modules(json_t *reply)
{
	json_t *module;
	size_t i;

	unwinder = must(unwind_open());
	json_array_foreach(json_object_get(reply, "modules"), i, module)
	{
		const char *library = get_text(module, "file");
		char *file = library && *library
				     ? format("%s", library)
				     : format("/proc/%lld/fd/%lld", (long long)get_int(reply, "supervisor", 0),
					      (long long)get_int(module, "fd", -1));

		unwind_add(unwinder, get_text(module, "name"), file, hex_number(module, "base"));
		free(file);
	}
	unwind_add_process(unwinder, (pid_t)get_int(reply, "zygote", 0));
	unwind_ready(unwinder);
}

/* The order is that of the ucontext and of the record. */
static const struct {
	const char *name;
	int dwarf;
} registers[] = {{"r8", UNWIND_R8},   {"r9", UNWIND_R9},   {"r10", UNWIND_R10}, {"r11", UNWIND_R11},
		 {"r12", UNWIND_R12}, {"r13", UNWIND_R13}, {"r14", UNWIND_R14}, {"r15", UNWIND_R15},
		 {"rdi", UNWIND_RDI}, {"rsi", UNWIND_RSI}, {"rbp", UNWIND_RBP}, {"rbx", UNWIND_RBX},
		 {"rdx", UNWIND_RDX}, {"rax", UNWIND_RAX}, {"rcx", UNWIND_RCX}, {"rsp", UNWIND_RSP},
		 {"rip", UNWIND_PC},  {"eflags", -1}};

static size_t find_frames(json_t *crash, struct unwind_frame *f)
{
	json_t *regs = json_object_get(crash, "registers"), *pcs = json_object_get(crash, "pcs"), *pc;
	struct stack stack = {hex_number(crash, "stack_at"), strlen(get_text(crash, "stack")) / 2,
			      get_text(crash, "stack")};
	struct unwind_regs r = {.known = 0};
	size_t n = 0, found = 0, i;

	for (i = 0; i < sizeof registers / sizeof *registers; i++)
		if (registers[i].dwarf >= 0 && json_object_get(regs, registers[i].name))
			unwind_set(&r, (unsigned)registers[i].dwarf, hex_number(regs, registers[i].name));
	if (r.known & 1u << UNWIND_PC && r.known & 1u << UNWIND_RSP)
		n = unwind_stack(unwinder, &r, read_word, &stack, f, FRAMES);
	/* The frames that the worker found by frame pointers continue where the copy of the stack ends. */
	if (n < 2)
		n = 0;
	for (size_t k = 0; k < n; k++)
		found += !f[k].inlined;
	json_array_foreach(pcs, i, pc)
	{
		uint64_t at = strtoull(json_string_value(pc), NULL, 16);
		bool known = false;

		for (size_t k = 0; k < n && !known; k++)
			known = f[k].pc == at;
		if (!known && (n == 0 || i >= found)) {
			n += unwind_names(unwinder, at, i > 0, &f[n], FRAMES - n);
			found++;
		}
	}
	return n;
}

/*
 * Drops the runtime's frames below the goroutine's function, which are the same for all. The runtime's frames
 * above may be where the fault is.
 */
static size_t drop_start_frames(const struct unwind_frame *f, size_t n)
{
	while (n > 1 && (!f[n - 1].module || (f[n - 1].module && strncmp(f[n - 1].module, "shoald", 6) == 0)))
		n--;
	return n;
}

static char *when(json_t *crash)
{
	int64_t ns = get_int(crash, "time_ns", 0);
	time_t s = (time_t)(ns / 1000000000);
	char day[40];
	struct tm tm;

	strftime(day, sizeof day, "%Y-%m-%d %H:%M:%S", localtime_r(&s, &tm));
	return format("%s.%06d", day, (int)(ns % 1000000000 / 1000));
}

static void print_registers(json_t *regs)
{
	int column = 0;

	for (size_t i = 0; i < sizeof registers / sizeof *registers; i++)
		if (json_object_get(regs, registers[i].name))
			printf("%s%6s %-18s",
			       column++ % 3 ? " "
			       : column > 1 ? "\n"
					    : "",
			       registers[i].name, get_text(regs, registers[i].name));
	if (column)
		putchar('\n');
}

/* Prints the goroutine and at most `most` of its frames. */
static void print_stack(FILE *to, json_t *crash, const struct unwind_frame *f, size_t n, size_t most)
{
	char *name = show_clean(get_text(crash, "name"));

	if (get_int(crash, "gid", 0))
		fprintf(to, "goroutine %lld%s%s%s [running]:\n", (long long)get_int(crash, "gid", 0),
			*name ? " \"" : "", name, *name ? "\"" : "");
	for (size_t i = 0; i < n && i < most; i++)
		frame_print(to, &f[i]);
	if (n > most)
		fprintf(to, "...%zu more frames (see: shoal crash)...\n", n - most);
	free(name);
}

static void print_crash(json_t *crash, const struct unwind_frame *f, size_t n)
{
	char *message = show_clean(get_text(crash, "message")), *time = when(crash),
	     *module = show_clean(get_text(crash, "module"));

	printf("crash %lld: %s\n", (long long)get_int(crash, "number", 0), message);
	printf("[signal %s code=%lld addr=%s pc=%s]\n", get_text(crash, "signal_name"),
	       (long long)get_int(crash, "code", 0), get_text(crash, "address"),
	       get_text(json_object_get(crash, "registers"), "rip"));
	printf("task %lld%s%s%s, worker %lld (pid %lld), %s\n\n", (long long)get_int(crash, "task", 0),
	       *module ? " (" : "", module, *module ? ")" : "", (long long)get_int(crash, "worker", 0),
	       (long long)get_int(crash, "pid", 0), time);
	print_stack(stdout, crash, f, n, n);
	putchar('\n');
	print_registers(json_object_get(crash, "registers"));
	free(message);
	free(time);
	free(module);
}

static void as_json(json_t *crash, const struct unwind_frame *f, size_t n)
{
	json_t *frames = must(json_array());

	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(frames, frame_json(&f[i])) < 0)
			must(NULL);
	put(crash, "backtrace", frames);
	json_object_del(crash, "stack");
	json_object_del(crash, "stack_at");
	json_object_del(crash, "pcs");
}

/* ---- after `run` ---- */

static _Noreturn void print_report(json_t *reply, json_t *crash)
{
	static struct unwind_frame frame[FRAMES];
	size_t n;

	open_modules(reply);
	n = drop_start_frames(frame, find_frames(crash, frame));
	fprintf(stderr, "[signal %s code=%lld addr=%s pc=%s]\n\n", get_text(crash, "signal_name"),
		(long long)get_int(crash, "code", 0), get_text(crash, "address"),
		get_text(json_object_get(crash, "registers"), "rip"));
	print_stack(stderr, crash, frame, n, REPORT_FRAMES);
	fflush(stderr);
	_exit(0);
}

/* A child unwinds the stack, because the module's debug information may be damaged. */
void crash_report(struct conn *c, int64_t task)
{
	json_t *what = request("crash"), *reply, *list;
	size_t n;
	pid_t pid;

	put(what, "id", json_integer(task));
	conn_send(c, what, -1);
	reply = conn_reply(c, REPORT_MS);
	list = json_object_get(reply, "crashes");
	n = json_array_size(list);
	while (n && get_int(json_array_get(list, n - 1), "task", 0) != task) /* a goroutine has the same number */
		n--;
	if (n) {
		fflush(NULL);
		pid = fork();
		if (pid == 0)
			print_report(reply, json_array_get(list, n - 1));
		for (int ms = 0; pid > 0 && waitpid(pid, NULL, WNOHANG) == 0; ms++) {
			if (ms == REPORT_MS)
				kill(pid, SIGKILL);
			usleep(1000);
		}
	}
	json_decref(reply);
}

int verb_crash(int argc, char **argv)
{
	static struct unwind_frame frame[FRAMES];
	const struct opt none[] = {{NULL, 0, OPT_FLAG, NULL}};
	int words = parse_options(argc, argv, none, false);
	json_t *what = request("crash"), *crash;
	struct conn c;
	size_t i, n;

	if (words > 1)
		usage("expected at most one task or goroutine number");
	if (words)
		put(what, "id", json_integer(parse_id("task", argv[0])));
	conn_open(&c);
	json_t *reply = conn_call(&c, what, -1);
	conn_close(&c);
	if (json_array_size(json_object_get(reply, "crashes")))
		open_modules(reply);
	json_array_foreach(json_object_get(reply, "crashes"), i, crash)
	{
		n = drop_start_frames(frame, find_frames(crash, frame));
		if (cli.json) {
			as_json(crash, frame, n);
			continue;
		}
		if (i)
			putchar('\n');
		print_crash(crash, frame, n);
	}
	if (cli.json) {
		json_object_del(reply, "modules");
		json_object_del(reply, "supervisor");
		json_object_del(reply, "zygote");
		print_json(reply);
	}
	if (unwinder)
		unwind_close(unwinder);
	json_decref(reply);
	return 0;
}
