/*
 * main.c - runs one target (fuzz.h). With FUZZ_LIBFUZZER clang's libFuzzer does, and only the names are ours.
 */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MAX 65536

#if defined(FUZZ_LIBFUZZER)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint8_t *copy = malloc(n + 1);

	memcpy(copy, data, n);
	copy[n] = 0;
	fuzz_one(copy, n);
	free(copy);
	return 0;
}

#else

static uint8_t input[INPUT_MAX + 1];
static size_t len;
static char keep[512];

/* Keeps the last input. */
static void on_crash(int sig)
{
	int fd = open(keep, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd >= 0 && write(fd, input, len) == (ssize_t)len)
		dprintf(2, "fuzz: signal %d; the input is in %s\n", sig, keep);
	signal(sig, SIG_DFL);
	raise(sig);
}

static int run_file(const char *name)
{
	FILE *f = fopen(name, "re");

	if (!f) {
		perror(name);
		return 2;
	}
	len = fread(input, 1, INPUT_MAX, f);
	fclose(f);
	input[len] = 0;
	fuzz_one(input, len);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"seed", required_argument, NULL, 's'}, {"runs", required_argument, NULL, 'r'}, {NULL, 0, NULL, 0}};
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
	const char *build = getenv("SHOAL_BUILD"), *name = strrchr(argv[0], '/');
	uint64_t seed = 1, runs = fuzz_runs;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (c == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (c == 'r')
			runs = strtoull(optarg, NULL, 0);
		else
			return 2;
	snprintf(keep, sizeof keep, "%s/log/%s.input", build ? build : "build", name ? name + 1 : argv[0]);
	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
		signal(signals[i], on_crash);
	for (int i = optind; i < argc; i++)
		if (run_file(argv[i]))
			return 2;
	if (optind < argc)
		return 0;
	printf("seed %lu, %lu runs\n", (unsigned long)seed, (unsigned long)runs);
	for (uint64_t i = 0; i < runs; i++) {
		fuzz_begin(seed + i);
		len = fuzz_make(fuzz_seeds, fuzz_words, input, INPUT_MAX);
		input[len] = 0;
		alarm(10); /* none takes that long */
		fuzz_one(input, len);
	}
	puts("tests: 1 passed, 0 failed");
	return 0;
}

#endif
