#include <shoal.h>

static struct shoal_mutex mu;
static struct shoal_cond more;
static struct shoal_wg wg;
static int queued, taken;

static void takes(void *arg)
{
	shoal_mutex_lock(&mu);
	while (queued == 0)
		shoal_cond_wait(&more, &mu);
	queued--;
	taken++;
	shoal_mutex_unlock(&mu);
}

int shoal_main(int argc, char **argv)
{
	for (int i = 0; i < 3; i++)
		shoal_wg_go(&wg, takes, NULL, 0);
	for (int i = 0; i < 3; i++) {
		shoal_mutex_lock(&mu);
		queued++;
		shoal_mutex_unlock(&mu);
		shoal_cond_signal(&more);
	}
	shoal_wg_wait(&wg);
	return taken != 3;
}
