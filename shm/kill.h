/*
 * kill.h - points at which a process may be killed, for tests.
 *
 * KILL_POINT("folder.operation.step") stands after every store to shared state in every protocol.
 * In a release build it is nothing. With -DSHOAL_KILL_POINTS each point is one load and one
 * compare; the driver arms a point by writing its id and a hit count into the segment, and the
 * process that comes by for the nth time sends itself SIGKILL. In the simulation the same macro
 * is the place where another worker may be scheduled or this one dies (-DSHOAL_SIM).
 */
#ifndef SHM_KILL_H
#define SHM_KILL_H

#include <stdatomic.h>
#include <stdint.h>

struct sh_kill_point {
	const char *name;
};

#if defined(SHOAL_SIM)
void sh_sim_point(const char *name);
#define KILL_POINT(n) sh_sim_point(n)
#elif defined(SHOAL_KILL_POINTS)
/* Every point of the program, gathered by the linker in one section. */
extern const struct sh_kill_point *const __start_shoal_kill[], *const __stop_shoal_kill[];
void sh_kill_hit(const struct sh_kill_point *);
void sh_kill_seated(void);
void sh_kill_arm(void);
#define KILL_POINT(n) \
	do { \
		static const struct sh_kill_point here_ = {n}; \
		static const struct sh_kill_point *const ref_ __attribute__((section("shoal_kill"), used)) = &here_; \
		(void)ref_; \
		sh_kill_hit(&here_); \
	} while (0)
#else
#define KILL_POINT(n) ((void)0)
#endif

#if !defined(SHOAL_KILL_POINTS) || defined(SHOAL_SIM)
static inline void sh_kill_seated(void)
{
}
static inline void sh_kill_arm(void)
{
}
#endif

#endif
