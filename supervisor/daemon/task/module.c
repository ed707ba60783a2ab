/*
 * module.c - modules by their content, and their instances.
 *
 * A file is known by device, inode, size and times (struct source), and leads to a module: a
 * content, of which we keep a private copy, so that what happens to the file later changes
 * nothing. A .c file is known by the same marks of itself and of all that it includes.
 *
 * Jobs wait in the module's queue for a free instance. While the queue is not empty and none is
 * free, one more is loaded, one at a time: a trial in a clone of the zygote, of which we keep the
 * time, then the zygote itself.
 */
#include "shm/kernel.h"
#include "supervisor/daemon/task/module.h"
#include "supervisor/daemon/failure.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/link.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/task/compile.h"
#include "supervisor/daemon/task/tasks.h"
#include "supervisor/daemon/view/symbol.h"
#include "supervisor/keeper/keeper.h"
#include "supervisor/keeper/ledger.h"
#include "supervisor/zygote/zygote.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIAL_MS 5000u
#define RETRY_MS 200u
#define SOURCES_MAX 512u
#define MODULE_BYTES_MAX (1ul << 30)

/* The marks of a file. */
struct mark {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

struct dep {
	struct mark mark;
	char *path;
};

struct source {
	struct source *next;
	struct mark mark;
	char *cc; /* NULL: not compiled */
	struct module *module;
	struct dep *deps;
	unsigned ndeps;
};

struct request { /* for a file that is being compiled */
	struct request *next;
	module_done *done;
	void *arg;
};

struct compiling {
	struct compiling *next;
	struct mark mark;
	char *cc, *name;
	struct request *requests;
};

struct trial {
	struct module *module;
	uint32_t instance;
	pid_t pid;
	int pipe, status;
	uv_timer_t timer;
	bool late;
	char entry[Z_NAME];
};

static struct module *modules;
static struct source *sources;
static unsigned nsources;
static struct compiling *compilings;

static void pump(struct module *);
static void pump_later(struct module *);

/* ---- files ---- */

static void mark_of(struct mark *m, const struct stat *st)
{
	memset(m, 0, sizeof *m);
	m->dev = st->st_dev;
	m->ino = st->st_ino;
	m->size = st->st_size;
	m->mtime = st->st_mtim;
	m->ctime = st->st_ctim;
}

static bool same_mark(const struct mark *a, const struct mark *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static void free_source(struct source *s)
{
	for (unsigned i = 0; i < s->ndeps; i++)
		free(s->deps[i].path);
	free(s->deps);
	free(s->cc);
	free(s);
}

static bool deps_unchanged(const struct source *s)
{
	for (unsigned i = 0; i < s->ndeps; i++) {
		struct stat st;
		struct mark now;

		if (stat(s->deps[i].path, &st) < 0)
			return false;
		mark_of(&now, &st);
		if (!same_mark(&now, &s->deps[i].mark))
			return false;
	}
	return true;
}

static struct module *known_source(const struct mark *mark, const char *cc)
{
	for (struct source **at = &sources; *at; at = &(*at)->next) {
		struct source *s = *at;

		if (!same_mark(&s->mark, mark) || !same_text(s->cc, cc))
			continue;
		*at = s->next;
		if (!deps_unchanged(s)) {
			nsources--;
			free_source(s);
			return NULL;
		}
		s->next = sources; /* the last used first */
		sources = s;
		return s->module;
	}
	return NULL;
}

/* "target: a b \<newline> c": the names after the colon. */
static void learn_deps(struct source *s, char *text)
{
	char *save, *word = text ? strstr(text, ": ") : NULL;

	if (!word)
		return;
	for (word = strtok_r(word + 1, " \t\n", &save); word; word = strtok_r(NULL, " \t\n", &save)) {
		struct stat st;
		struct dep *more;

		if (strcmp(word, "\\") == 0 ||
		    strncmp(word, COMPILE_DIR, strlen(COMPILE_DIR)) == 0) /* our own header */
			continue;
		more = realloc(s->deps, (s->ndeps + 1) * sizeof *more);
		if (!more)
			return;
		s->deps = more;
		more = &s->deps[s->ndeps];
		memset(&more->mark, 0, sizeof more->mark); /* a name we cannot read back: never the same again */
		if (stat(word, &st) == 0)
			mark_of(&more->mark, &st);
		more->path = strdup(word);
		if (more->path)
			s->ndeps++;
	}
}

static void remember(const struct mark *mark, const char *cc, struct module *m, char *deps)
{
	struct source *s = calloc(1, sizeof *s), **at = &sources;

	if (!s)
		return;
	s->mark = *mark;
	s->cc = cc ? strdup(cc) : NULL;
	s->module = m;
	learn_deps(s, deps);
	s->next = sources;
	sources = s;
	if (++nsources <= SOURCES_MAX)
		return;
	while ((*at)->next)
		at = &(*at)->next;
	free_source(*at);
	*at = NULL;
	nsources--;
}

void sh_module_forget(void)
{
	while (sources) {
		struct source *s = sources;

		sources = s->next;
		free_source(s);
	}
	nsources = 0;
}

/* ---- contents ---- */

/* Not against malice: two multiplicative hashes of 64 bits each. */
static void hash_bytes(const unsigned char *at, size_t n, uint64_t out[2])
{
	uint64_t a = 0xcbf29ce484222325u, b = 0x9e3779b97f4a7c15u, w;

	for (; n >= 8; at += 8, n -= 8) {
		memcpy(&w, at, 8);
		a = (a ^ w) * 0x9fb21c651e98df25u;
		a ^= a >> 32;
		b = (b + w) * 0xd6e8feb86659fd93u;
		b ^= b >> 29;
	}
	w = n;
	memcpy(&w, at, n);
	out[0] = (a ^ w ^ n << 56) * 0x9fb21c651e98df25u;
	out[1] = (b + w) * 0xd6e8feb86659fd93u;
}

static const char *elf_fault(const void *map, size_t size)
{
	const Elf64_Ehdr *e = map, *self = NULL;
	static Elf64_Ehdr ours;

	if (!ours.e_machine) {
		int fd = kernel_open("/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);

		if (fd >= 0 && kernel_read(fd, &ours, sizeof ours) < 0)
			ours.e_machine = 0;
		if (fd >= 0)
			kernel_close(fd);
	}
	self = &ours;
	if (size < sizeof *e || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0)
		return "is no ELF file";
	if (e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_machine != self->e_machine)
		return "is for another kind of machine";
	if (e->e_type != ET_DYN)
		return "is no shared object: link it with -shared";
	return NULL;
}

static struct module *by_content(const uint64_t hash[2], uint64_t size)
{
	for (struct module *m = modules; m; m = m->next)
		if (m->hash[0] == hash[0] && m->hash[1] == hash[1] && m->size == size)
			return m;
	return NULL;
}

static struct module *new_module(const void *map, size_t size, const uint64_t hash[2], const char *name)
{
	struct module *m = sh_ledger->nmodules < LEDGER_MODULES ? calloc(1, sizeof *m) : NULL;
	struct ledger_module *l;
	size_t at = 0;

	if (!m)
		return NULL;
	snprintf(m->name, sizeof m->name, "%.*s", (int)sizeof m->name - 1, name);
	m->so_fd = kernel_memfd_create(m->name, MFD_CLOEXEC);
	while (m->so_fd >= 0 && at < size) {
		ssize_t n = kernel_write(m->so_fd, (const char *)map + at, size - at);

		if (n <= 0)
			break;
		at += (size_t)n;
	}
	if (at < size) {
		if (m->so_fd >= 0)
			kernel_close(m->so_fd);
		free(m);
		return NULL;
	}
	memcpy(m->hash, hash, sizeof m->hash);
	m->size = size;
	m->last = &m->first;
	m->next = modules;
	modules = m;
	m->index = sh_ledger->nmodules++;
	l = &sh_ledger->module[m->index];
	memcpy(l->hash, hash, sizeof l->hash);
	l->size = size;
	memcpy(l->name, m->name, sizeof l->name);
	sh_keeper_keep(KEEP_MODULE, m->index, 1, &m->so_fd);
	atomic_store(&l->used, 1);
	return m;
}

static struct module *from_file(int fd, const char *name, struct failure *why)
{
	struct stat st;
	struct module *m = NULL;
	const char *fault;
	uint64_t hash[2];
	void *map;

	why->code = CODE_NOT_LOADABLE;
	if (fstat(fd, &st) < 0 || st.st_size <= 0 || (size_t)st.st_size > MODULE_BYTES_MAX) {
		snprintf(why->text, sizeof why->text, "%s is no ELF file", name);
		return NULL;
	}
	/* read, not mapped: a file that shrinks under a mapping is a SIGBUS */
	map = malloc((size_t)st.st_size);
	if (!map || kernel_pread(fd, map, (size_t)st.st_size, 0) != st.st_size) {
		snprintf(why->text, sizeof why->text, "%s cannot be read", name);
		goto out;
	}
	fault = elf_fault(map, (size_t)st.st_size);
	if (fault) {
		snprintf(why->text, sizeof why->text, "%s %s", name, fault);
		goto out;
	}
	hash_bytes(map, (size_t)st.st_size, hash);
	m = by_content(hash, (uint64_t)st.st_size);
	if (!m)
		m = new_module(map, (size_t)st.st_size, hash, name);
	why->code = m ? 0 : CODE_SHOAL;
	if (!m)
		snprintf(why->text, sizeof why->text, "no memory for %s", name);
out:
	free(map);
	return m;
}

static void compiled(void *arg, int so_fd, char *deps, const struct failure *compiler)
{
	struct compiling *c = arg, **at = &compilings;
	struct failure why = *compiler;
	struct module *m = NULL;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (so_fd >= 0) {
		m = from_file(so_fd, c->name, &why);
		kernel_close(so_fd);
	} else {
		snprintf(why.text, sizeof why.text, "%.200s: %.250s", c->name, compiler->text);
	}
	if (m)
		remember(&c->mark, c->cc, m, deps);
	while (c->requests) {
		struct request *r = c->requests;

		c->requests = r->next;
		r->done(r->arg, m, &why);
		free(r);
	}
	free(c->cc);
	free(c->name);
	free(c);
}

static void compile(const char *path, const char *name, const struct mark *mark, const char *cc, module_done *done,
		    void *arg)
{
	struct request *r = malloc(sizeof *r);
	struct compiling *c;

	if (!r)
		abort();
	*r = (struct request){NULL, done, arg};
	for (c = compilings; c; c = c->next)
		if (same_mark(&c->mark, mark) && same_text(c->cc, cc)) {
			r->next = c->requests;
			c->requests = r;
			return;
		}
	c = calloc(1, sizeof *c);
	if (!c || !(c->cc = strdup(cc)) || !(c->name = strdup(name)))
		abort();
	c->mark = *mark;
	c->requests = r;
	c->next = compilings;
	compilings = c;
	sh_compile(path, cc, compiled, c);
}

static int open_file(const char *path, int cwd, struct stat *st, struct failure *why)
{
	int fd = kernel_openat(cwd >= 0 ? cwd : AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);

	if (fd < 0) {
		why->code = errno == ENOENT || errno == ENOTDIR			    ? CODE_NOT_FOUND
			    : errno == EMFILE || errno == ENFILE || errno == ENOMEM ? CODE_SHOAL
										    : CODE_NOT_LOADABLE;
		snprintf(why->text, sizeof why->text, "%.400s: %s", path, strerror(errno));
		return -1;
	}
	if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
		return fd;
	why->code = CODE_NOT_LOADABLE;
	snprintf(why->text, sizeof why->text, "%.400s is %s", path,
		 S_ISDIR(st->st_mode) ? "a folder" : "no regular file");
	kernel_close(fd);
	return -1;
}

void sh_module_get(const char *path, int cwd, const char *cc, module_done *done, void *arg)
{
	struct failure why = {0};
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	size_t len = strlen(path);
	bool source = len > 2 && strcmp(path + len - 2, ".c") == 0;
	char real[PATH_MAX], *absolute = NULL;
	struct stat st;
	struct mark mark;
	struct module *m;
	int fd = open_file(path, cwd, &st, &why);

	if (fd < 0) {
		done(arg, NULL, &why);
		return;
	}
	if (!cc || !*cc)
		cc = "cc";
	mark_of(&mark, &st);
	m = known_source(&mark, source ? cc : NULL);
	if (m || !source) {
		if (!m)
			m = from_file(fd, name, &why);
		if (m && !source)
			remember(&mark, NULL, m, NULL);
		kernel_close(fd);
		done(arg, m, &why);
		return;
	}
	snprintf(real, sizeof real, "/proc/self/fd/%d", fd);
	if (path[0] != '/')
		absolute = realpath(real, NULL);
	kernel_close(fd);
	compile(absolute ? absolute : path, name, &mark, cc, done, arg);
	free(absolute);
}

/* ---- instances ---- */

void sh_module_enqueue(struct module *m, struct job *j)
{
	j->next = NULL;
	*m->last = j;
	m->last = &j->next;
	pump(m);
}

void sh_module_enqueue_later(struct module *m, struct job *j)
{
	j->next = NULL;
	*m->last = j;
	m->last = &j->next;
	pump_later(m);
}

void sh_module_dequeue(struct module *m, struct job *j)
{
	for (struct job **at = &m->first; *at; at = &(*at)->next)
		if (*at == j) {
			*at = j->next;
			if (!*at)
				m->last = at;
			return;
		}
}

/* The load failed: nobody is told who was accepted already; those wait for the next try. */
static void refuse_waiting(struct module *m, const struct failure *why, const char *entry)
{
	struct job *j, *next;

	for (j = m->first; j; j = next) {
		next = j->next;
		if (j->accepted || (entry && strcmp(j->entry, entry) != 0))
			continue;
		sh_module_dequeue(m, j);
		sh_job_refuse(j, why);
	}
}

static void on_retry(uv_timer_t *timer)
{
	pump(timer->data);
}

static void pump_later(struct module *m)
{
	if (!m->retry) {
		m->retry = malloc(sizeof *m->retry);
		if (!m->retry)
			abort();
		uv_timer_init(sh_loop, m->retry);
		m->retry->data = m;
	}
	uv_timer_start(m->retry, on_retry, RETRY_MS, 0);
}

static void load_failed(struct module *m, const struct failure *why, const char *entry)
{
	m->loading = false;
	refuse_waiting(m, why, entry);
	if (m->first && entry)
		pump(m);
	else if (m->first)
		pump_later(m);
}

/* It is loaded and has no task. */
static void know_instance(struct modinstance *in)
{
	const struct ledger_instance *l = &sh_ledger->instance[in->id];
	struct module *m = in->module;

	in->base = l->base;
	in->text_start = l->text_start;
	in->text_end = l->text_end;
	in->load_gen = l->load_gen;
	sh_symbol_add(in);
	m->ninstances++;
	in->next = m->free;
	m->free = in;
	m->nfree++;
}

static void loaded(void *arg, const struct zrep *rep)
{
	struct modinstance *in = arg;
	struct module *m = in->module;
	struct failure why = {.code = rep->code};

	if (rep->code) {
		snprintf(why.text, sizeof why.text, "%s", rep->message);
		free(in);
		load_failed(m, &why, NULL);
		return;
	}
	m->loading = false;
	know_instance(in);
	pump(m);
}

static void load(struct module *m)
{
	struct zreq req = {.op = Z_LOAD};
	struct modinstance *in = calloc(1, sizeof *in);

	if (!in)
		abort();
	in->module = m;
	in->id = req.instance = sh_ledger->ninstances++;
	sh_ledger->instance[in->id].module = m->index;
	snprintf(req.name, sizeof req.name, "%s", m->name);
	sh_link_ask(&req, &m->so_fd, 1, loaded, in);
}

static void free_trial(uv_handle_t *timer)
{
	free(timer->data);
}

static void trial_ended(void *arg, int status)
{
	struct trial *t = arg;
	struct module *m = t->module;
	struct ztrial found;
	struct failure why = {.code = CODE_NOT_LOADABLE};
	bool said = kernel_read(t->pipe, &found, sizeof found) == sizeof found;

	if (t->late) {
		snprintf(why.text, sizeof why.text, "%s: a constructor did not end within %u s", m->name,
			 TRIAL_MS / 1000);
	} else if (WIFSIGNALED(status)) {
		snprintf(why.text, sizeof why.text, "%s: loading it crashed (%s)", m->name,
			 sh_signal_name(WTERMSIG(status)));
	} else if (!said) {
		snprintf(why.text, sizeof why.text, "%s: a constructor ended the process", m->name);
	} else {
		found.message[sizeof found.message - 1] = '\0';
		why.code = found.code;
		snprintf(why.text, sizeof why.text, "%s", found.message);
	}
	if (why.code)
		load_failed(m, &why, why.code == CODE_NOT_FOUND ? t->entry : NULL);
	else
		load(m);
	kernel_close(t->pipe);
	uv_close((uv_handle_t *)&t->timer, free_trial);
}

static void on_trial_late(uv_timer_t *timer)
{
	struct trial *t = timer->data;

	t->late = true;
	kernel_kill(t->pid, SIGKILL);
}

static void trial_started(void *arg, const struct zrep *rep)
{
	struct trial *t = arg;
	struct failure why = {.code = rep->code};

	if (rep->code) {
		snprintf(why.text, sizeof why.text, "%.*s: %.400s", Z_NAME, t->module->name, rep->message);
		load_failed(t->module, &why, NULL);
		kernel_close(t->pipe);
		uv_close((uv_handle_t *)&t->timer, free_trial);
		return;
	}
	t->pid = rep->pid;
	uv_timer_start(&t->timer, on_trial_late, TRIAL_MS, 0);
	sh_fleet_watch(t->pid, trial_ended, t);
}

/* The trial's answer fits the pipe, so it never waits for us. */
static void try_load(struct module *m)
{
	struct zreq req = {.op = Z_TRIAL};
	struct trial *t = calloc(1, sizeof *t);
	struct failure why = {.code = CODE_SHOAL};
	int ends[2];

	if (!t)
		abort();
	m->loading = true;
	if (kernel_pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		snprintf(why.text, sizeof why.text, "%s: %s", m->name, strerror(errno));
		free(t);
		load_failed(m, &why, NULL);
		return;
	}
	t->module = m;
	t->pipe = ends[0];
	uv_timer_init(sh_loop, &t->timer);
	t->timer.data = t;
	memcpy(t->entry, m->first->entry, sizeof t->entry);
	snprintf(req.name, sizeof req.name, "%s", m->name);
	memcpy(req.entry, t->entry, sizeof req.entry);
	sh_link_ask(&req, (int[]){m->so_fd, ends[1]}, 2, trial_started, t);
	kernel_close(ends[1]);
}

static void pump(struct module *m)
{
	struct failure full = {.code = CODE_SHOAL, .text = "too many modules are loaded"};

	while (m->first && m->free) {
		struct job *j = m->first;
		struct modinstance *in = m->free;

		m->free = in->next;
		m->nfree--;
		sh_module_dequeue(m, j);
		sh_job_place(j, in);
	}
	if (!m->first || m->loading)
		return;
	if (sh_ledger->ninstances < LEDGER_INSTANCES)
		try_load(m);
	else if (!m->ninstances)
		refuse_waiting(m, &full, NULL);
}

void sh_module_give_back(struct modinstance *in, bool spent)
{
	struct module *m = in->module;

	if (spent) {
		m->ninstances--; /* the struct stays: sh_symbol knows its addresses by it */
	} else {
		in->next = m->free;
		m->free = in;
		m->nfree++;
	}
	pump(m);
}

bool sh_module_has(const struct module *m, const char *entry)
{
	for (unsigned i = 0; i < m->nentries; i++)
		if (strcmp(m->entries[i], entry) == 0)
			return true;
	return false;
}

void sh_module_learn(struct module *m, const char *entry)
{
	void *more;

	if (sh_module_has(m, entry))
		return;
	more = realloc(m->entries, (m->nentries + 1) * sizeof *m->entries);
	if (!more)
		return;
	m->entries = more;
	snprintf(m->entries[m->nentries], Z_NAME, "%s", entry);
	if (m->nentries < LEDGER_ENTRIES) {
		memcpy(sh_ledger->module[m->index].entries[m->nentries], m->entries[m->nentries], Z_NAME);
		sh_ledger->module[m->index].nentries = m->nentries + 1;
	}
	m->nentries++;
}

/* ---- after the death of a supervisor ---- */

void sh_modules_adopt(const int *so_fd)
{
	struct module **known = calloc(LEDGER_MODULES, sizeof *known);

	if (!known)
		abort();
	for (unsigned i = 0; i < sh_ledger->nmodules && i < LEDGER_MODULES; i++) {
		struct ledger_module *l = &sh_ledger->module[i];
		struct module *m;

		if (!atomic_load(&l->used) || so_fd[i] < 0)
			continue;
		m = known[i] = calloc(1, sizeof *m);
		if (!m)
			abort();
		memcpy(m->hash, l->hash, sizeof m->hash);
		memcpy(m->name, l->name, sizeof m->name);
		memcpy(m->crashed_ns, l->crashed_ns, sizeof m->crashed_ns);
		m->size = l->size;
		m->crashes = l->crashes;
		m->so_fd = so_fd[i];
		m->index = i;
		m->last = &m->first;
		m->next = modules;
		modules = m;
		for (unsigned k = 0; k < l->nentries && k < LEDGER_ENTRIES; k++)
			sh_module_learn(m, l->entries[k]);
	}
	for (uint32_t i = 0; i < sh_ledger->ninstances && i < LEDGER_INSTANCES; i++) {
		struct ledger_instance *l = &sh_ledger->instance[i];
		struct modinstance *in;

		if (atomic_load(&l->state) != INSTANCE_LOADED || l->module >= LEDGER_MODULES || !known[l->module])
			continue;
		in = calloc(1, sizeof *in);
		if (!in)
			abort();
		in->id = i;
		in->module = known[l->module];
		know_instance(in);
	}
	free(known);
}

/* Takes one that is free out: its task goes on, or it is to be reset. NULL: it is not. */
struct modinstance *sh_instance_adopt(uint32_t id)
{
	for (struct module *m = modules; m; m = m->next)
		for (struct modinstance **at = &m->free; *at; at = &(*at)->next) {
			struct modinstance *in = *at;

			if (in->id != id)
				continue;
			*at = in->next;
			m->nfree--;
			return in;
		}
	return NULL;
}

struct module *sh_module_at(uint32_t index)
{
	for (struct module *m = modules; m; m = m->next)
		if (m->index == index)
			return m;
	return NULL;
}

void sh_modules_keep(void)
{
	for (struct module *m = modules; m; m = m->next)
		sh_keeper_keep(KEEP_MODULE, m->index, 1, &m->so_fd);
}
