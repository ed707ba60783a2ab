/*
 * dump.c - prints stacks of goroutines from the file that the supervisor makes (core/repair/dump.h).
 *
 * Goroutines with equal stacks are printed together: their headers stand above one stack. There may be 100,000
 * goroutines, most of them with equal stacks, so each shape of a stack is unwound once. A shape is the words of
 * the stack that turned out to be return addresses, and their offsets. Another stack of the same size with the
 * same words at the same offsets has the same frames.
 */
#include "tools/shoal/cli.h"
#include "tools/shoal/unwind.h"
#include "core/g/g.h"
#include "core/g/names.h"
#include "core/repair/dump.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FRAMES_MAX 100 /* as in Go */
#define READS_MAX 4096
#define SHAPES 1024
#define GROUPS 4096

struct word {
	uint64_t offset, value;
};

struct shape {
	struct shape *next;
	uint64_t pc;
	uint32_t bytes;
	const char *call; /* the call that it waits in, by its wait reason */
	size_t nwords, nframes;
	struct word *word;
	struct unwind_frame *frame;
};

struct group { /* goroutines with equal status, stack and creator */
	struct group *next, *next_printed;
	const struct shape *shape; /* NULL: no stack */
	const struct dump_g *first;
	const struct dump_g **g;
	size_t n, room;
};

struct stack_copy {
	const struct dump_g *g;
	const char *stack;
	struct word word[READS_MAX];
	size_t nwords;
};

static struct unwinder *unwinder;
static struct shape *shapes[SHAPES];
static struct group *groups[GROUPS], *first, **last = &first;
static bool all_frames;

/* ---- frames ---- */

static bool read_word(void *arg, uint64_t at, uint64_t *value)
{
	struct stack_copy *l = arg;
	uint64_t offset = at - l->g->rsp;

	if (at < l->g->rsp || offset % 8 || offset + 8 > l->g->bytes)
		return false;
	memcpy(value, l->stack + offset, 8);
	if (l->nwords < READS_MAX)
		l->word[l->nwords++] = (struct word){offset, *value};
	return true;
}

/* Returns the name of the interface call for this wait reason, whichever internal function the call ended in. */
static const char *call_of(const struct dump_g *g)
{
	static const char *const name[WAIT_REASONS] = {[WAIT_SLEEP] = "shoal_sleep",
						       [WAIT_RECV_NIL] = "shoal_recv",
						       [WAIT_SEND_NIL] = "shoal_send",
						       [WAIT_SELECT_EMPTY] = "shoal_select",
						       [WAIT_SELECT] = "shoal_select",
						       [WAIT_RECV] = "shoal_recv",
						       [WAIT_SEND] = "shoal_send",
						       [WAIT_COND] = "shoal_cond_wait",
						       [WAIT_MUTEX] = "shoal_mutex_lock",
						       [WAIT_RW_RLOCK] = "shoal_rwmutex_rlock",
						       [WAIT_RW_LOCK] = "shoal_rwmutex_lock",
						       [WAIT_WG] = "shoal_wg_wait",
						       [WAIT_SEM] = "shoal_sem_acquire",
						       [WAIT_JOIN] = "shoal_join",
						       [WAIT_PTHREAD_COND] = "pthread_cond_wait",
						       [WAIT_PTHREAD_SEM] = "sem_wait"};

	return g->status == G_WAITING && g->waitreason < WAIT_REASONS ? name[g->waitreason] : NULL;
}

static bool matches(const struct shape *s, const struct stack_copy *l)
{
	uint64_t value;

	if (s->pc != l->g->pc || s->bytes != l->g->bytes || s->call != call_of(l->g))
		return false;
	for (size_t i = 0; i < s->nwords; i++) {
		memcpy(&value, l->stack + s->word[i].offset, 8);
		if (value != s->word[i].value)
			return false;
	}
	return true;
}

/* True for a frame of the runtime. */
static bool in_runtime(const struct unwind_frame *f)
{
	return f->module && strncmp(f->module, "shoald", 6) == 0;
}

/* True for an internal function of the runtime. The wait reason shows which interface call is waiting. */
static bool is_internal(const struct unwind_frame *f)
{
	return in_runtime(f) && f->function && strncmp(f->function, "shoal_", 6) != 0;
}

/* True for the runtime's functions that call a goroutine's function. */
static bool is_start(const struct unwind_frame *f)
{
	static const char *const names[] = {"gmain", "root_main", "sh_first"};

	for (size_t i = 0; in_runtime(f) && f->function && i < sizeof names / sizeof *names; i++)
		if (strncmp(f->function, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/*
 * Removes the runtime's frames: those that called the goroutine's function, and all above the goroutine's code
 * except the interface call that it made. If a signal stopped the goroutine, the signal's frame is removed as
 * well.
 */
static size_t hide_runtime(const struct dump_g *g, struct unwind_frame *f, size_t n)
{
	size_t from = 0;

	if (all_frames)
		return n;
	while (n && (is_start(&f[n - 1]) || !f[n - 1].module))
		n--;
	while (from < n && in_runtime(&f[from]))
		from++;
	if (from && from < n && f[from].module && strncmp(f[from].module, "libc", 4) == 0)
		from++; /* the frame of the signal */
	else if (from && f[--from].function && strncmp(f[from].function, "shoal_", 6) != 0 && call_of(g))
		f[from].function = call_of(g);
	memmove(f, f + from, (n - from) * sizeof *f);
	return n - from;
}

static const struct shape *shape_of(const struct dump_g *g)
{
	static struct stack_copy l;
	static struct unwind_frame frame[2 * FRAMES_MAX];
	struct shape **at = &shapes[(g->pc ^ g->bytes) % SHAPES], *s;
	/* the goroutine called into the runtime, so pc is a return address */
	struct unwind_regs regs = {.called = true};

	l.g = g;
	l.stack = (const char *)(g + 1);
	l.nwords = 0;
	for (s = *at; s; s = s->next)
		if (matches(s, &l))
			return s;
	unwind_set(&regs, UNWIND_PC, g->pc);
	unwind_set(&regs, UNWIND_RSP, g->rsp);
	unwind_set(&regs, UNWIND_RBP, g->rbp);
	unwind_set(&regs, UNWIND_RBX, g->rbx);
	unwind_set(&regs, UNWIND_R12, g->r12);
	unwind_set(&regs, UNWIND_R13, g->r13);
	unwind_set(&regs, UNWIND_R14, g->r14);
	unwind_set(&regs, UNWIND_R15, g->r15);
	s = must(calloc(1, sizeof *s));
	s->pc = g->pc;
	s->bytes = g->bytes;
	s->call = call_of(g);
	s->nframes = unwind_stack(unwinder, &regs, read_word, &l, frame, 2 * FRAMES_MAX);
	s->word = must(malloc((l.nwords + 1) * sizeof *s->word));
	for (size_t i = 0; i < l.nwords; i++)
		for (size_t k = 1; k < s->nframes; k++)
			if (l.word[i].value == frame[k].pc) {
				s->word[s->nwords++] = l.word[i];
				break;
			}
	s->nframes = hide_runtime(g, frame, s->nframes);
	s->frame = must(malloc((s->nframes + 1) * sizeof *frame));
	memcpy(s->frame, frame, s->nframes * sizeof *frame);
	s->next = *at;
	*at = s;
	return s;
}

static const struct shape *shape_of_new(const struct dump_g *g)
{
	struct shape *s;

	for (s = shapes[g->fn % SHAPES]; s; s = s->next)
		if (s->pc == g->fn && !s->nwords && !s->bytes)
			return s;
	s = must(calloc(1, sizeof *s));
	s->pc = g->fn;
	s->nframes = 1;
	s->frame = must(calloc(1, sizeof *s->frame));
	unwind_name(unwinder, g->fn, false, s->frame);
	if (is_internal(s->frame))
		s->nframes = 0; /* the root goroutine, which calls shoal_main */
	s->next = shapes[g->fn % SHAPES];
	shapes[g->fn % SHAPES] = s;
	return s;
}

/* ---- groups ---- */

/* Returns the wait reason. A goroutine that does not wait has an old value there, which is ignored. */
static uint32_t reason_of(const struct dump_g *g)
{
	return g->status == G_WAITING ? g->waitreason : WAIT_ZERO;
}

static bool same_group(const struct group *k, const struct shape *s, const struct dump_g *g)
{
	return k->shape == s && k->first->status == g->status && reason_of(k->first) == reason_of(g) &&
	       k->first->gopc == g->gopc && k->first->parent == g->parent && k->first->task == g->task &&
	       k->first->fn == g->fn && k->first->flags == g->flags;
}

static void add(const struct dump_g *g)
{
	const struct shape *s = g->flags & DUMP_NO_STACK    ? NULL
				: g->flags & DUMP_NOT_BEGUN ? shape_of_new(g)
							    : shape_of(g);
	struct group **at = &groups[((uintptr_t)s / 16 ^ reason_of(g) ^ g->gopc) % GROUPS], *k;

	for (k = *at; k && !same_group(k, s, g); k = k->next)
		;
	if (!k) {
		k = must(calloc(1, sizeof *k));
		k->shape = s;
		k->first = g;
		k->next = *at;
		*at = k;
		*last = k;
		last = &k->next_printed;
	}
	if (k->n == k->room)
		k->g = must(realloc(k->g, (k->room = k->room * 2 + 4) * sizeof *k->g));
	k->g[k->n++] = g;
}

/* ---- text in Go's format ---- */

static const char *status_of(const struct dump_g *g)
{
	if (g->status == G_WAITING && g->waitreason < WAIT_REASONS && *waitreason_name[g->waitreason])
		return waitreason_name[g->waitreason];
	return g_status_name(g->status);
}

static void print_header(const struct dump_g *g)
{
	char *name = show_clean(g->name);

	printf("goroutine %llu%s%s%s [%s", (unsigned long long)g->gid, *name ? " \"" : "", name, *name ? "\"" : "",
	       status_of(g));
	free(name);
	if (g->status == G_WAITING && g->waiting_ns >= 60000000000)
		printf(", %lld minutes", (long long)(g->waiting_ns / 60000000000));
	if (g->flags & DUMP_PINNED)
		printf(", locked to thread");
	printf("]:\n");
}

/*
 * Fills in the frame of the goroutine's function if it is not among the frames, because its last call was a tail
 * call. Returns false if it is there.
 */
static bool add_entry_frame(const struct group *k, struct unwind_frame *f)
{
	const struct shape *s = k->shape;

	if (!s || all_frames || k->first->flags & DUMP_NOT_BEGUN || s->nframes > FRAMES_MAX)
		return false;
	unwind_name(unwinder, k->first->fn, false, f);
	if (!f->function || is_internal(f))
		return false;
	return !s->nframes || !s->frame[s->nframes - 1].function ||
	       strcmp(s->frame[s->nframes - 1].function, f->function) != 0;
}

static void print_group(const struct group *k)
{
	struct unwind_frame by;

	for (size_t i = 0; i < k->n; i++)
		print_header(k->g[i]);
	if (!k->shape)
		printf("\tgoroutine running on other thread; stack unavailable\n");
	for (size_t i = 0; k->shape && i < k->shape->nframes; i++) {
		if (i == FRAMES_MAX) {
			printf("...additional frames elided...\n");
			break;
		}
		frame_print(stdout, &k->shape->frame[i]);
	}
	if (add_entry_frame(k, &by))
		frame_print(stdout, &by);
	if (k->first->gopc) {
		unwind_name(unwinder, k->first->gopc, true, &by);
		printf("created by %s in goroutine %llu\n", frame_name(&by), (unsigned long long)k->first->parent);
		frame_print_place(stdout, &by);
	}
	if (k->first->task)
		printf("in task %llu\n", (unsigned long long)k->first->task);
	putchar('\n');
}

/* ---- JSON ---- */

static json_t *g_json(const struct dump_g *g, json_t *frames)
{
	json_t *o = must(json_object());
	char *name = show_clean(g->name);

	put(o, "gid", json_integer((json_int_t)g->gid));
	put(o, "task", json_integer((json_int_t)g->task));
	put(o, "status", json_string(g_status_name(g->status)));
	put(o, "wait_reason", json_string(g->status == G_WAITING ? status_of(g) : ""));
	put(o, "worker", g->worker > 0 ? json_integer(g->worker) : json_null());
	put(o, "p", g->p >= 0 ? json_integer(g->p) : json_null());
	put(o, "waiting_ns", json_integer(g->waiting_ns));
	put(o, "stack_used", json_integer((json_int_t)g->stack_used));
	put(o, "stack_size", json_integer((json_int_t)g->stack_size));
	put(o, "name", json_string(name));
	put(o, "created_by", json_integer((json_int_t)g->parent));
	put(o, "frames", json_incref(frames));
	free(name);
	return o;
}

static void print_as_json(void)
{
	json_t *reply = must(json_object()), *list = must(json_array());

	for (const struct group *k = first; k; k = k->next_printed) {
		struct unwind_frame entry;
		json_t *frames = must(json_array());

		for (size_t i = 0; k->shape && i < k->shape->nframes && i < FRAMES_MAX; i++)
			json_array_append_new(frames, frame_json(&k->shape->frame[i]));
		if (add_entry_frame(k, &entry))
			json_array_append_new(frames, frame_json(&entry));
		for (size_t i = 0; i < k->n; i++)
			json_array_append_new(list, g_json(k->g[i], frames));
		json_decref(frames);
	}
	put(reply, "goroutines", list);
	print_json(reply);
	json_decref(reply);
}

/* ---- the file ---- */

static void read_dump(const char *at, size_t size)
{
	const struct dump_head *head = (const struct dump_head *)at;
	const char *end = at + size;

	if (size < sizeof *head || head->magic != DUMP_MAGIC || head->version != DUMP_VERSION)
		fail(1, "the supervisor sent an invalid answer");
	at += sizeof *head;
	unwinder = must(unwind_open());
	for (unsigned i = 0; i < head->modules && at + sizeof(struct dump_module) <= end; i++) {
		const struct dump_module *m = (const struct dump_module *)at;
		char *path = m->file[0] ? format("%s", m->file) : format("/proc/%d/fd/%d", head->supervisor, m->fd);

		unwind_add(unwinder, m->name, path, m->base);
		free(path);
		at += sizeof *m;
	}
	unwind_add_process(unwinder, head->zygote);
	unwind_ready(unwinder);
	while (at + sizeof(struct dump_g) <= end) {
		const struct dump_g *g = (const struct dump_g *)at;

		if (g->bytes % 8 || g->bytes > (size_t)(end - at) - sizeof *g)
			break;
		add(g);
		at += sizeof *g + g->bytes;
	}
}

int verb_dump(int argc, char **argv)
{
	int64_t from = -1;
	const struct opt opts[] = {
		{"all", 'a', OPT_FLAG, &all_frames}, {"from", 0, OPT_COUNT0, &from}, {NULL, 0, OPT_FLAG, NULL}};
	int n = parse_options(argc, argv, opts, false), fd = (int)from;
	struct stat st;

	if (n > 1)
		usage("expected at most one goroutine number");
	if (from < 0) {
		struct conn c;
		json_t *what = request("dump");

		int64_t gid = n ? parse_id("goroutine", argv[0]) : 0;
		conn_open(&c);
		if (n && !gid) /* the supervisor takes 0 as all goroutines */
			fail(EXIT_UNKNOWN, "no such goroutine: 0");
		put(what, "gid", json_integer(gid));
		json_decref(conn_call(&c, what, -1));
		fd = conn_take_fd(&c);
		conn_close(&c);
	}
	if (fstat(fd, &st) < 0 || st.st_size == 0)
		fail(1, "the supervisor sent no stacks");
	void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		fail(1, "cannot read the stacks");
	read_dump(map, (size_t)st.st_size);
	if (cli.json)
		print_as_json();
	else
		for (const struct group *k = first; k; k = k->next_printed)
			print_group(k);
	return 0;
}
