/*
 * maps.c - the table of a task's mappings. See maps.h. It only changes data; worker/view.c makes processes agree
 * with it.
 */
#include "core/task/maps.h"
#include "core/host.h"
#include "core/root.h"
#include "core/sched/netpoll.h"
#include "core/task/task.h"
#include "shm/check.h"
#include "shm/heap.h"
#include "shm/kill.h"
#include "shm/segment.h"

#include <string.h>

#define ASKS_BEFORE_KILL 300 /* about as many ms; after that, a worker that has not unmapped is killed */

static unsigned cpu_of(void)
{
	return getp() ? getp()->id : SH_HEAP_NOCPU;
}

struct map_space *sh_maps_of(struct task *t)
{
	struct map_space *s = atomic_load(&t->maps), *none = NULL;
	unsigned seat = (unsigned)getm->seat;

	if (s)
		return s;
	s = sh_heap_alloc(t->heap, seat, cpu_of(), sizeof *s, 64, true);
	if (!s)
		return NULL;
	s->lock.kind = SH_LOCK_MAPS;
	s->owner = t->slot + 1;
	s->task = t;
	s->first_chunk = SH_CHUNKS;
	KILL_POINT("maps.space.ready");
	if (!atomic_compare_exchange_strong(&t->maps, &none, s)) {
		sh_heap_free(sh_root->arena, seat, cpu_of(), s);
		s = none;
	}
	KILL_POINT("maps.space.set");
	return s;
}

/* ---- searching ---- */

static const struct map_table no_table;

static const struct map_table *table_of(struct map_space *s)
{
	const struct map_table *t = atomic_load_explicit(&s->table, memory_order_acquire);

	return t ? t : &no_table;
}

uint32_t sh_maps_seek(const struct map_table *t, uintptr_t at)
{
	uint32_t low = 0, high = t ? t->n : 0;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (t->e[mid].end <= at)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct map_entry *sh_maps_find(struct map_space *s, uintptr_t at)
{
	struct map_table *t = atomic_load(&s->table);
	uint32_t i = sh_maps_seek(t, at);

	return t && i < t->n && t->e[i].start <= at && t->e[i].state == MAPS_USED ? &t->e[i] : NULL;
}

bool sh_maps_vacant(struct map_space *s, uintptr_t start, uintptr_t end)
{
	const struct map_table *t = table_of(s);

	for (uint32_t i = sh_maps_seek(t, start); i < t->n && t->e[i].start < end; i++)
		if (t->e[i].state != MAPS_GONE)
			return false;
	return true;
}

/* True if the entry's pages are not those of its own addresses. */
static bool displaced(const struct map_entry *e)
{
	return e->kind == MAPS_MEMORY && e->state != MAPS_GONE && e->start - SH_AREA != e->off;
}

bool sh_maps_unbacked(struct map_space *s, uint64_t off, size_t size)
{
	const struct map_table *t = table_of(s);

	for (uint32_t i = 0; i < t->n; i++) {
		const struct map_entry *e = &t->e[i];

		if (e->kind == MAPS_MEMORY && e->state != MAPS_GONE && e->off < off + size &&
		    off < e->off + (e->end - e->start))
			return false;
	}
	return true;
}

bool sh_maps_whole(struct map_space *s, uintptr_t start, uintptr_t end)
{
	const struct map_table *t = table_of(s);

	for (uint32_t i = sh_maps_seek(t, start); start < end; i++) {
		if (i >= t->n || t->e[i].start > start)
			return false;
		if (t->e[i].state != MAPS_USED)
			return false;
		start = t->e[i].end;
	}
	return true;
}

struct map_entry sh_maps_cut(struct map_entry e, uintptr_t start, uintptr_t end)
{
	if (e.start < start) {
		e.off += (start < e.end ? start : e.end) - e.start;
		e.start = start < e.end ? start : e.end;
	}
	if (e.end > end)
		e.end = end > e.start ? end : e.start;
	return e;
}

size_t sh_maps_charged(const struct map_table *t)
{
	size_t n = 0;

	for (uint32_t i = 0; t && i < t->n; i++)
		if (t->e[i].flags & MAPF_CHARGED && t->e[i].state != MAPS_GONE)
			n += t->e[i].end - t->e[i].start;
	return n;
}

/* ---- free addresses ---- */

static uintptr_t chunk_start(uint64_t chunk)
{
	return SH_AREA + chunk * SH_CHUNK;
}

static uint32_t chunk_of(uintptr_t at)
{
	return (uint32_t)((at - SH_AREA) / SH_CHUNK);
}

bool sh_maps_own(struct map_space *s, uintptr_t start, uintptr_t end)
{
	if (!sh_in_area(start) || !sh_in_area(end - 1) || start >= end)
		return false;
	for (uint32_t c = chunk_of(start); c <= chunk_of(end - 1); c++)
		if (!sh_chunk_owned(c, s->owner))
			return false;
	return true;
}

/*
 * Shrinks [*at, *end) to a part whose pages no entry elsewhere uses: *at moves past such pages, *end before the
 * next.
 */
static void avoid_displaced(const struct map_table *t, uintptr_t *at, uintptr_t *end)
{
	for (uint32_t i = 0; i < t->n; i++) {
		const struct map_entry *e = &t->e[i];
		uintptr_t low = SH_AREA + e->off, high = low + (e->end - e->start);

		if (!displaced(e) || high <= *at || low >= *end)
			continue;
		if (low <= *at) {
			*at = high;
			i = (uint32_t)-1; /* start again, because another such entry may lie behind this one */
		} else {
			*end = low;
		}
	}
	if (*at > *end)
		*at = *end;
}

/* Returns the end of the space's consecutive chunks from this address on. */
static uintptr_t end_of_chunks(struct map_space *s, uintptr_t at)
{
	uint32_t c = chunk_of(at);

	while (c < SH_CHUNKS && sh_chunk_owned(c, s->owner))
		c++;
	return chunk_start(c);
}

/*
 * Finds the end of the free addresses from *at on. Returns false if *at is in use; then *at moves to where to
 * search next.
 */
static bool gap_at(struct map_space *s, uintptr_t *at, uintptr_t *end)
{
	const struct map_table *t = table_of(s);
	uint32_t i = sh_maps_seek(t, *at);

	if (!sh_chunk_owned(chunk_of(*at), s->owner)) {
		*at = chunk_start(chunk_of(*at) + 1ul);
		return false;
	}
	while (i < t->n && t->e[i].state == MAPS_GONE)
		i++;
	if (i < t->n && t->e[i].start <= *at) {
		*at = t->e[i].end;
		return false;
	}
	*end = end_of_chunks(s, *at);
	if (i < t->n && t->e[i].start < *end)
		*end = t->e[i].start;
	avoid_displaced(t, at, end);
	return true;
}

static bool find_gap(struct map_space *s, size_t size)
{
	uintptr_t at = chunk_start(s->first_chunk), end;

	while (s->first_chunk < SH_CHUNKS && at < chunk_start(s->last_chunk + 1ul)) {
		if (!gap_at(s, &at, &end))
			continue;
		if (end - at >= size) {
			s->next = at;
			s->limit = end;
			return true;
		}
		at = end;
	}
	return false;
}

static bool claim_chunks(struct map_space *s, size_t size)
{
	uint64_t n = (size + SH_CHUNK - 1) / SH_CHUNK;
	int64_t first = n <= SH_CHUNKS ? sh_chunks_claim(s->owner, (uint32_t)n) : -1;

	if (first < 0)
		return false;
	if (first < s->first_chunk)
		s->first_chunk = (uint32_t)first;
	if (first + (int64_t)n - 1 > s->last_chunk)
		s->last_chunk = (uint32_t)(first + (int64_t)n - 1);
	KILL_POINT("maps.chunks.claimed");
	s->next = chunk_start((uint64_t)first);
	s->limit = s->next + n * SH_CHUNK;
	return true;
}

uintptr_t sh_maps_room(struct map_space *s, size_t size)
{
	uintptr_t at;

	if (size > SH_AREA_SIZE)
		return 0;
	if (s->limit - s->next < size || !sh_maps_vacant(s, s->next, s->next + size))
		if (!find_gap(s, size) && !claim_chunks(s, size))
			return 0;
	at = s->next;
	s->next += size;
	KILL_POINT("maps.room.taken");
	return at;
}

/* ---- a new table ---- */

void sh_maps_edit_put(struct map_edit *ed, struct map_entry e)
{
	if (e.start >= e.end || e.state == MAPS_GONE)
		return;
	sh_check(ed->to->n < ed->to->room);
	ed->to->e[ed->to->n++] = e;
}

bool sh_maps_edit_begin(struct map_edit *ed, struct map_space *s, uint32_t more)
{
	const struct map_table *t = table_of(s);
	uint32_t room = 2 * t->n + 2 * more + 2; /* each entry may be split into two */

	ed->space = s;
	ed->to = sh_heap_alloc(s->task->heap, (unsigned)getm->seat, cpu_of(),
			       sizeof *ed->to + room * sizeof(struct map_entry), 0, false);
	if (!ed->to)
		return false;
	ed->to->n = 0;
	ed->to->room = room;
	for (uint32_t i = 0; i < t->n; i++)
		sh_maps_edit_put(ed, t->e[i]);
	return true;
}

void sh_maps_edit_drop(struct map_edit *ed)
{
	sh_heap_free(sh_root->arena, (unsigned)getm->seat, cpu_of(), ed->to);
}

void sh_maps_edit_remove(struct map_edit *ed, uintptr_t start, uintptr_t end)
{
	for (uint32_t i = ed->to->n; i-- > 0;) {
		struct map_entry e = ed->to->e[i];

		if (e.end <= start || e.start >= end)
			continue;
		ed->to->e[i] = ed->to->e[--ed->to->n];
		sh_maps_edit_put(ed, sh_maps_cut(e, 0, start));
		sh_maps_edit_put(ed, sh_maps_cut(e, end, UINTPTR_MAX));
	}
}

/* An insertion sort, because only few entries are out of order, at the end. */
static void sort(struct map_table *t)
{
	for (uint32_t i = 1; i < t->n; i++) {
		struct map_entry e = t->e[i];
		uint32_t k = i;

		for (; k > 0 && t->e[k - 1].start > e.start; k--)
			t->e[k] = t->e[k - 1];
		t->e[k] = e;
	}
}

static bool one_mapping(const struct map_entry *a, const struct map_entry *b)
{
	return a->end == b->start && a->kind == b->kind && a->prot == b->prot && a->flags == b->flags &&
	       a->state == b->state && a->leaver == b->leaver && a->fd == b->fd &&
	       (a->kind > MAPS_FILE || a->off + (a->end - a->start) == b->off);
}

static void merge(struct map_table *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->n; i++)
		if (n && one_mapping(&t->e[n - 1], &t->e[i]))
			t->e[n - 1].end = t->e[i].end;
		else
			t->e[n++] = t->e[i];
	t->n = n;
}

void sh_maps_note_change(struct map_space *s, uintptr_t start, uintptr_t end)
{
	uint64_t gen = atomic_load(&s->gen) + 1;

	s->change[gen % MAP_CHANGES] = (struct map_change){start, end};
	KILL_POINT("maps.change.noted");
	atomic_store(&s->gen, gen);
	KILL_POINT("maps.change.made");
}

void sh_maps_edit_commit(struct map_edit *ed, uintptr_t start, uintptr_t end)
{
	struct map_space *s = ed->space;
	struct map_table *old = atomic_load(&s->table);

	sort(ed->to);
	merge(ed->to);
	for (uint32_t i = 1; i < ed->to->n; i++)
		sh_check(ed->to->e[i - 1].end <= ed->to->e[i].start);
	KILL_POINT("maps.commit.ready");
	atomic_store(&s->table, ed->to);
	KILL_POINT("maps.commit.published");
	if (start < end)
		sh_maps_note_change(s, start, end);
	if (old)
		sh_heap_free(sh_root->arena, (unsigned)getm->seat, cpu_of(), old);
}

/* ---- called by the medic ---- */

static bool has_mappings(unsigned seat, const struct map_space *s)
{
	return seat < SH_SEATS && atomic_load(&allm(seat)->maps) == s && !sh_seat_dead(seat) &&
	       atomic_load(&sh_root->seat[seat].state) == SEAT_LIVE;
}

/* Asks workers that have mappings of the space to unmap them. Returns the number of such workers. */
static unsigned ask_to_unmap(struct task *t, struct map_space *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SH_SEATS; i++) {
		if (!has_mappings(i, s))
			continue;
		n++;
		host_kick(i);
		if (t->kicks > ASKS_BEFORE_KILL)
			host_kill(i);
	}
	t->kicks += n > 0;
	return n;
}

bool sh_maps_release(struct task *t)
{
	struct map_space *s = atomic_load(&t->maps);

	if (!s)
		return true;
	atomic_store(&s->over, 1);
	KILL_POINT("maps.release.over");
	atomic_fetch_add(&s->gen, 1);
	KILL_POINT("maps.release.raised");
	host_barrier();
	if (ask_to_unmap(t, s))
		return false;
	for (uint32_t c = s->first_chunk; c <= s->last_chunk && c < SH_CHUNKS; c++)
		sh_chunk_release(c, s->owner);
	sh_heap_set_mapped(t->heap, (unsigned)getm->seat, 0);
	atomic_store(&t->maps, NULL);
	KILL_POINT("maps.release.done");
	return true;
}

void sh_maps_repair(struct sh_lock *l)
{
	struct map_space *s = (struct map_space *)((char *)l - offsetof(struct map_space, lock));

	if (!s->task || !s->task->heap || atomic_load(&s->task->maps) != s)
		return;
	sh_heap_set_mapped(s->task->heap, (unsigned)getm->seat, sh_maps_charged(atomic_load(&s->table)));
	/* The table may have changed without a record of the change, so each worker must map everything again. */
	atomic_fetch_add(&s->gen, MAP_CHANGES + 1);
	KILL_POINT("maps.repair.raised");
	host_task_changed(s->task);
	KILL_POINT("maps.repair.done");
}

static const char *entry_fault(struct map_space *s, const struct map_entry *e)
{
	uint32_t owner;

	if (e->start >= e->end || e->start % SH_PAGE || e->end % SH_PAGE)
		return "a mapping does not begin and end at a page: task";
	if (sh_in_area(e->start) && !sh_maps_own(s, e->start, e->end))
		return "a mapping lies in another task's addresses: task";
	if (e->kind == MAPS_MEMORY && !sh_maps_own(s, SH_AREA + e->off, SH_AREA + e->off + (e->end - e->start)))
		return "a mapping uses another task's pages: task";
	owner = e->kind == MAPS_FILE && e->state == MAPS_USED ? atomic_load(&poll_owner[e->fd]) & ~POLL_CLOSING : 0;
	if (owner && owner != (s->owner | POLL_INNER))
		return "a mapped file belongs to another task: task";
	return NULL;
}

static const char *table_fault(struct map_space *s, struct task *t)
{
	const struct map_table *table = table_of(s);
	const char *wrong = NULL;

	for (uint32_t i = 0; i < table->n && !wrong; i++) {
		if (i && table->e[i - 1].end > table->e[i].start)
			wrong = "two mappings overlap: task";
		else if (table->e[i].state != MAPS_GONE)
			wrong = entry_fault(s, &table->e[i]);
	}
	if (!wrong && sh_heap_mapped(t->heap) != sh_maps_charged(table))
		wrong = "the count of mapped memory is wrong: task";
	return wrong;
}

const char *sh_maps_fault(struct task *t)
{
	struct map_space *s = atomic_load(&t->maps);
	const char *wrong;

	if (atomic_load(&t->state) != TASK_RUNNING || !s || !sh_in_segment(s))
		return NULL;
	sh_lock_take(&s->lock, (unsigned)getm->seat);
	wrong = atomic_load(&t->maps) == s ? table_fault(s, t) : NULL;
	sh_lock_drop(&s->lock, (unsigned)getm->seat);
	return wrong;
}
