/*
 * variables.c - makes the variables of loaded objects shared memory, and keeps their initial content.
 *
 * The initial content is private memory of the zygote. Each clone inherits it, so a worker can reset an object
 * that its task closes. Pages of zeros are neither copied nor kept.
 */
#include "supervisor/zygote/variables.h"
#include "shm/kernel.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_zero(const char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, SH_PAGE - 1) == 0;
}

static bool share_range(struct object_range *r, int fd, off_t at)
{
	char *from = (char *)r->start;

	for (size_t i = 0; i < r->size; i += SH_PAGE) {
		r->zero[i / SH_PAGE] = is_zero(from + i);
		if (r->zero[i / SH_PAGE])
			continue;
		memcpy(r->pristine + i, from + i, SH_PAGE);
		if (kernel_pwrite(fd, from + i, SH_PAGE, at + (off_t)i) != (ssize_t)SH_PAGE)
			return false;
	}
	if (kernel_mmap(from, r->size, r->prot, MAP_SHARED | MAP_FIXED, fd, at) == MAP_FAILED)
		return false;
	sh_data_add(r->start, r->size);
	return true;
}

static bool share_all(const struct variables *v, struct object *object, unsigned n, int fd)
{
	size_t at = 0;

	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < object[i].nranges; k++) {
			struct object_range *r = &object[i].range[k];

			r->pristine = v->pristine + at;
			r->zero = v->zero + at / SH_PAGE;
			if (!share_range(r, fd, (off_t)at))
				return false;
			at += r->size;
		}
	return true;
}

struct variables *sh_variables_share(struct object *object, unsigned n)
{
	struct variables *v = calloc(1, sizeof *v);
	int fd = kernel_memfd_create("shoal-data", MFD_CLOEXEC), err;
	bool done;

	for (unsigned i = 0; v && i < n; i++)
		for (unsigned k = 0; k < object[i].nranges; k++)
			v->size += object[i].range[k].size;
	done = v && fd >= 0 && kernel_ftruncate(fd, (off_t)v->size) == 0;
	if (done) {
		v->zero = malloc(v->size / SH_PAGE + 1);
		v->pristine = kernel_mmap(NULL, v->size + 1, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		done = v->zero && v->pristine != MAP_FAILED && share_all(v, object, n, fd);
	}
	err = errno;
	if (fd >= 0)
		kernel_close(fd); /* the mappings keep the file */
	if (!done && v) {
		for (unsigned i = 0; i < n; i++)
			for (unsigned k = 0; k < object[i].nranges; k++)
				sh_data_remove(object[i].range[k].start, object[i].range[k].size);
		sh_variables_free(v);
		v = NULL;
	}
	errno = err;
	return v;
}

void sh_variables_free(struct variables *v)
{
	if (v->pristine && v->pristine != MAP_FAILED)
		kernel_munmap(v->pristine, v->size + 1);
	free(v->zero);
	free(v);
}
