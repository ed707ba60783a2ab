// variables.cc - thread_local objects of C++, exceptions and std::call_once on goroutines that move.
//
// Prints how many objects were made and how many of them are gone after the goroutines have ended; then the
// root goroutine's object and a static one end, in this order.
#include <shoal.h>

#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <string>

static int made, gone;

struct Counted {
	std::string text;
	Counted() : text(40, 'x') { __atomic_add_fetch(&made, 1, __ATOMIC_SEQ_CST); }
	~Counted()
	{
		if (text.size() < 40)
			std::puts("an object was changed");
		shoal_yield();
		__atomic_add_fetch(&gone, 1, __ATOMIC_SEQ_CST);
	}
};

struct Says {
	const char *what;
	shoal_gid by;
	explicit Says(const char *w) : what(w), by(shoal_self()) {}
	~Says() { if (by == 0 || shoal_self() == by) std::puts(what); }
};

static thread_local Counted first, second;
static std::once_flag once;
static int tries;
static shoal_wg wg;

static void tries_once()
{
	tries++;
	shoal_sleep(1000000);
	if (tries == 1)
		throw std::runtime_error("again");
}

static void use(void *)
{
	first.text += "y";
	try {
		std::call_once(once, tries_once);
	} catch (const std::runtime_error &) {
		shoal_yield();
	}
	try {
		shoal_yield();
		throw std::runtime_error("thrown");
	} catch (const std::exception &e) {
		shoal_sleep(100000);
		if (e.what() != std::string("thrown") || std::uncaught_exceptions() != 0)
			std::puts("another's exception");
	}
	if (first.text.size() != 41 || second.text.size() != 40)
		std::puts("another's object");
}

extern "C" int shoal_main(int, char **)
{
	static Says last("the static object");
	static thread_local Says mine("the object of the root goroutine");

	last.by = 0;
	for (int i = 0; i < 300; i++)
		shoal_wg_go(&wg, use, nullptr, 0);
	shoal_wg_wait(&wg);
	std::printf("%d made, %d gone, %d tries, %s\n", made, gone, tries, mine.what[0] ? "ended" : "");
	return 0;
}
