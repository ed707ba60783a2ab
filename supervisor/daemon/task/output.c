/*
 * output.c - keeps what tasks write: two memfds for each task, read by `run` and `logs`.
 *
 * No byte is ever replaced. Bytes that an attached reader has not read stay. Other bytes stay as long as the
 * budget (--output-memory) allows; beyond it the oldest bytes are dropped from the front, in pages, and counted.
 * Only the supervisor decides how far a stream may grow (struct task_room) and where it begins (dropped, in the
 * ledger); the workers compare their position with these numbers.
 *
 * Each stream is charged with the size that it may grow to, so the sum is never less than the memory in use:
 *
 *   0           dropped                       size            limit
 *   |-- dropped --|---------- kept -------------|--- credit ----|
 *                 |<----------------- charged ----------------->|
 *
 * While a reader is attached, the limit follows the slowest reader, so the reader holds back the task. Without
 * readers a writer gets more credit as soon as it asks; if the budget is used up, its oldest bytes are dropped for
 * it. With --output-dir bytes are copied to a file instead of being dropped; then `moved` (in the ledger: the
 * position up to which the file has the bytes) takes the part of `dropped` in the drawing.
 *
 * Of ended tasks the newest KEEP_TASKS keep their output; the budget first takes from the oldest of them.
 *
 * OWNER  the supervisor. dropped and the position of the slowest reader are in the ledger
 * DEATH  dropped is stored before the bytes are freed. The successor keeps everything behind the slowest reader
 *        until all readers have had time to reconnect
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
#define CREDIT_LEAST (64ul << 10)
#define CREDIT_MOST (4ul << 20)
#define NOT_READ UINT64_MAX
#define BRIEFLY_NS 1000000000ull
#define SPILL_PIECE (8ul << 20)

struct reader {
	struct reader *next;	    /* in the list of all readers */
	struct reader *next_of_job; /* in the list of its job */
	const void *conn;
	struct job *job;
	uint64_t at[2];
	uint64_t until_ns; /* a `logs` without -f holds back the task only until then; 0: until it disconnects */
};

static struct job *oldest, **newest = &oldest;
static unsigned nkept, nreaders;
static struct reader *readers;
static uint64_t charged; /* memory charged to all jobs */
static uint64_t leaving; /* the part of `charged` that is being copied to files */

static struct ledger_job *ledger_of(const struct job *j)
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

static uint64_t clamp(uint64_t n, uint64_t low, uint64_t high)
{
	return n < low ? low : min(n, high);
}

static uint64_t page_up(uint64_t n)
{
	return (n + SH_PAGE - 1) & ~(SH_PAGE - 1);
}

/* ---- files ---- */

static int make_stream(const char *name)
{
	int fd = kernel_memfd_create(name, MFD_CLOEXEC);

	if (fd >= 0)
		kernel_fcntl(fd, F_SETFL, O_APPEND);
	return fd;
}

int sh_output_open(struct job *j)
{
	if (j->out < 0)
		j->out = make_stream("stdout");
	if (j->err < 0)
		j->err = make_stream("stderr");
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
	return ledger_of(j)->dropped[stream];
}

uint64_t sh_output_moved(const struct job *j, int stream)
{
	return ledger_of(j)->moved[stream];
}

uint64_t sh_output_size(const struct job *j, int stream)
{
	int fd = fd_of(j, stream);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_size : ledger_of(j)->moved[stream];
}

int sh_output_files(const struct job *j, json_t *reply, int fds[4])
{
	uint64_t moved[2];
	int n = 2;

	for (int s = 0; s < 2; s++) {
		moved[s] = ledger_of(j)->moved[s];
		if (moved[s] > ledger_of(j)->dropped[s]) {
			fds[n] = sh_spill_reader(j->id, s);
			json_object_set_new(reply, s ? "file_err" : "file_out", json_boolean(fds[n] >= 0));
			n += fds[n] >= 0;
		}
	}
	json_object_set_new(reply, "moved", json_pack("[I,I]", (json_int_t)moved[0], (json_int_t)moved[1]));
	return n;
}

/* ---- readers ---- */

/* Returns the first byte that a reader still needs, or NOT_READ if there is no reader. */
static uint64_t first_unread(const struct job *j, int stream)
{
	uint64_t at = ledger_of(j)->followed ? ledger_of(j)->read[stream] : NOT_READ;

	for (const struct reader *r = j->readers; r; r = r->next_of_job)
		at = min(at, r->at[stream]);
	return at;
}

static bool is_read(const struct job *j)
{
	return j->readers || ledger_of(j)->followed;
}

/* ---- dropping bytes, and charging for the rest ---- */

static void charge(struct job *j)
{
	uint64_t sum = 0;

	for (int s = 0; s < 2; s++) {
		uint64_t end = sh_output_size(j, s), limit = atomic_load(&room(j, s)->limit);

		if (j->state != JOB_ENDED && fd_of(j, s) >= 0 && limit > end)
			end = limit;
		sum += page_up(end) - min(page_up(end), ledger_of(j)->moved[s]);
	}
	charged += sum - j->charged;
	j->charged = sum;
}

static void free_memory(struct job *j, int stream, uint64_t to)
{
	ledger_of(j)->moved[stream] = to;
	if (fd_of(j, stream) >= 0)
		kernel_fallocate(fd_of(j, stream), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)page_up(to));
}

static void grant_waiting(void);

/* Called when a copy to a file has ended. If it failed, these bytes and all before them are dropped. */
static void on_copied(uint64_t task, int stream, uint64_t from, uint64_t to, int err)
{
	struct job *j = sh_job_find(task);

	leaving -= to - from;
	if (!j) { /* a later task has taken its slot */
		sh_spill_remove(task, stream);
		return;
	}
	j->leaving[stream] = 0;
	if (err) {
		sh_log("task %lu: cannot write its output to a file, so output is dropped: %s", (unsigned long)task,
		       strerror(-err));
		ledger_of(j)->dropped[stream] = to;
		sh_spill_remove(task, stream);
	}
	free_memory(j, stream, to);
	charge(j);
	grant_waiting();
}

/*
 * Moves bytes before `to` to the file, or drops them if there is no file, except those that a reader needs.
 * Returns how many.
 */
static uint64_t drop_before(struct job *j, int stream, uint64_t to)
{
	uint64_t size = sh_output_size(j, stream), from = ledger_of(j)->moved[stream];

	to = min(to, first_unread(j, stream));
	to = j->state == JOB_ENDED && to >= size ? size : min(to, size) & ~(SH_PAGE - 1);
	if (fd_of(j, stream) < 0 || to <= from || j->leaving[stream])
		return 0;
	if (sh_spill_on()) {
		to = min(to, from + SPILL_PIECE);
		if (!sh_spill_copy(j->id, stream, fd_of(j, stream), from, to, on_copied))
			return 0;
		j->leaving[stream] = to - from;
		leaving += to - from;
	} else {
		ledger_of(j)->dropped[stream] = to;
		free_memory(j, stream, to);
	}
	return to - from;
}

/* Drops about that many bytes of the job's output, first from the longer stream. */
static void drop_some(struct job *j, uint64_t bytes)
{
	uint64_t *moved = ledger_of(j)->moved, freed = 0;

	for (int i = 0; i < 2 && freed < bytes; i++) {
		int longer = sh_output_size(j, 1) - moved[1] > sh_output_size(j, 0) - moved[0],
		    s = i ? !longer : longer;

		freed += drop_before(j, s, moved[s] + page_up(bytes - freed));
		charge(j);
	}
}

static uint64_t budget(void)
{
	return sh_options.output_memory;
}

/* Returns by how much the budget will be exceeded when all copies to files have ended. */
static uint64_t excess(void)
{
	return charged > budget() + leaving ? charged - leaving - budget() : 0;
}

/* Drops output until the budget is kept: of ended tasks, oldest first, then of this task, then of all other tasks. */
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

/* ---- limits for writers ---- */

static uint64_t reader_window(void)
{
	return clamp(budget() / 8 / (nreaders ? nreaders : 1), CREDIT_LEAST, CREDIT_MOST);
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

/* Returns true if a limit was raised: then the medic must wake writers. */
static bool grant_stream(struct job *j, int s)
{
	uint64_t size = sh_output_size(j, s), slow = first_unread(j, s), most = budget() / 4, credit;
	struct task_room *r = room(j, s);
	bool more;

	if (slow != NOT_READ) {
		more = set_limit(r, slow + reader_window(), ROOM_NEVER);
		drop_before(j, s, size > most ? size - most : 0);
	} else {
		credit = clamp((size - ledger_of(j)->moved[s]) / 2, min(CREDIT_LEAST, page_up(budget() / 1024)),
			       min(CREDIT_MOST, budget() / 16));
		drop_before(j, s, size + credit > most ? size + credit - most : 0);
		/* bytes are being copied to a file; grant_waiting comes back here afterwards */
		if (leaving && charged + credit > budget())
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
		ledger_of(j)->dropped[s] = ledger_of(j)->moved[s] = ledger_of(j)->read[s] = 0;
		if (fstat(fd_of(j, s), &st) == 0) {
			room(j, s)->device = st.st_dev;
			room(j, s)->file = st.st_ino;
		}
	}
	ledger_of(j)->followed = 0;
	grant(j);
}

void sh_output_grant_asked(struct job *j)
{
	if (atomic_load_explicit(&room(j, 0)->ask_at, memory_order_relaxed) == ROOM_ASKED ||
	    atomic_load_explicit(&room(j, 1)->ask_at, memory_order_relaxed) == ROOM_ASKED)
		grant(j);
}

/* Grants the requests that had to wait for room. */
static void grant_waiting(void)
{
	for (unsigned i = 0; i < sh_jobs_live(); i++)
		sh_output_grant_asked(sh_job_live(i));
	if (!sh_jobs_live() && oldest)
		keep_budget(oldest);
}

/* ---- attached readers ---- */

static void record_slowest(struct job *j)
{
	/* readers of the predecessor that have not come back still need what it recorded */
	if (ledger_of(j)->followed == 2)
		return;
	for (int s = 0; s < 2 && j->readers; s++) {
		uint64_t at = j->readers->at[s];

		for (const struct reader *r = j->readers; r; r = r->next_of_job)
			at = min(at, r->at[s]);
		ledger_of(j)->read[s] = at;
	}
	ledger_of(j)->followed = j->readers != NULL;
}

static void reader_moved(struct job *j)
{
	record_slowest(j);
	if (j->state != JOB_ENDED)
		grant(j);
	else
		charge(j);
}

void sh_output_read(struct job *j, const void *conn, uint64_t at[2])
{
	struct reader *r = j->readers;

	while (r && r->conn != conn)
		r = r->next_of_job;
	if (!r && conn) {
		r = calloc(1, sizeof *r);
		if (!r)
			abort();
		*r = (struct reader){.next = readers, .next_of_job = j->readers, .conn = conn, .job = j};
		readers = j->readers = r;
		nreaders++;
	}
	for (int s = 0; s < 2; s++) {
		if (at[s] < ledger_of(j)->dropped[s])
			at[s] = ledger_of(j)->dropped[s];
		if (r && r->at[s] < at[s])
			r->at[s] = at[s];
	}
	reader_moved(j);
}

static void free_reader(struct reader *r)
{
	struct reader **at = &r->job->readers;

	while (*at != r)
		at = &(*at)->next_of_job;
	*at = r->next_of_job;
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

/* Most clients of `logs` read all there is in a few milliseconds. A slow one must not hold back the task for longer. */
void sh_output_read_briefly(struct job *j, const void *conn)
{
	uint64_t from[2] = {0, 0};

	sh_output_read(j, conn, from);
	j->readers->until_ns = sh_now() + BRIEFLY_NS;
}

/* Called regularly, because programs that a task has started write to the streams without asking. */
void sh_output_tick(void)
{
	detach(NULL, sh_now());
	for (unsigned i = 0; i < sh_jobs_live(); i++)
		grant(sh_job_live(i));
}

void sh_output_adopt(struct job *j)
{
	if (ledger_of(j)->followed)
		ledger_of(j)->followed = 2;
	grant(j);
}

void sh_output_forget_adopted(void)
{
	for (unsigned i = 0; i < sh_jobs_live(); i++)
		if (ledger_of(sh_job_live(i))->followed == 2) {
			ledger_of(sh_job_live(i))->followed = 0;
			reader_moved(sh_job_live(i));
		}
	for (struct job *j = oldest; j; j = j->newer)
		if (ledger_of(j)->followed == 2)
			ledger_of(j)->followed = j->readers != NULL;
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
			atomic_store(&ledger_of(j)->over, JOB_DROPPED);
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
		if (ledger_of(j)->moved[s] > ledger_of(j)->dropped[s])
			sh_spill_remove(j->id, s);
	unlist(j);
	close_files(j);
}

static bool in_memory(const struct job *j)
{
	return ledger_of(j)->moved[0] < sh_output_size(j, 0) || ledger_of(j)->moved[1] < sh_output_size(j, 1);
}

/* Frees the memory of the output. The job's record and its files stay; bytes that are in no file count as dropped. */
static void release_output(struct job *j)
{
	for (int s = 0; s < 2; s++)
		drop_before(j, s, UINT64_MAX);
	if (j->leaving[0] || j->leaving[1] || (sh_spill_on() && in_memory(j)))
		return; /* called again when all of it is in files */
	unlist(j);
	close_files(j);
}

/* Closes the stream if it is empty, because most tasks write to one stream at most. Returns true if it closed it. */
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
			release_output(old);
	}
	keep_budget(j);
}
