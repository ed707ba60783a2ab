/*
 * program.c - a program with main and nothing of Shoal: its exit code is the number of its arguments, and it prints
 * a variable of the environment that it got as the third argument.
 */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv, char **envp)
{
	for (; *envp; envp++)
		if (!strncmp(*envp, "PROGRAM=", 8))
			printf("%s %s\n", argv[argc - 1], *envp);
	return argc;
}
