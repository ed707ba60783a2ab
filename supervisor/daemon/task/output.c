/*
 * output.c - what tasks write: two memfds for each task, kept for run and logs.
 *
 * No byte is replaced. What a reader has not read yet is there; what nobody reads is kept as far as
 * the budget (--output-memory) allows, and beyond it the oldest is dropped from the front, in pages,
 * and counted. To keep that promise the supervisor alone decides how far each stream may grow
 * (struct task_room) and where each begins (dropped, in the ledger); workers only compare.
 *
 * Every stream is charged with what it may grow to, so the sum is never below what is in use:
 *
 *   0        dropped                          size            limit
 *   |-- gone --|------------- kept -------------|--- credit ----|
 *              |<----------------- charged -------------------->|
 *
 * An attached reader holds back the task: limit follows the slowest reader. Without readers a writer
 * gets more credit as soon as it asks, and pays for it with its oldest bytes when the budget is used up.
 * With --output-dir bytes are copied to a file instead of being dropped, and the place up to which they are
 * there (moved, in the ledger) takes the part of dropped above.
 *
 * Of ended tasks the newest KEEP_TASKS are kept, and the oldest of those pay first.
 *
 * OWNER  this process. dropped and the place of the slowest reader are in the ledger
 * DEATH  dropped is stored before the bytes go. The successor keeps everything behind the slowest reader
 *        until all of them have had time to come back
 */
#include "shm/kernel.h"
#include "supervisor/daemon/task/output.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/task/spill.h"
#include "supervisor/daemon/task/tasks.h"
#include "supervisor/keeper/keeper.h"
#include "supervisor/keeper/ledger.h"
#include "core/root.h"
#include "core/task/task.h"
#include "shm/segment.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEEP_TASKS 1000u
#define PAGE 4096ul
#define CREDIT_LEAST (64ul << 10)
#define CREDIT_MOST (4ul << 20)
#define NOT_READ UINT64_MAX
#define GLANCE_NS 1000000000ull
#define SPILL_PIECE (8ul << 20)

struct reader {
	struct reader *next;	  /* of all */
	struct reader *next_here; /* of the job */
	const void *conn;
	struct job *job;
	uint64_t at[2];
	uint64_t until_ns; /* a `logs` without -f: it is let go then; 0: attached until it goes */
};

static struct job *oldest, **newest = &oldest;
static unsigned nkept, nreaders;
static struct reader *readers;
static uint64_t charged; /* the sum of all jobs */
static uint64_t leaving; /* of these, what is being copied to files */

static struct ledger_job *entry(const struct job *j)
{
	return &sh_ledger->job[j->id % TASK_SLOTS];
}

static struct task_room *room(const struct job *j, int stream)
{
	return &task_at(j->id % TASK_SLOTS)->out[stream].room;
}

static int fd_of(const struct job *j, int stream)
{
	return stream ? j->err : j->out;
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t within(uint64_t n, uint64_t low, uint64_t high)
{
	return n < low ? low : min(n, high);
}

static uint64_t page_up(uint64_t n)
{
	return (n + PAGE - 1) & ~(PAGE - 1);
}

/* ---- files ---- */

static int make(const char *name)
{
	int fd = kernel_memfd_create(name, MFD_CLOEXEC);

	if (fd >= 0)
		kernel_fcntl(fd, F_SETFL, O_APPEND);
	return fd;
}

int sh_output_open(struct job *j)
{
	if (j->out < 0)
		j->out = make("stdout");
	if (j->err < 0)
		j->err = make("stderr");
	return j->out < 0 || j->err < 0 ? -1 : 0;
}

int sh_file_reader(int fd)
{
	char path[40];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return kernel_open(path, O_RDONLY | O_CLOEXEC, 0);
}

int sh_output_reader(const struct job *j, int stream)
{
	int fd = fd_of(j, stream);

	return fd < 0 ? kernel_memfd_create("nothing", MFD_CLOEXEC) : sh_file_reader(fd);
}

uint64_t sh_output_dropped(const struct job *j, int stream)
{
	return entry(j)->dropped[stream];
}

uint64_t sh_output_moved(const struct job *j, int stream)
{
	return entry(j)->moved[stream];
}

uint64_t sh_output_size(const struct job *j, int stream)
{
	int fd = fd_of(j, stream);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_size : entry(j)->moved[stream];
}

int sh_output_files(const struct job *j, json_t *reply, int fds[4])
{
	uint64_t moved[2];
	int n = 2;

	for (int s = 0; s < 2; s++) {
		moved[s] = entry(j)->moved[s];
		if (moved[s] > entry(j)->dropped[s]) {
			fds[n] = sh_spill_reader(j->id, s);
			json_object_set_new(reply, s ? "file_err" : "file_out", json_boolean(fds[n] >= 0));
			n += fds[n] >= 0;
		}
	}
	json_object_set_new(reply, "moved", json_pack("[I,I]", (json_int_t)moved[0], (json_int_t)moved[1]));
	return n;
}

/* ---- readers ---- */

/* The lowest byte that a reader still needs; NOT_READ: there is no reader. */
static uint64_t slowest(const struct job *j, int stream)
{
	uint64_t at = entry(j)->followed ? entry(j)->read[stream] : NOT_READ;

	for (const struct reader *r = j->readers; r; r = r->next_here)
		at = min(at, r->at[stream]);
	return at;
}

static bool is_read(const struct job *j)
{
	return j->readers || entry(j)->followed;
}

/* ---- what is dropped, and what is charged for the rest ---- */

static void charge(struct job *j)
{
	uint64_t sum = 0;

	for (int s = 0; s < 2; s++) {
		uint64_t end = sh_output_size(j, s), limit = atomic_load(&room(j, s)->limit);

		if (j->state != JOB_ENDED && fd_of(j, s) >= 0 && limit > end)
			end = limit;
		sum += page_up(end) - min(page_up(end), entry(j)->moved[s]);
	}
	charged += sum - j->charged;
	j->charged = sum;
}

static void free_memory(struct job *j, int stream, uint64_t to)
{
	entry(j)->moved[stream] = to;
	if (fd_of(j, stream) >= 0)
		kernel_fallocate(fd_of(j, stream), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)page_up(to));
}

static void grant_waiting(void);

/* The bytes are in the file, or there is no room for them: then they and those before them are dropped. */
static void copied(uint64_t task, int stream, uint64_t from, uint64_t to, int err)
{
	struct job *j = sh_job_find(task);

	leaving -= to - from;
	if (!j) { /* its slot was taken meanwhile */
		sh_spill_remove(task, stream);
		return;
	}
	j->leaving[stream] = 0;
	if (err) {
		sh_log("task %lu: its output cannot be kept in a file: %s", (unsigned long)task, strerror(-err));
		entry(j)->dropped[stream] = to;
		sh_spill_remove(task, stream);
	}
	free_memory(j, stream, to);
	charge(j);
	grant_waiting();
}

/* Bytes before `to` leave memory, but none that a reader needs: to the file if there is one. How many go. */
static uint64_t drop_before(struct job *j, int stream, uint64_t to)
{
	uint64_t size = sh_output_size(j, stream), from = entry(j)->moved[stream];

	to = min(to, slowest(j, stream));
	to = j->state == JOB_ENDED && to >= size ? size : min(to, size) & ~(PAGE - 1);
	if (fd_of(j, stream) < 0 || to <= from || j->leaving[stream])
		return 0;
	if (sh_spill_on()) {
		to = min(to, from + SPILL_PIECE);
		if (!sh_spill_copy(j->id, stream, fd_of(j, stream), from, to, copied))
			return 0;
		j->leaving[stream] = to - from;
		leaving += to - from;
	} else {
		entry(j)->dropped[stream] = to;
		free_memory(j, stream, to);
	}
	return to - from;
}

/* About so many bytes, the longer stream first. */
static void drop_some(struct job *j, uint64_t bytes)
{
	uint64_t *moved = entry(j)->moved, gone = 0;

	for (int i = 0; i < 2 && gone < bytes; i++) {
		int longer = sh_output_size(j, 1) - moved[1] > sh_output_size(j, 0) - moved[0],
		    s = i ? !longer : longer;

		gone += drop_before(j, s, moved[s] + page_up(bytes - gone));
		charge(j);
	}
}

static uint64_t budget(void)
{
	return sh_options.output_memory;
}

/* By how much the budget will still be exceeded when what is being copied to files has gone. */
static uint64_t excess(void)
{
	return charged > budget() + leaving ? charged - leaving - budget() : 0;
}

/* Until the budget is kept, or nothing can be dropped any more: the oldest ended tasks, this one, all others. */
static void keep_budget(struct job *j)
{
	unsigned n = sh_jobs_live();

	for (struct job *old = oldest; old && excess(); old = old->newer)
		drop_some(old, excess());
	if (excess())
		drop_some(j, excess());
	for (unsigned i = 0; i < n && excess(); i++) {
		struct job *other = sh_job_live(i);
		uint64_t share = budget() / n;

		if (other->charged > share)
			drop_some(other, min(excess(), other->charged - share));
	}
}

/* ---- how far a task may write ---- */

static uint64_t window(void)
{
	return within(budget() / 8 / (nreaders ? nreaders : 1), CREDIT_LEAST, CREDIT_MOST);
}

static bool set_limit(struct task_room *r, uint64_t limit, uint64_t ask_at)
{
	bool more = limit > atomic_load(&r->limit);

	atomic_store(&r->limit, limit);
	atomic_store(&r->ask_at, ask_at);
	if (more)
		atomic_fetch_add(&r->raised, 1);
	return more;
}

/* True: a limit was raised, so the medic has writers to wake. */
static bool grant_stream(struct job *j, int s)
{
	uint64_t size = sh_output_size(j, s), slow = slowest(j, s), most = budget() / 4, credit;
	struct task_room *r = room(j, s);
	bool more;

	if (slow != NOT_READ) {
		more = set_limit(r, slow + window(), ROOM_NEVER);
		drop_before(j, s, size > most ? size - most : 0);
	} else {
		credit = within((size - entry(j)->moved[s]) / 2, min(CREDIT_LEAST, page_up(budget() / 1024)),
				min(CREDIT_MOST, budget() / 16));
		drop_before(j, s, size + credit > most ? size + credit - most : 0);
		if (leaving && charged + credit > budget()) /* a file takes them: it asks again then */
			return false;
		more = set_limit(r, size + credit, size + credit / 2);
	}
	charge(j);
	if (charged > budget())
		keep_budget(j);
	if (charged > budget() && slow != NOT_READ) {
		set_limit(r, slow + CREDIT_LEAST, ROOM_NEVER);
		charge(j);
	}
	return more;
}

static void grant(struct job *j)
{
	bool more = grant_stream(j, 0);

	if (grant_stream(j, 1) || more)
		sh_bell();
}

void sh_output_begin(struct job *j)
{
	struct stat st;

	for (int s = 0; s < 2; s++) {
		entry(j)->dropped[s] = entry(j)->moved[s] = entry(j)->read[s] = 0;
		if (fstat(fd_of(j, s), &st) == 0) {
			room(j, s)->device = st.st_dev;
			room(j, s)->file = st.st_ino;
		}
	}
	entry(j)->followed = 0;
	grant(j);
}

void sh_output_look(struct job *j)
{
	if (atomic_load_explicit(&room(j, 0)->ask_at, memory_order_relaxed) == ROOM_ASKED ||
	    atomic_load_explicit(&room(j, 1)->ask_at, memory_order_relaxed) == ROOM_ASKED)
		grant(j);
}

/* Those for which there was no room until now. */
static void grant_waiting(void)
{
	for (unsigned i = 0; i < sh_jobs_live(); i++)
		sh_output_look(sh_job_live(i));
	if (!sh_jobs_live() && oldest)
		keep_budget(oldest);
}

/* ---- reading ---- */

static void note_slowest(struct job *j)
{
	if (entry(j)->followed == 2) /* what a predecessor noted holds for those that have not come back */
		return;
	for (int s = 0; s < 2 && j->readers; s++) {
		uint64_t at = j->readers->at[s];

		for (const struct reader *r = j->readers; r; r = r->next_here)
			at = min(at, r->at[s]);
		entry(j)->read[s] = at;
	}
	entry(j)->followed = j->readers != NULL;
}

static void reader_moved(struct job *j)
{
	note_slowest(j);
	if (j->state != JOB_ENDED)
		grant(j);
	else
		charge(j);
}

void sh_output_read(struct job *j, const void *conn, uint64_t at[2])
{
	struct reader *r = j->readers;

	while (r && r->conn != conn)
		r = r->next_here;
	if (!r && conn) {
		r = calloc(1, sizeof *r);
		if (!r)
			abort();
		*r = (struct reader){.next = readers, .next_here = j->readers, .conn = conn, .job = j};
		readers = j->readers = r;
		nreaders++;
	}
	for (int s = 0; s < 2; s++) {
		if (at[s] < entry(j)->dropped[s])
			at[s] = entry(j)->dropped[s];
		if (r && r->at[s] < at[s])
			r->at[s] = at[s];
	}
	reader_moved(j);
}

static void free_reader(struct reader *r)
{
	struct reader **at = &r->job->readers;

	while (*at != r)
		at = &(*at)->next_here;
	*at = r->next_here;
	for (at = &readers; *at != r; at = &(*at)->next)
		;
	*at = r->next;
	nreaders--;
	free(r);
}

static void detach(const void *conn, uint64_t now)
{
	for (struct reader *r = readers, *next; r; r = next) {
		struct job *j = r->job;

		next = r->next;
		if (r->conn != conn && !(r->until_ns && r->until_ns < now))
			continue;
		free_reader(r);
		reader_moved(j);
	}
}

void sh_output_detach(const void *conn)
{
	detach(conn, 0);
}

/* Most read all that there is in a few milliseconds. One that does not must not hold back a task for longer. */
void sh_output_glance(struct job *j, const void *conn)
{
	uint64_t from[2] = {0, 0};

	sh_output_read(j, conn, from);
	j->readers->until_ns = sh_now() + GLANCE_NS;
}

/* Programs that a task has started write without asking. */
void sh_output_tick(void)
{
	detach(NULL, sh_now());
	for (unsigned i = 0; i < sh_jobs_live(); i++)
		grant(sh_job_live(i));
}

void sh_output_adopt(struct job *j)
{
	if (entry(j)->followed)
		entry(j)->followed = 2;
	grant(j);
}

void sh_output_patience_over(void)
{
	for (unsigned i = 0; i < sh_jobs_live(); i++)
		if (entry(sh_job_live(i))->followed == 2) {
			entry(sh_job_live(i))->followed = 0;
			reader_moved(sh_job_live(i));
		}
	for (struct job *j = oldest; j; j = j->newer)
		if (entry(j)->followed == 2)
			entry(j)->followed = j->readers != NULL;
}

/* ---- ended tasks ---- */

static void close_files(struct job *j)
{
	if (j->out >= 0)
		kernel_close(j->out);
	if (j->err >= 0)
		kernel_close(j->err);
	j->out = j->err = -1;
}

static void unlist(struct job *j)
{
	for (struct job **at = &oldest; *at; at = &(*at)->newer)
		if (*at == j) {
			*at = j->newer;
			if (!*at)
				newest = at;
			nkept--;
			atomic_store(&entry(j)->over, JOB_DROPPED);
			break;
		}
	charged -= j->charged;
	j->charged = 0;
	if (j->id)
		sh_keeper_drop(j->id, 7);
}

void sh_output_drop(struct job *j)
{
	while (j->readers)
		free_reader(j->readers);
	for (int s = 0; s < 2 && j->id; s++)
		if (entry(j)->moved[s] > entry(j)->dropped[s])
			sh_spill_remove(j->id, s);
	unlist(j);
	close_files(j);
}

static bool in_memory(const struct job *j)
{
	return entry(j)->moved[0] < sh_output_size(j, 0) || entry(j)->moved[1] < sh_output_size(j, 1);
}

/* Its record stays, and what is in files. The rest is counted as dropped. */
static void let_go(struct job *j)
{
	for (int s = 0; s < 2; s++)
		drop_before(j, s, UINT64_MAX);
	if (j->leaving[0] || j->leaving[1] || (sh_spill_on() && in_memory(j)))
		return; /* later, when all of it is in files */
	unlist(j);
	close_files(j);
}

/* Most tasks write to one of them at most. */
static bool drop_empty(int *fd)
{
	struct stat st;

	if (*fd >= 0 && (fstat(*fd, &st) < 0 || st.st_size > 0))
		return false;
	if (*fd >= 0)
		kernel_close(*fd);
	*fd = -1;
	return true;
}

void sh_output_keep(struct job *j)
{
	bool out_empty = drop_empty(&j->out), err_empty = drop_empty(&j->err);

	sh_keeper_drop(j->id, out_empty * 1u | err_empty * 2u | 4u);
	j->newer = NULL;
	*newest = j;
	newest = &j->newer;
	nkept++;
	charge(j);
	for (struct job *old = oldest, *next; old && old != j && nkept > KEEP_TASKS; old = next) {
		next = old->newer;
		if (!is_read(old))
			let_go(old);
	}
	keep_budget(j);
}
