/*
 * tstack.c - stacks of threads: who has which, and their memory. See tstack.h.
 *
 *	tstack_bind		g->win = n, then owner[n]: 0 -> g, by compare-and-swap	touched[n] = 1
 *	tstack_unbind		owner[n]: g -> 0, by compare-and-swap, then g->win = none, listed[n] = 1
 *	tstack_sweep		owner[n]: 0 -> SWEEPER, give the pages back, touched[n] = 0, owner[n] = 0
 *
 * owner[] is the truth. The bits of listed[] are hints where to look for a free stack: one too many costs a failed
 * claim, and the sweep sets the bits that are missing.
 *
 * Memory is not given back at the end of each thread: the next one finds the pages there. The medic does it
 * for stacks that are free at its sweep.
 */
#include "core/g/tstack.h"
#include "core/g/g.h"
#include "core/root.h"
#include "shm/kernel.h"
#include "shm/kill.h"

#include <sys/mman.h>

#define SWEEPER UINT32_MAX
#define SWEEP_NS 200000000
#define SWEEP_STEP 64u /* stacks in one step */

#define KiB_ 1024ul
#define MiB_ (1024 * KiB_)
#define GiB_ (1024 * MiB_)
/*
 * Where a gap is large, a process has a mapping for each stack, and it can have 65,530. So there are few stacks with
 * large gaps, and then many with small ones, whose guard pages are marks in the page table.
 */
const struct tstack_class tstack_class[TSTACK_CLASSES] = {
	{256 * KiB_, 64 * KiB_, 262144, 0, SH_STACKS},
	{MiB_, 3 * MiB_, 8192, 262144, SH_STACKS + 128 * GiB_},
	{8 * MiB_, 8 * MiB_, 4096, 270336, SH_STACKS + 256 * GiB_},
	{8 * MiB_, 64 * KiB_, 524288, 274432, SH_STACKS + 512 * GiB_},
	{64 * MiB_, 64 * MiB_, 4096, 798720, SH_STACKS + 5120 * GiB_},
	{GiB_, GiB_, 512, 802816, SH_STACKS + 6144 * GiB_},
};

/* Where a P begins to look. */
struct tstack_hint {
	_Alignas(64) uint32_t at[TSTACK_CLASSES];
};

/*
 * The table of all stacks.
 * OWNER  owner[n]: the goroutine named there; an entry that is 0: nobody
 * LOCK   none: claimed and freed by compare-and-swap
 * ORDER  g->win is stored before owner[n] names g
 * DEATH  before the claim: g->win names a stack that is not g's; tstack_unbind of the dead goroutine clears it. After the
 *        claim: the goroutine has the stack until its end. A stack of a medic that died in its sweep is freed by the
 *        next sweep
 */
struct tstack_table {
	_Atomic uint32_t top[TSTACK_CLASSES]; /* of each class, stacks below this one were in use */
	_Atomic uint32_t sweep_due;	      /* some were freed since the last sweep; pairs with tstack_sweep */
	struct tstack_hint hint[P_MAX];
	_Atomic uint64_t listed[TSTACKS / 64 + 1];
	_Atomic uint8_t touched[TSTACKS];
	_Atomic uint32_t owner[TSTACKS]; /* index of a G */
};
_Static_assert(SH_OFF_TSTACK + sizeof(struct tstack_table) <= SH_OFF_DATA, "the table fits its place");
#define table ((struct tstack_table *)sh_at(SH_OFF_TSTACK))

static void list_free(uint32_t n)
{
	if (!(atomic_load_explicit(&table->listed[n / 64], memory_order_relaxed) & 1ul << n % 64))
		atomic_fetch_or_explicit(&table->listed[n / 64], 1ul << n % 64, memory_order_relaxed);
	KILL_POINT("tstack.listed");
}

static bool take_stack(struct g *g, uint32_t n)
{
	uint32_t nobody = 0;

	if (atomic_load_explicit(&table->owner[n], memory_order_relaxed))
		return false;
	g->win = WIN_THREADS + n;
	KILL_POINT("tstack.take.named");
	if (!atomic_compare_exchange_strong(&table->owner[n], &nobody, g_index(g)))
		return false;
	KILL_POINT("tstack.take.owned");
	atomic_store_explicit(&table->touched[n], 1, memory_order_relaxed);
	atomic_fetch_and_explicit(&table->listed[n / 64], ~(1ul << n % 64), memory_order_relaxed);
	KILL_POINT("tstack.take.done");
	return true;
}

static bool take_listed(struct g *g, const struct tstack_class *c, uint32_t *hint)
{
	uint32_t top = tstack_top((unsigned)(c - tstack_class)), words = (top + 63) / 64;
	uint32_t at = *hint / 64 < words ? *hint / 64 : 0;

	for (uint32_t k = 0; k < words; k++, at = at + 1 < words ? at + 1 : 0) {
		uint64_t bits = atomic_load_explicit(&table->listed[c->first / 64 + at], memory_order_relaxed);

		for (; bits; bits &= bits - 1) {
			uint32_t i = at * 64 + (uint32_t)__builtin_ctzll(bits);

			if (i < c->n && take_stack(g, c->first + i)) {
				*hint = i;
				return true;
			}
		}
	}
	return false;
}

static bool take_new(struct g *g, const struct tstack_class *c, uint32_t *hint)
{
	_Atomic uint32_t *top = &table->top[c - tstack_class];

	while (atomic_load(top) < c->n) {
		uint32_t i = atomic_fetch_add(top, 1);

		KILL_POINT("tstack.new.counted");
		if (i < c->n && take_stack(g, c->first + i)) {
			*hint = i;
			return true;
		}
	}
	return false;
}

static struct tstack_hint *hint_here(void)
{
	struct p *p = getp();

	return &table->hint[p ? p->id : P_MAX - 1];
}

bool tstack_bind(struct g *g, size_t size)
{
	struct tstack_hint *hint = hint_here();

	for (unsigned k = 0; k < TSTACK_CLASSES; k++)
		if (tstack_class[k].size >= size &&
		    (take_listed(g, &tstack_class[k], &hint->at[k]) || take_new(g, &tstack_class[k], &hint->at[k])))
			return true;
	g->win = WIN_NONE;
	return false;
}

void tstack_unbind(struct g *g)
{
	uint32_t n = g->win - WIN_THREADS, owner = g_index(g);

	if (n >= TSTACKS)
		return;
	if (atomic_compare_exchange_strong(&table->owner[n], &owner, 0)) {
		unsigned k = (unsigned)(tstack_class_of(g->win) - tstack_class);

		KILL_POINT("tstack.free.owner");
		list_free(n);
		hint_here()->at[k] = n - tstack_class[k].first;
		if (!atomic_load_explicit(&table->sweep_due, memory_order_relaxed))
			atomic_store(&table->sweep_due, 1);
	}
	g->win = WIN_NONE;
	KILL_POINT("tstack.free.done");
}

void tstack_forget_seat(int seat)
{
	for (unsigned k = 0; k < TSTACK_CLASSES; k++)
		for (uint32_t n = tstack_class[k].first; n < tstack_class[k].first + tstack_top(k); n++) {
			uint32_t i = atomic_load_explicit(&table->owner[n], memory_order_relaxed);
			int32_t here = seat;

			if (i && i < G_MAX && allg(i)->win == WIN_THREADS + n)
				atomic_compare_exchange_strong(&allg(i)->res, &here, RES_IMAGE);
		}
	KILL_POINT("tstack.seat.forgotten");
}

/* ---- the medic's ---- */

uint32_t tstack_top(unsigned class)
{
	uint32_t top = atomic_load(&table->top[class]);

	return top < tstack_class[class].n ? top : tstack_class[class].n;
}

/* True if it had memory to give back. */
static bool sweep_one(uint32_t n, const struct tstack_class *c)
{
	uint32_t owner = atomic_load(&table->owner[n]);

	if (owner && owner != SWEEPER)
		return false;
	if (!owner && !atomic_load(&table->touched[n])) {
		list_free(n);
		return false;
	}
	if (!owner && !atomic_compare_exchange_strong(&table->owner[n], &owner, SWEEPER))
		return false;
	KILL_POINT("tstack.sweep.owned");
	kernel_madvise(tstack_low(WIN_THREADS + n), c->size, MADV_REMOVE);
	atomic_store(&table->touched[n], 0);
	KILL_POINT("tstack.sweep.empty");
	atomic_store(&table->owner[n], 0);
	KILL_POINT("tstack.sweep.freed");
	list_free(n);
	return true;
}

bool tstack_sweep(int64_t now)
{
	static int64_t last;
	static uint32_t class, at; /* where the sweep goes on */
	static bool ever;	   /* the medic before this one may have died in its sweep */
	unsigned done = 0;

	if (class == 0 && at == 0) {
		if (ever && !atomic_load(&table->sweep_due))
			return false;
		ever = true;
		if (now - last < SWEEP_NS)
			return true;
		atomic_store(&table->sweep_due, 0);
		KILL_POINT("tstack.sweep.begun");
	}
	for (; class < TSTACK_CLASSES; class ++, at = 0)
		for (; at < tstack_top(class); at++) {
			if (done == SWEEP_STEP)
				return true;
			done += sweep_one(tstack_class[class].first + at, &tstack_class[class]);
		}
	class = 0;
	last = now;
	return false;
}

const char *tstack_fault(uint32_t n)
{
	uint32_t i = atomic_load(&table->owner[n]);
	struct g *g;

	if (!i || i == SWEEPER)
		return NULL;
	if (i >= G_MAX || i >= atomic_load(&sched.ngs))
		return "belongs to no goroutine: a thread's stack, number";
	g = allg(i);
	if ((g->win != WIN_THREADS + n || g_state(g) == G_DEAD) && atomic_load(&table->owner[n]) == i)
		return "belongs to a goroutine that does not have it: a thread's stack, number";
	return NULL;
}
