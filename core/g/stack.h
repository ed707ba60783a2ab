/*
 * stack.h - where the frames of a G are: windows and images.
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

void stack_enter(struct g *); /* its frames are in its window here when this returns */
/* Its block is large enough for its frames: copystack. false: no memory is left, or its sp is damaged. */
bool stack_fit(struct g *);
bool stack_whole(const struct g *); /* its sp lies in its window */
void stack_free(struct g *);	    /* at its death */
void windows_init(struct m *);	    /* free windows from occ */
char *stack_top(uint32_t win);

#endif
