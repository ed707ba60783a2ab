/*
 * wordfreq.c - counts the words of all files in the given folders, with a goroutine for each file.
 *
 *   shoal run --attempts 100 wordfreq.so [-n N] [-j N] [--crash-on PATTERN [--crash-times N]] DIR...
 *
 *   -n N              print the N most frequent words (20), as lines "count word"
 *   -j N              run at most N goroutines at the same time (64)
 *   --crash-on PAT    goroutines of files whose path contains or matches PAT write to NULL: every
 *                     time, so that the file is left out, or ...
 *   --crash-times N   ... the first N times (below 100): then they start again and the file is counted
 *
 * A word is a sequence of A-Z and a-z, in lower case; it ends with its file at the latest. So the result is the
 * same as that of
 *
 *   find DIR... -type f -exec grep -ahs '' {} + | tr -cs A-Za-z '\n' | tr A-Z a-z | grep . |
 *       sort | uniq -c | sort -k1,1nr -k2,2 | head -n N
 *
 * with LC_ALL=C (grep instead of cat, because it ends the last line of each file). Links are not followed, and
 * files that cannot be read are left out.
 *
 * The count is right whichever worker is killed at whichever moment:
 *  - A file's goroutine counts into a table that only it knows, and commits by one store of the pointer to the
 *    finished table. If it is killed before the store, it starts again from its entry. If it is killed after the
 *    store, its next run finds the table and ends.
 *  - `places`, a channel, limits the number of goroutines. Only the root takes and returns places. It returns one
 *    after a join, which returns exactly once however the goroutine ended. So a death can neither lose a place nor
 *    return one twice.
 *  - Only the root adds up the tables. If it is killed meanwhile, it starts again with fresh memory, and the other
 *    goroutines are gone.
 *  - The result is written at the very end. If the root is killed between this write and its return, it starts
 *    again; but the bytes that it has written are in the task's output exactly once. So it checks how many there
 *    are, and writes the rest of the same text.
 * No goroutine holds a lock, so a dead goroutine cannot hold one.
 */
#include <shoal.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_SIZE 65536
#define ARENA_SIZE 16384
#define ATTEMPTS 100	/* attempts of a file's goroutine */
#define ATTEMPTS_LOST 3 /* attempts of a goroutine that crashes each time */

/* ---- tables: word -> count ---- */

struct entry {
	char *word;
	uint32_t hash, len;
	uint64_t count;
};

struct arena { /* memory of the words */
	struct arena *next;
	size_t used, size;
	char data[];
};

struct table {
	struct entry *slot;
	size_t size, used; /* size is a power of 2 */
	struct arena *arena;
};

static void *must(void *p)
{
	if (!p) {
		fprintf(stderr, "wordfreq: out of memory\n");
		_exit(1);
	}
	return p;
}

static char *keep_word(struct table *t, const char *word, size_t len)
{
	struct arena *a = t->arena;
	if (!a || a->size - a->used < len) {
		/* The first block is small, because most files have few words. */
		size_t size = a ? ARENA_SIZE : ARENA_SIZE / 8;
		size = len > size ? len : size;
		a = must(malloc(sizeof(*a) + size));
		*a = (struct arena){.next = t->arena, .size = size};
		t->arena = a;
	}
	char *copy = a->data + a->used;
	a->used += len;
	return memcpy(copy, word, len);
}

static void grow(struct table *t)
{
	struct entry *old = t->slot;
	size_t n = t->size;
	t->size = n ? n * 2 : 64;
	t->slot = must(calloc(t->size, sizeof(*t->slot)));
	for (size_t i = 0; i < n; i++) {
		if (!old[i].word)
			continue;
		size_t at = old[i].hash & (t->size - 1);
		while (t->slot[at].word)
			at = (at + 1) & (t->size - 1);
		t->slot[at] = old[i];
	}
	free(old);
}

static void add(struct table *t, const char *word, size_t len, uint32_t hash, uint64_t count)
{
	if (t->used * 4 >= t->size * 3)
		grow(t);
	size_t at = hash & (t->size - 1);
	for (; t->slot[at].word; at = (at + 1) & (t->size - 1)) {
		struct entry *e = &t->slot[at];
		if (e->hash == hash && e->len == len && memcmp(e->word, word, len) == 0) {
			e->count += count;
			return;
		}
	}
	t->slot[at] = (struct entry){keep_word(t, word, len), hash, (uint32_t)len, count};
	t->used++;
}

static void table_free(struct table *t)
{
	while (t->arena) {
		struct arena *a = t->arena;
		t->arena = a->next;
		free(a);
	}
	free(t->slot);
	free(t);
}

/* ---- the goroutine of a file ---- */

struct file { /* on the heap; the root allocates and frees it */
	shoal_gid gid;
	_Atomic(struct table *) result; /* the commit */
	_Atomic bool unreadable;
	_Atomic int crashes; /* crashes that remain; -1: crash each time */
	char path[];
};

/* A word may continue in the next piece that is read. */
struct scanner {
	char *word;
	size_t len, room;
	uint32_t hash;
};

static void end_word(struct scanner *s, struct table *t)
{
	if (s->len)
		add(t, s->word, s->len, s->hash, 1);
	s->len = 0;
	s->hash = 2166136261u;
}

static void scan(struct scanner *s, struct table *t, const unsigned char *p, size_t n)
{
	for (; n; p++, n--) {
		unsigned char c = *p | 0x20;
		if (c < 'a' || c > 'z') {
			end_word(s, t);
			continue;
		}
		if (s->len == s->room)
			s->word = must(realloc(s->word, s->room = s->room ? s->room * 2 : 64));
		s->word[s->len++] = (char)c;
		s->hash = (s->hash ^ c) * 16777619u;
	}
}

static int *volatile nowhere; /* volatile, so that the compiler keeps the store to NULL */

static void count_file(void *arg)
{
	struct file *f = *(struct file **)arg;
	if (atomic_load(&f->result))
		return; /* an earlier run committed the table and was killed before it ended */
	int crashes = atomic_load(&f->crashes);
	if (crashes) {
		if (crashes > 0)
			atomic_store(&f->crashes, crashes - 1);
		*nowhere = 1;
	}
	int fd = open(f->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		atomic_store(&f->unreadable, true);
		return;
	}
	struct table *t = must(calloc(1, sizeof(*t)));
	struct scanner s = {0};
	unsigned char *buf = must(malloc(READ_SIZE));
	ssize_t n;
	end_word(&s, t);
	while ((n = read(fd, buf, READ_SIZE)) > 0)
		scan(&s, t, buf, (size_t)n);
	end_word(&s, t);
	if (n < 0)
		atomic_store(&f->unreadable, true);
	close(fd);
	free(buf);
	free(s.word);
	atomic_store(&f->result, t);
}

/* ---- the root: finds the files, starts the goroutines, adds up ---- */

struct root {
	struct table *total;
	struct shoal_chan *places; /* a counting semaphore with one element for each running goroutine */
	struct file **queue;	   /* the files of these goroutines, oldest first: a ring of `jobs` */
	size_t jobs, first, n;
	const char *crash_on;
	int crash_times;
	size_t unreadable, left_out;
	bool failed, cancelled;
};

static void merge(struct table *total, const struct table *t)
{
	for (size_t i = 0; i < t->size; i++) {
		const struct entry *e = &t->slot[i];
		if (e->word)
			add(total, e->word, e->len, e->hash, e->count);
	}
}

/* Waits for the oldest goroutine, takes its result, and returns its place. */
static void collect(struct root *r)
{
	struct file *f = r->queue[r->first];
	struct shoal_end end = {0};
	if (shoal_join(f->gid, &end) == -ECANCELED) {
		r->cancelled = true;
		return;
	}
	r->first = (r->first + 1) % r->jobs;
	r->n--;
	/* The goroutine may have crashed after it committed its result. */
	struct table *t = atomic_load(&f->result);
	if (t) {
		merge(r->total, t);
		table_free(t);
	} else if (!atomic_load(&f->unreadable)) {
		fprintf(stderr, "wordfreq: %s is left out: its goroutine %s\n", f->path,
			end.how == SHOAL_CRASHED ? "crashed" : "was lost");
		r->left_out++;
		if (!atomic_load(&f->crashes))
			r->failed = true;
	}
	r->unreadable += atomic_load(&f->unreadable);
	free(f);
	shoal_recv(r->places, NULL);
}

static bool matches(const char *pattern, const char *path)
{
	return pattern && (strstr(path, pattern) || fnmatch(pattern, path, 0) == 0);
}

static void start_file(struct root *r, const char *path)
{
	while (!r->cancelled && shoal_send_timed(r->places, NULL, 0) == -EAGAIN)
		collect(r);
	if (r->cancelled)
		return;
	size_t len = strlen(path) + 1;
	struct file *f = must(calloc(1, sizeof(*f) + len));
	memcpy(f->path, path, len);
	struct shoal_go_opts opts = {.name = "count_file", .attempts = ATTEMPTS, .flags = SHOAL_ISOLATED};
	if (matches(r->crash_on, path)) {
		atomic_store(&f->crashes, r->crash_times);
		opts.attempts = r->crash_times < 0 ? ATTEMPTS_LOST : ATTEMPTS;
	}
	f->gid = shoal_go_with(&opts, count_file, &f, sizeof(f));
	if (!f->gid) {
		fprintf(stderr, "wordfreq: cannot start a goroutine: %s\n", strerror(errno));
		_exit(1);
	}
	r->queue[(r->first + r->n++) % r->jobs] = f;
}

struct todo { /* folders that are not read yet */
	char **path;
	size_t n, room;
};

static void visit(struct root *r, struct todo *todo, const char *path)
{
	struct stat st;
	if (lstat(path, &st) < 0) {
		r->unreadable++;
	} else if (S_ISREG(st.st_mode)) {
		start_file(r, path);
	} else if (S_ISDIR(st.st_mode)) {
		if (todo->n == todo->room)
			todo->path = must(realloc(todo->path, (todo->room = todo->room * 2 + 64) * sizeof(char *)));
		todo->path[todo->n++] = must(strdup(path));
	}
}

static void walk(struct root *r, const char *start)
{
	struct todo todo = {0};
	visit(r, &todo, start);
	while (todo.n && !r->cancelled) {
		char *folder = todo.path[--todo.n];
		DIR *d = opendir(folder);
		struct dirent *e;
		r->unreadable += !d;
		while (d && !r->cancelled && (e = readdir(d))) {
			if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
				continue;
			size_t size = strlen(folder) + strlen(e->d_name) + 2;
			char *path = must(malloc(size));
			snprintf(path, size, "%s/%s", folder, e->d_name);
			visit(r, &todo, path);
			free(path);
		}
		if (d)
			closedir(d);
		free(folder);
	}
	free(todo.path);
}

/* ---- the result ---- */

static int by_count(const void *x, const void *y)
{
	const struct entry *a = x, *b = y;
	if (a->count != b->count)
		return a->count < b->count ? 1 : -1;
	size_t len = a->len < b->len ? a->len : b->len;
	int order = memcmp(a->word, b->word, len);
	return order ? order : (a->len > b->len) - (a->len < b->len);
}

/* Returns how many bytes an earlier run of the root has written. Only the result goes to standard output. */
static size_t written_before(void)
{
	int fd = dup(1);
	struct stat st;
	bool file = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	if (fd >= 0)
		close(fd);
	return file ? (size_t)st.st_size : 0;
}

static bool print_top(struct table *t, size_t top)
{
	size_t n = 0, size = 0, at = 0;
	for (size_t i = 0; i < t->size; i++)
		if (t->slot[i].word)
			t->slot[n++] = t->slot[i];
	if (n)
		qsort(t->slot, n, sizeof(*t->slot), by_count);
	n = n < top ? n : top;
	for (size_t i = 0; i < n; i++)
		size += t->slot[i].len + 24;
	char *text = must(malloc(size + 1));
	for (size_t i = 0; i < n; i++)
		at += (size_t)sprintf(text + at, "%llu %.*s\n", (unsigned long long)t->slot[i].count,
				      (int)t->slot[i].len, t->slot[i].word);
	for (size_t done = written_before(); done < at;) {
		ssize_t k = write(1, text + done, at - done);
		if (k < 0)
			return false;
		done += (size_t)k;
	}
	return true;
}

static int wrong_usage(void)
{
	fprintf(stderr, "usage: wordfreq [-n N] [-j N] [--crash-on PATTERN [--crash-times N]] DIR...\n");
	return 2;
}

static bool number(const char *text, long min, long max, long *n)
{
	char *end;
	errno = 0;
	*n = strtol(text, &end, 10);
	return end != text && !*end && !errno && *n >= min && *n <= max;
}

int shoal_main(int argc, char **argv)
{
	long top = 20, jobs = 64, times = -1;
	struct root r = {0};
	int i = 1;
	for (; i < argc && argv[i][0] == '-'; i += 2) {
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		if (strcmp(argv[i], "--crash-on") == 0 && *value)
			r.crash_on = value;
		else if (!(strcmp(argv[i], "-n") == 0 && number(value, 0, LONG_MAX, &top)) &&
			 !(strcmp(argv[i], "-j") == 0 && number(value, 1, 1000000, &jobs)) &&
			 !(strcmp(argv[i], "--crash-times") == 0 && number(value, 0, ATTEMPTS - 1, &times)))
			return wrong_usage();
	}
	if (i >= argc)
		return wrong_usage();
	r.crash_times = (int)times;
	r.jobs = (size_t)jobs;
	r.total = must(calloc(1, sizeof(*r.total)));
	r.queue = must(calloc(r.jobs, sizeof(*r.queue)));
	r.places = must(shoal_chan_new(0, r.jobs));
	for (; i < argc && !r.cancelled; i++) {
		if (access(argv[i], F_OK) < 0) {
			fprintf(stderr, "wordfreq: %s: %s\n", argv[i], strerror(errno));
			r.failed = true;
			continue;
		}
		walk(&r, argv[i]);
	}
	while (r.n && !r.cancelled)
		collect(&r);
	if (r.cancelled)
		return 1;
	if (r.unreadable)
		fprintf(stderr, "wordfreq: %zu files could not be read\n", r.unreadable);
	return print_top(r.total, (size_t)top) && !r.failed ? 0 : 1;
}
