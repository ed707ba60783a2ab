/*
 * redis.c - hiredis as a library of a module, against a Redis server: redis.so SOCKET
 *
 * Eight goroutines, each with a connection of its own, set and get 150 keys each and count in one key. One that is
 * lost with its worker starts again: the keys are the same then.
 */
#include <shoal.h>

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS 8
#define KEYS 150

static const struct shoal_go_opts stubborn = {.name = "client", .attempts = 100, .flags = SHOAL_ISOLATED};
static const char *path;
static struct shoal_wg wg;

static redisReply *ask(redisContext *c, const char *command, int me, int i)
{
	redisReply *r = redisCommand(c, command, me, i, me * KEYS + i);

	if (r && r->type != REDIS_REPLY_ERROR)
		return r;
	printf("wrong: %s: %s\n", command, r ? r->str : c->errstr);
	exit(1);
}

static void client(void *arg)
{
	int me = *(int *)arg;
	redisContext *c = redisConnectUnix(path);
	redisReply *r;

	if (!c || c->err) {
		printf("wrong: connect: %s\n", c ? c->errstr : "no memory");
		exit(1);
	}
	for (int i = 0; i < KEYS; i++) {
		freeReplyObject(ask(c, "SET key:%d:%d value.%d", me, i));
		freeReplyObject(ask(c, "SADD all %d:%d", me, i));
		r = ask(c, "GET key:%d:%d", me, i);
		if (!r->str || atoi(r->str + 6) != me * KEYS + i) {
			printf("wrong: %d:%d is %s\n", me, i, r->str ? r->str : "nothing");
			exit(1);
		}
		freeReplyObject(r);
	}
	redisFree(c);
}

int shoal_main(int argc, char **argv)
{
	redisContext *c;
	redisReply *r;

	if (argc < 2)
		return 2;
	path = argv[1];
	for (int i = 0; i < CLIENTS; i++)
		shoal_wg_go_with(&wg, &stubborn, client, &i, sizeof i);
	shoal_wg_wait(&wg);
	c = redisConnectUnix(path);
	r = ask(c, "SCARD all", 0, 0);
	printf("%lld keys\n", r->integer);
	freeReplyObject(r);
	freeReplyObject(ask(c, "FLUSHALL", 0, 0));
	redisFree(c);
	return 0;
}
