/*
 * zygote_int.h - functions that the files of the zygote call from each other.
 */
#ifndef SUPERVISOR_ZYGOTE_ZYGOTE_INT_H
#define SUPERVISOR_ZYGOTE_ZYGOTE_INT_H

#include <stdint.h>
#include <sys/types.h>

struct instance;

/* Returns the instance with that number, or NULL. */
struct instance *sh_zygote_instance(uint32_t number);
/* Clones a child of the zygote that shares nothing with it. Returns 0 in the child. */
pid_t sh_zygote_fork(void);
/*
 * Called after a load: replaces the standby by one that has it too. Returns the load number that workers cloned
 * from here on have.
 */
uint64_t sh_zygote_loaded(void);
/* Publishes the changed list of the instance's objects to the supervisor and to workers cloned later. */
void sh_zygote_publish(uint32_t number);

#endif
