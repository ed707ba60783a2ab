/*
 * zygote_int.h - what the files of the zygote know of each other.
 */
#ifndef SUPERVISOR_ZYGOTE_ZYGOTE_INT_H
#define SUPERVISOR_ZYGOTE_ZYGOTE_INT_H

#include <stdint.h>
#include <sys/types.h>

struct instance;

/* NULL: there is none with that number. */
struct instance *sh_zygote_instance(uint32_t number);
/* A clone that is a child of the zygote and shares nothing with it. 0 in the child. */
pid_t sh_zygote_fork(void);
/* Something was loaded: makes a standby that has it. Workers that are cloned from now on have the number returned. */
uint64_t sh_zygote_loaded(void);
/* The objects of the instance have changed: makes them known. */
void sh_zygote_publish(uint32_t number);

#endif
