/* ledger.c - makes and maps the ledger. See ledger.h. */
#include "shm/kernel.h"
#include "supervisor/keeper/ledger.h"
#include "core/g/g.h"
#include "core/root.h"
#include "shm/segment.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

struct ledger *sh_ledger;

static uint64_t layout(void)
{
	return sizeof(struct ledger) * 1000003u + sizeof(struct shoal_root) * 101u + sizeof(struct g) * 7u +
	       sizeof(struct zreq) + SH_VERSION;
}

static int map(int fd)
{
	void *at = kernel_mmap(NULL, sizeof *sh_ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	sh_ledger = at;
	return 0;
}

int sh_ledger_create(void)
{
	int fd = kernel_memfd_create("shoal-ledger", MFD_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = kernel_ftruncate(fd, sizeof *sh_ledger) < 0 ? -errno : map(fd);
	if (err < 0) {
		kernel_close(fd);
		return err;
	}
	sh_ledger->layout = layout();
	sh_ledger->magic = LEDGER_MAGIC;
	return fd;
}

int sh_ledger_attach(int fd)
{
	int err = map(fd);

	if (err < 0)
		return err;
	return sh_ledger->magic == LEDGER_MAGIC && sh_ledger->layout == layout() ? 0 : -EINVAL;
}
