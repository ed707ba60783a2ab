/*
 * process.h - what the zygote calls of the code that it clones. The worker defines it, the supervisor's
 * processes call it, and both include this header, so the compiler compares the two.
 */
#ifndef CORE_PROCESS_H
#define CORE_PROCESS_H

struct sh_heap;

_Noreturn void worker_main(unsigned seat); /* in the clone: runs goroutines and never returns */
void output_start(void);		   /* before modules are loaded: writes to stdout and stderr come to us */

/*
 * eventfd: each write to it makes the supervisor look at seats, tasks, output and audit again. Made before
 * the zygote is forked; good in the supervisor, the zygote, the medic and the workers, under a number of
 * its own in the supervisor.
 */
extern int sh_medic_fd;

/* While not NULL, malloc in this process allocates from it: the constructors of a module run. */
extern struct sh_heap *sh_loading_heap;

/* Called, if set, with the name of a function of the interface that was called where there is no goroutine. */
extern void (*sh_outside_hook)(const char *what);

#endif
