/*
 * zygote.h - the single-threaded process that has the modules loaded and clones the workers.
 *
 * The supervisor forks the zygote before it has a thread itself, and talks to it over a SOCK_SEQPACKET
 * socketpair: a struct zreq for each request, a struct zrep for each answer, in order, with descriptors.
 * Every request is short. What may hang or crash (a constructor) is tried in a clone first, under a time
 * limit that the supervisor keeps.
 *
 * A standby, cloned after each load, has the same modules at the same addresses and the same
 * descriptors, and sleeps on a robust futex. While no supervisor lives the zygote is the caretaker: it
 * clones successors of processes that die.
 *
 * OWNER  the zygote's tables are private; each clone inherits a copy, which only a standby ever reads
 * DEATH  the standby continues to read the same socket. Requests are done in order, so at most one was
 *        under way: the supervisor sends it again (link.c), and every request may be done twice
 */
#ifndef SUPERVISOR_ZYGOTE_ZYGOTE_H
#define SUPERVISOR_ZYGOTE_ZYGOTE_H

#include "core/task/library.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Noreturn void medic_main(void); /* supervisor/medic/medic.c */

/* This signal tells the medic that no supervisor will ever come. The medic then ends all processes and itself last. */
#define MEDIC_ALONE SIGPWR

enum zygote_op {
	Z_CLONE = 1, /* seat -> pid */
	Z_TRIAL, /* descriptors: module, pipe, list of libraries; entry -> pid of the clone that writes a struct ztrial */
	/* descriptors: module, list of libraries; instance, name -> load_gen; fills in the ledger's entry */
	Z_LOAD,
	Z_UNLOAD, /* instance: it has no task and will get none */
	Z_BEGIN,  /* descriptors: stdout, stderr, cwd; instance, entry -> their numbers, address of the entry */
	Z_END,	  /* instance: its task has ended -> count: 1 if the instance should be unloaded */
	Z_WAKE,	  /* seat: wakes a worker that sleeps in its loop */
	Z_SWEEP,  /* instance: enum sweep -> count: number of stray descriptors, held ones, or closed ones */
	Z_HELLO,  /* pid: of a new supervisor, or 0 if the supervisor is the same */
	Z_LOG	  /* descriptor: the file that the log is written to from here on */
};

bool sh_process_gone(int pid); /* true also for a zombie */

#define Z_NAME 64

struct zreq {
	uint32_t op, serial, seat, instance;
	uint32_t ask;  /* Z_CLONE: number of the claim to the seat */
	uint64_t load; /* Z_LOAD: number of the load, because instance numbers are used again */
	int32_t pid;
	char name[Z_NAME]; /* of the module, for messages */
	char entry[Z_NAME];
};

struct zrep {
	uint32_t serial; /* 0: this is not an answer, a standby has become the zygote */
	int32_t code;	 /* 0, or the exit code of the failure, with message */
	int32_t pid;
	int32_t fd[3];
	uint32_t count;
	uint64_t load_gen;
	uintptr_t entry;
	char message[512];
};

#define ZREP_LOST (-1) /* code: the zygote died during a Z_CLONE, before or after the clone */

/* The result of a trial. If the trial writes none, it crashed, hung or exited. */
struct ztrial {
	int32_t code;
	char message[512];
};

/* The zygote's descriptors: the same numbers in every worker. */
enum {
	ZFD_MEDIC = 3,
	ZFD_SUPERVISOR = 4,
	ZFD_WATCH = 5,
	ZFD_STANDBY = 6,	  /* pidfds of supervisor and standby */
	ZFD_LIBRARY = LIBRARY_FD, /* eventfd: a goroutine wants to open a library */
	ZFD_FIRST_FREE = 8
};

/*
 * bound: all processes of the runtime end when the supervisor dies
 */
_Noreturn void sh_zygote_main(int sock, bool bound);

void sh_preload(void); /* preload.c: loads libraries that libc would load later, in one worker only */

/* ---- stray descriptors (strays.c) ---- */

#define STRAYS 1024
unsigned sh_strays(int *fd, unsigned max);	    /* lists them and returns how many there are */
void sh_strays_keep(const int *before, unsigned n); /* marks descriptors that are not in `before` as the zygote's */
/*
 * closes all; only while no task exists, and no worker that has run one
 */
unsigned sh_strays_close(void);
/* SWEEP_ALL is sh_strays_close. The others are the steps while tasks exist (strays.c), in this order. */
enum sweep { SWEEP_ALL, SWEEP_LOOK, SWEEP_HOLD, SWEEP_CLOSE, SWEEP_CANCEL };
unsigned sh_strays_step(enum sweep);

#endif
