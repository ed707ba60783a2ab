/*
 * ledger.h - what the next supervisor must know: accepted tasks, modules, instances.
 *
 * The ledger is a memfd of its own, mapped by the supervisor, the zygote and the standby, but not by workers, so a
 * stray store of a task cannot reach it. The keeper holds its descriptor.
 *
 * OWNER  modules, jobs: the supervisor. Instances: the supervisor until it sends the request, then the zygote,
 *        which records what it has done before it answers
 * DEATH  the last store to an entry is the word that makes it valid (used, state, id). adopt.c compares the entries
 *        with the tasks in the segment and so finds unfinished operations
 */
#ifndef SUPERVISOR_KEEPER_LEDGER_H
#define SUPERVISOR_KEEPER_LEDGER_H

#include "core/task/task.h"
#include "shm/lock.h"
#include "supervisor/zygote/zygote.h"

#define LEDGER_MAGIC 0x72656764656cull
#define LEDGER_MODULES 4096u
/* each instance needs several mappings in every worker, of which the kernel allows 65,530 */
#define LEDGER_INSTANCES 4096u
#define LEDGER_ENTRIES 8u
#define KEY_SIZE 40u /* a key by which the client may repeat a submission */

struct ledger_module {
	_Atomic uint32_t used;
	uint32_t crashes, nentries, links;
	uint64_t hash[2], size;
	uint64_t crashed_ns[10];
	char name[Z_NAME];
	char entries[LEDGER_ENTRIES][Z_NAME];
};

enum { INSTANCE_NONE, INSTANCE_LOADED };
struct ledger_instance {
	_Atomic uint32_t state;
	uint32_t module;
	_Atomic uint32_t begun; /* it holds a task's descriptors, or its variables have not been reset */
	_Atomic int32_t fd[3];	/* in the workers' table; -1 */
	uint64_t load_gen;
	uintptr_t base, text_start, text_end;
};

#define LEDGER_OBJECTS 262144u
/* A library of an instance, and where the zygote has loaded it. */
struct ledger_object {
	_Atomic uint32_t instance; /* + 1; 0: the entry is free. Stored last */
	uintptr_t base, text_start, text_end;
	char path[232]; /* "": too long */
};

enum { JOB_KEPT = 1, JOB_DROPPED };
struct ledger_job {
	_Atomic uint64_t id;	   /* 0: not accepted */
	_Atomic uint32_t instance; /* + 1; 0: none */
	_Atomic uint32_t
		over; /* 0: the task has not ended; JOB_KEPT, JOB_DROPPED: it has, and its output is kept or dropped */
	uint32_t module, attempts;
	_Atomic int32_t cancelled;
	bool run;
	uint64_t timeout_at; /* monotonic ns; 0: none */
	int64_t started_ns, ended_ns;
	uint64_t ended_order; /* position in the order of ends: the oldest output is dropped first */
	uint64_t dropped[2];  /* bytes that were dropped at the front of stdout and stderr */
	/* bytes that are not in memory: the first `dropped` are dropped, the others in a file (spill.c) */
	uint64_t moved[2];
	uint64_t read[2];  /* position of the slowest attached reader, while followed */
	uint32_t followed; /* 1: readers are attached; 2: readers of the predecessor may reconnect */
	char key[KEY_SIZE];
	char entry[Z_NAME], name[64], path[256];
};

struct ledger {
	uint64_t magic;
	uint64_t layout; /* hash of the sizes of the shared structs: another build does not adopt the runtime */
	uint64_t start_ns;
	uintptr_t code; /* address of sh_symbol in the first supervisor and in the zygote */
	uint32_t procs, spare, workers, nmodules, ninstances;
	uint64_t loads; /* instances loaded so far */
	uint64_t memory, output_memory;
	char output_dir[4096]; /* "": none */
	uint64_t crashes_seen, ended_order;
	_Atomic uint64_t last_id;
	struct ledger_module module[LEDGER_MODULES];
	struct ledger_instance instance[LEDGER_INSTANCES];
	struct ledger_job job[TASK_SLOTS];
	_Atomic uint32_t nobjects; /* entries ever used */
	struct ledger_object object[LEDGER_OBJECTS];
};

extern struct ledger *sh_ledger;
int sh_ledger_create(void);   /* returns its descriptor, or -errno */
int sh_ledger_attach(int fd); /* 0, or -errno; EINVAL: made by another build */

struct objects;
/*
 * Called by the zygote: replaces the list of the instance's libraries; NULL: it has none. If the table is full,
 * libraries are left out and have no names in dumps.
 */
void sh_ledger_objects_put(uint32_t instance, const struct objects *);
/* Returns the next used entry from *i on that has a path, and moves *i behind it. NULL: there are no more. */
const struct ledger_object *sh_ledger_object_next(uint32_t *i);
/* Returns the library whose code contains the address, or NULL. */
const struct ledger_object *sh_ledger_object_at(uintptr_t pc);

#endif
