/*
 * kill.h - points at which a test kills a process.
 *
 * KILL_POINT("folder.operation.step") stands after a store to shared state wherever a death right there leaves
 * a different state than a death at the point before. The stores without a point are listed one by one in
 * tests/lint/kill_points.txt, each with its reason.
 *
 * In a release build a point is empty. With -DSHOAL_KILL_POINTS it is a load, a compare and a mark that it was
 * passed; the driver (tests/kill) arms a point by name and hit count, and the process that passes it for the nth
 * time sends itself SIGKILL. In the simulation (-DSHOAL_SIM) the same macro is where another worker may run or
 * this one dies.
 */
#ifndef SHM_KILL_H
#define SHM_KILL_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * A compiler barrier: if the process dies, stores before it are in memory before stores after it. It stands between
 * a note and the change that the note announces, and between that change and the end of the note.
 */
#define sh_noted() atomic_signal_fence(memory_order_seq_cst)

struct sh_kill_point {
	const char *name;
};

#if defined(SHOAL_SIM)
void sh_sim_point(const char *name);
#define KILL_POINT(n) sh_sim_point(n)
#elif defined(SHOAL_KILL_POINTS)
/*
 * All points of the program, which the linker collects in one section. A point in an inline function occurs
 * several times.
 */
extern const struct sh_kill_point __start_shoal_kill[], __stop_shoal_kill[];
void sh_kill_hit(const struct sh_kill_point *);
void sh_kill_seated(void);
#define KILL_POINT(n) \
	do { \
		static const struct sh_kill_point here_ \
			__attribute__((section("shoal_kill"), used, aligned(8))) = {n}; \
		sh_kill_hit(&here_); \
	} while (0)

/*
 * For the supervisor: kills at the hit-th pass of the point, then at the then_hit-th pass of another (NULL: none). name
 * NULL: disarms. False: no such point.
 */
_Bool sh_kill_arm(const char *name, int hit, const char *then, int then_hit);
unsigned sh_kill_points(void);
const char *sh_kill_name(unsigned i);
/* True if a process in a seat has passed it since the last call. */
_Bool sh_kill_passed(unsigned i);
#else
#define KILL_POINT(n) ((void)0)
#endif

#if !defined(SHOAL_KILL_POINTS) || defined(SHOAL_SIM)
static inline void sh_kill_seated(void)
{
}
#endif

#endif
