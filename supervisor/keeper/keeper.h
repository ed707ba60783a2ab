/*
 * keeper.h - the process that holds the supervisor's descriptors, so that they outlive it.
 *
 * The keeper holds the segment, the ledger, the link to the zygote, and for each task its output files and working
 * directory. A supervisor that starts while a keeper listens gets them all and takes over the runtime. The
 * descriptors are sent over one SOCK_SEQPACKET connection; the keeper does not look at what they refer to.
 *
 * DEATH  keeper dies: the supervisor forks another one and sends everything again.
 *        keeper and supervisor die: the zygote's link closes, and the zygote ends all workers
 */
#ifndef SUPERVISOR_KEEPER_KEEPER_H
#define SUPERVISOR_KEEPER_KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define KEEPER_SUFFIX ".keeper" /* path of its socket: the supervisor's with this suffix */

enum keeper_op {
	KEEP_SINGLE = 1, /* id: enum keeper_single */
	KEEP_MODULE,	 /* id: index in the ledger; mask: of content, list of libraries */
	KEEP_TASK,	 /* id, mask: of stdout, stderr, working directory */
	KEEP_DROP,	 /* id, mask */
	KEEP_ADOPT,	 /* a new supervisor asks for everything */
	KEEP_ALL	 /* the end of the answer to KEEP_ADOPT */
};
enum keeper_single { KEEP_SEGMENT, KEEP_LEDGER, KEEP_LINK, KEEP_EVENT, KEEP_SINGLES };

struct kmsg {
	uint32_t op, mask;
	uint64_t id;
};

/* Forks the keeper; the caller then sends the descriptors with sh_keeper_keep. Returns 0 or -errno. */
int sh_keeper_start(void);
pid_t sh_keeper_pid(void);
void sh_keeper_forget(void); /* the keeper has died */
void sh_keeper_keep(enum keeper_op, uint64_t id, uint32_t mask,
		    const int *fds); /* one descriptor for each bit of mask */
void sh_keeper_drop(uint64_t id, uint32_t mask);
void sh_keeper_remove_socket(void);

/*
 * Asks the keeper of this socket, if one runs, for everything that it holds. Calls got() for each message; got()
 * owns the descriptors. Returns 0 if no keeper runs, 1 if the keeper has accepted this process as its supervisor,
 * or -errno.
 */
typedef void keeper_got(const struct kmsg *, const int *fds, int nfds);
int sh_keeper_adopt(keeper_got *);

#endif
