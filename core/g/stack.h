/*
 * stack.h - where the frames of a G are.
 *
 * A window is a range of addresses that each worker has, with memory of its own behind it. A G is bound
 * to one window. Its frames are in that window of one worker (g->res is the seat) or in its image
 * (RES_IMAGE), a block of the task's heap. See stack.c.
 */
#ifndef CORE_G_STACK_H
#define CORE_G_STACK_H

#include <stdbool.h>
#include <stdint.h>

struct g;
struct m;

#define WIN_COUNT 1024u
#define WIN_SIZE (1ul << 20)
#define WIN_LARGE_COUNT 16u
#define WIN_LARGE_SIZE (64ul << 20)
#define WIN_ALL (WIN_COUNT + WIN_LARGE_COUNT)
#define WIN_NONE 0xffffffffu

void stack_enter(struct g *); /* when it returns, the frames of the G are in its window of this worker */
/* Makes the image large enough for the frames. False: no memory is left, or sp is damaged. */
bool stack_fit(struct g *);
bool stack_whole(const struct g *); /* true if its sp lies in its window */
void stack_free(struct g *);	    /* at the end of the G: frees image and window */
void windows_init(struct m *);	    /* a new process: finds the free windows by occ */
char *stack_top(uint32_t win);

#endif
