/*
 * kill.h - points at which a process may be killed, for tests.
 *
 * KILL_POINT("folder.operation.step") stands after a store to shared state wherever a death right there
 * leaves something else than a death at the point before. The stores without a point are
 * listed one by one in tests/lint/kill_points.txt, each with its reason.
 * In a release build it is nothing. With -DSHOAL_KILL_POINTS each point is a load, a compare and a
 * mark that it was passed; the driver (tests/kill) arms a point by its name and a hit count, and
 * the process that comes by for the nth time sends itself SIGKILL. In the simulation the same macro
 * is the place where another worker may be scheduled or this one dies (-DSHOAL_SIM).
 */
#ifndef SHM_KILL_H
#define SHM_KILL_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * What stands before it is in memory before what stands after it, if the process dies in between: for plain
 * stores, which the compiler may put in another order. A note, then what it is about; that, then the end of the note.
 */
#define sh_noted() atomic_signal_fence(memory_order_seq_cst)

struct sh_kill_point {
	const char *name;
};

#if defined(SHOAL_SIM)
void sh_sim_point(const char *name);
#define KILL_POINT(n) sh_sim_point(n)
#elif defined(SHOAL_KILL_POINTS)
/* Every point of the program, gathered by the linker in one section; one of an inline function several times. */
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
 * From the supervisor: kills at the hit-th pass of the point from now on, and after that at the
 * then_hit-th of another (NULL: none); name NULL: at none. False: no such point.
 */
_Bool sh_kill_arm(const char *name, int hit, const char *then, int then_hit);
unsigned sh_kill_points(void);
const char *sh_kill_name(unsigned i);
/* Whether a process in a seat has passed it since the last such question. */
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
