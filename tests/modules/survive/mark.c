/*
 * survive/mark.c FILE KEY N - notes in FILE when it begins and when it ends, and in between asks
 * goroutines N questions, some of which they sleep over. Returns 7, or 12 when there is no memory.
 *
 * A member that was lost over a question and starts again has forgotten it: it is asked once more.
 */
#include <shoal.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MEMBERS 5
#define PATIENCE 200000000 /* ns */

static struct shoal_chan *question[MEMBERS], *answers;

static void member(void *arg)
{
	int me = *(int *)arg, value;

	while (shoal_recv(question[me], &value) == 1) {
		if (value % 7 == 0)
			shoal_sleep(200000);
		value++;
		if (shoal_send(answers, &value) < 0)
			return;
	}
}

static void note(const char *file, char what, const char *key)
{
	char line[80];
	int fd = open(file, O_WRONLY | O_APPEND | O_CREAT, 0600), n = snprintf(line, sizeof line, "%c %s\n", what, key);

	if (fd < 0 || write(fd, line, (size_t)n) != n) {
		printf("cannot note: %d\n", fd);
		exit(1);
	}
	close(fd);
}

/* Answers to repeated questions come late, and are ignored. */
static int ask(int who, int value)
{
	int answer = 0;

	while (answer != value + 1) {
		shoal_send_timed(question[who], &value, PATIENCE);
		while (answer != value + 1 && shoal_recv_timed(answers, &answer, PATIENCE) == 1)
			;
	}
	return answer;
}

int shoal_main(int argc, char **argv)
{
	int n = argc > 3 ? atoi(argv[3]) : 100, value = 0;

	if (argc < 3)
		return 2;
	note(argv[1], 'b', argv[2]);
	answers = shoal_chan_new(sizeof(int), 4 * MEMBERS);
	for (int i = 0; i < MEMBERS; i++) {
		question[i] = shoal_chan_new(sizeof(int), i % 2);
		if (!answers || !question[i] || !shoal_go(member, &i, sizeof i))
			return 12;
	}
	while (value < n)
		value = ask(value % MEMBERS, value);
	printf("%d\n", value);
	note(argv[1], 'e', argv[2]);
	return 7;
}
