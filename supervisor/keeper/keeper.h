/*
 * keeper.h - the process that holds the supervisor's descriptors, so that they outlive it.
 *
 * It keeps the segment, the ledger, the link to the zygote, and for each task its output files and
 * working directory. A supervisor that starts where a keeper listens gets them all and goes on
 * where the last one stopped. Whatever it holds it has by SCM_RIGHTS over one SOCK_SEQPACKET
 * connection, and it knows nothing of what they are.
 *
 * DEATH  of the keeper: the supervisor forks another and gives it everything once more. Of both:
 *        the zygote's link closes, and it ends all workers
 */
#ifndef SUPERVISOR_KEEPER_KEEPER_H
#define SUPERVISOR_KEEPER_KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define KEEPER_SUFFIX ".keeper" /* its socket lies beside the supervisor's */

enum keeper_op {
	KEEP_SINGLE = 1, /* id: enum keeper_single */
	KEEP_MODULE,	 /* id: index in the ledger */
	KEEP_TASK,	 /* id, mask: of stdout, stderr, working directory */
	KEEP_DROP,	 /* id, mask */
	KEEP_ADOPT,	 /* a new supervisor wants all */
	KEEP_ALL	 /* and this was all */
};
enum keeper_single { KEEP_SEGMENT, KEEP_LEDGER, KEEP_LINK, KEEP_EVENT, KEEP_SINGLES };

struct kmsg {
	uint32_t op, mask;
	uint64_t id;
};

/* Forks it; kept descriptors follow by keep(). 0 or -errno. again: its predecessor has died. */
int sh_keeper_start(void);
pid_t sh_keeper_pid(void);
void sh_keeper_forget(void);							 /* it has died */
void sh_keeper_keep(enum keeper_op, uint64_t id, uint32_t mask, const int *fds); /* as many as mask has bits */
void sh_keeper_drop(uint64_t id, uint32_t mask);
void sh_keeper_remove_socket(void);

/*
 * Asks the keeper beside our socket, if there is one, for what it has. got() is called for each
 * message; its descriptors are the caller's. 0: nobody there; 1: we are its supervisor now; -errno.
 */
typedef void keeper_got(const struct kmsg *, const int *fds, int nfds);
int sh_keeper_adopt(keeper_got *);

#endif
