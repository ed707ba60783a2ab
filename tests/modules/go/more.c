/*
 * go/more.c MODE - the cases of Go's own tests of crashes, dumps and deadlocks that need a program each.
 *
 *   pinned_deadlock    the root is pinned and waits for ever; nobody else is there
 *   pinned_deadlock2   so is another goroutine, and the root waits for it
 *   net_wait           accepts on a socket to which nobody connects: no deadlock
 *   faults             a handler gets out of four faults: in the root, in two pinned goroutines, in the root
 *   naps               sleeps of 20 ms, however many signals come; prints by how much the worst was late (ms)
 *   child              a goroutine made by the root waits, to be dumped
 *   asleep             a hundred that sleep for a minute
 */
#include <shoal.h>

#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS 1000000l

static struct shoal_chan *never;
static struct shoal_wg wg;
static int caught;

static void waits(void *arg)
{
	int pinned = *(int *)arg;

	if (pinned)
		shoal_pin();
	shoal_recv(never, NULL);
}

static int pinned_deadlock(int both)
{
	never = shoal_chan_new(0, 0);
	if (both)
		shoal_wg_go(&wg, waits, &both, sizeof both);
	else
		shoal_pin();
	shoal_yield();
	return both ? shoal_wg_wait(&wg) : shoal_recv(never, NULL);
}

static int net_wait(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 1) < 0)
		return 1;
	puts("waits");
	return accept(s, NULL, NULL) < 0;
}

static sigjmp_buf *volatile back;

static void on_fault(int sig)
{
	(void)sig;
	siglongjmp(*back, 1);
}

static volatile int *volatile nothing = (volatile int *)8;

static void fault(void *arg)
{
	sigjmp_buf here;

	if (arg)
		shoal_pin();
	back = &here;
	if (sigsetjmp(here, 1) == 0)
		*nothing = 1;
	else
		caught++;
}

static int faults(void)
{
	int pinned = 1;

	signal(SIGSEGV, on_fault);
	fault(NULL);
	for (int i = 0; i < 2; i++)
		shoal_join(shoal_go(fault, &pinned, sizeof pinned), NULL);
	fault(NULL);
	printf("%d\n", caught);
	return 0;
}

static int naps(void)
{
	int64_t worst = 0;

	for (int i = 0; i < 50; i++) {
		int64_t due = shoal_now() + 20 * MS;

		if (shoal_sleep(20 * MS) != 0 || shoal_now() < due)
			return 1;
		worst = shoal_now() - due > worst ? shoal_now() - due : worst;
	}
	printf("%ld\n", (long)(worst / MS));
	return 0;
}

static void child(void *arg)
{
	(void)arg;
	shoal_sleep(60000 * MS);
}

int shoal_main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (strcmp(mode, "pinned_deadlock") == 0 || strcmp(mode, "pinned_deadlock2") == 0)
		return pinned_deadlock(mode[strlen(mode) - 1] == '2');
	if (strcmp(mode, "net_wait") == 0)
		return net_wait();
	if (strcmp(mode, "faults") == 0)
		return faults();
	if (strcmp(mode, "naps") == 0)
		return naps();
	if (strcmp(mode, "child") == 0 || strcmp(mode, "asleep") == 0)
		for (int i = 0; i < (mode[0] == 'c' ? 1 : 100); i++)
			shoal_go(child, NULL, 0);
	shoal_sleep(60000 * MS);
	return 0;
}
