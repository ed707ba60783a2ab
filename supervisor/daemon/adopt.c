/*
 * adopt.c - a new supervisor takes over a runtime whose supervisor has died.
 *
 * The keeper hands over the descriptors. Then the supervisor sends a request to the zygote. The zygote serves
 * requests in order, so its answer means that it has served everything that the last supervisor asked for, and
 * that ledger and segment do not change any more. The supervisor then compares the modules, instances, seats and
 * tasks in both. Only after that does it listen for clients.
 */
#include "shm/kernel.h"
#include "supervisor/daemon/adopt.h"
#include "supervisor/daemon/fleet.h"
#include "supervisor/daemon/log.h"
#include "supervisor/daemon/main.h"
#include "supervisor/daemon/task/module.h"
#include "supervisor/daemon/task/output.h"
#include "supervisor/daemon/task/spill.h"
#include "supervisor/daemon/task/pool.h"
#include "supervisor/daemon/task/tasks.h"
#include "supervisor/keeper/keeper.h"
#include "supervisor/keeper/ledger.h"
#include "supervisor/zygote/zygote.h"
#include "core/process.h"
#include "core/task/task.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OWNER_MS 10000 /* `run` clients whose connection broke must reconnect by then, else their tasks are cancelled */

static int single[KEEP_SINGLES] = {-1, -1, -1, -1};
static int module_fd[LEDGER_MODULES][2];
static int (*task_fd)[3];
static uv_timer_t owners;

static void on_kept(const struct kmsg *m, const int *fds, int nfds)
{
	int used = 0;

	if (m->op == KEEP_SINGLE && m->id < KEEP_SINGLES && nfds)
		single[m->id] = fds[used++];
	else if (m->op == KEEP_MODULE && m->id < LEDGER_MODULES)
		for (unsigned i = 0; i < 2 && used < nfds; i++) {
			if (m->mask & 1u << i)
				module_fd[m->id][i] = fds[used++];
		}
	else if (m->op == KEEP_TASK)
		for (unsigned i = 0; i < 3 && used < nfds; i++)
			if (m->mask & 1u << i)
				task_fd[m->id % TASK_SLOTS][i] = fds[used++];
	while (used < nfds)
		kernel_close(fds[used++]);
}

static _Noreturn void refuse_runtime(const char *why)
{
	sh_fail(1, "found a runtime without a supervisor, but %s: end process %d first", why, (int)sh_keeper_pid());
}

bool sh_adopt_begin(int *link)
{
	char error[512];
	int found;

	task_fd = malloc(TASK_SLOTS * sizeof *task_fd);
	if (!task_fd)
		abort();
	memset(task_fd, 0xff, TASK_SLOTS * sizeof *task_fd);
	memset(module_fd, 0xff, sizeof module_fd);
	found = sh_keeper_adopt(on_kept);
	if (found == 0)
		return false;
	if (found < 0)
		sh_fail(1, "found a runtime without a supervisor, but its keeper does not answer: %s",
			strerror(-found));
	for (unsigned i = 0; i < KEEP_SINGLES; i++)
		if (single[i] < 0)
			refuse_runtime("it had not finished its start");
	if (sh_ledger_attach(single[KEEP_LEDGER]) < 0)
		refuse_runtime("another version of shoald started it");
	if (sh_segment_attach(single[KEEP_SEGMENT]) < 0)
		refuse_runtime("its memory cannot be mapped");
	atomic_store(&sh_root->supervisor, getpid());
	sh_options.procs = sh_ledger->procs;
	sh_options.spare = sh_ledger->spare;
	sh_options.memory = sh_ledger->memory;
	sh_options.output_memory = sh_ledger->output_memory;
	if (sh_ledger->output_dir[0] && sh_spill_start(sh_ledger->output_dir, false, error, sizeof error) < 0)
		sh_log("%s; output is dropped instead", error);
	sh_start_ns = sh_ledger->start_ns;
	sh_medic_fd = single[KEEP_EVENT];
	*link = single[KEEP_LINK];
	return true;
}

static void on_owners(uv_timer_t *timer)
{
	(void)timer;
	sh_jobs_orphans();
	sh_output_forget_adopted();
}

void sh_adopt_end(void)
{
	sh_modules_adopt(module_fd);
	sh_fleet_adopt(sh_ledger->workers);
	sh_jobs_adopt(task_fd);
	free(task_fd);
	task_fd = NULL;
	uv_timer_init(sh_loop, &owners);
	uv_timer_start(&owners, on_owners, OWNER_MS, 0);
}

void sh_keeper_begin(void)
{
	int err = sh_keeper_start();

	if (err < 0) {
		sh_log("cannot start a keeper: %s; if this process dies, all tasks end", strerror(-err));
		return;
	}
	for (unsigned i = 0; i < KEEP_SINGLES; i++)
		sh_keeper_keep(KEEP_SINGLE, i, 1, &single[i]);
	sh_modules_keep();
	sh_jobs_keep();
}

void sh_keeper_first(int segment, int ledger, int link, int event)
{
	single[KEEP_SEGMENT] = segment;
	single[KEEP_LEDGER] = ledger;
	single[KEEP_LINK] = link;
	single[KEEP_EVENT] = event;
	sh_keeper_begin();
}
