/*
 * load.h - clients that keep a server busy, and the plain server that it is compared with.
 */
#ifndef TESTS_BENCH_LOAD_H
#define TESTS_BENCH_LOAD_H

#include <stdbool.h>
#include <sys/types.h>

/* Requests a second: 64 bytes there and back, one under way on each connection. 0: it failed. */
double load_echo(int port, int connections, double seconds);
/* The same of GET / by wrk. 0: it failed, or there is no wrk (told once, with its package). */
double load_http(int port, int connections, double seconds);
bool load_has_wrk(void);

/*
 * A server as one would write it by hand: a process with an epoll loop for each processor of procs,
 * on one listening socket. It echoes, or says httpd's hello. Its port; 0: it failed. plain_stop ends it.
 */
int plain_start(bool http, int procs, pid_t pid[], int most);
void plain_stop(pid_t pid[], int procs);

#endif
