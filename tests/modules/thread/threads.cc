// threads.cc - std::thread, std::async, std::jthread, std::stop_token, C++20 synchronization; cancellation unwinds.
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <latch>
#include <mutex>
#include <numeric>
#include <semaphore>
#include <set>
#include <shared_mutex>
#include <stop_token>
#include <thread>
#include <vector>

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	std::printf("wrong: %s\n", what);
	std::fflush(stdout);
	std::_Exit(1);
}

static std::mutex mutex_;
static std::condition_variable changed;
static std::set<std::thread::id> ids;
static int left;

static void threads()
{
	static std::vector<std::thread> all;

	for (int i = 0; i < 50; i++)
		all.emplace_back([] {
			std::this_thread::sleep_for(std::chrono::milliseconds(1));
			std::lock_guard<std::mutex> l(mutex_);
			ids.insert(std::this_thread::get_id());
		});
	for (auto &t : all)
		t.join();
	must(ids.size() == 50 && !ids.count(std::this_thread::get_id()), "std::thread, get_id");
	all.clear();
}

static void futures()
{
	auto one = std::async(std::launch::async, [] { return 6 * 7; });
	auto bad = std::async(std::launch::async, []() -> int { throw std::runtime_error("bad"); });
	static std::promise<int> promise;
	std::thread sets([] { promise.set_value(9); });

	must(one.get() == 42, "std::async");
	try {
		bad.get();
		must(false, "an exception through std::future");
	} catch (const std::runtime_error &) {
	}
	must(promise.get_future().get() == 9, "std::promise");
	sets.join();
}

static std::atomic<int> turns{0};

static void stops()
{
	static std::condition_variable_any any;
	std::jthread t([](std::stop_token stop) {
		std::unique_lock<std::mutex> l(mutex_);
		any.wait(l, stop, [] { return false; });
		turns = 1;
	});

	std::this_thread::sleep_for(std::chrono::milliseconds(1));
	t.request_stop();
	t.join();
	must(turns == 1, "std::jthread stops");
}

static std::latch ready(8), go(1);
static std::counting_semaphore<4> slots(4);
static std::atomic<int> inside{0}, most{0}, rounds{0};
static std::barrier<> meet(8);
static std::shared_timed_mutex shared;
static std::atomic<unsigned> word{0};

static void twenty()
{
	static std::vector<std::jthread> all;

	for (int i = 0; i < 8; i++)
		all.emplace_back([] {
			ready.count_down();
			go.wait();
			for (int k = 0; k < 20; k++) {
				slots.acquire();
				int n = ++inside, m = most;
				while (n > m && !most.compare_exchange_weak(m, n))
					;
				std::this_thread::yield();
				--inside;
				slots.release();
				meet.arrive_and_wait();
				must(rounds >= k * 8 - 8, "std::barrier");
				++rounds;
				std::shared_lock<std::shared_timed_mutex> l(shared, std::chrono::seconds(10));
				must(l.owns_lock(), "std::shared_timed_mutex");
			}
			word.fetch_add(1);
			word.notify_all();
		});
	ready.wait();
	go.count_down();
	for (unsigned v; (v = word.load()) < 8;)
		word.wait(v);
	all.clear();
	must(most >= 1 && most <= 4 && rounds == 160, "std::counting_semaphore");
}

static int unwound;
struct Guard {
	~Guard() { unwound++; }
};

static void *unwinds(void *)
{
	Guard outer;
	try {
		Guard inner;
		for (;;)
			sleep(10);
	} catch (...) {
		unwound += 10;
		throw;
	}
	return nullptr;
}

static void cancels()
{
	static pthread_t t;
	void *r;

	pthread_create(&t, nullptr, unwinds, nullptr);
	usleep(2000);
	pthread_cancel(t);
	pthread_join(t, &r);
	must(r == PTHREAD_CANCELED && unwound == 12, "cancellation unwinds");
	std::unique_lock<std::mutex> l(mutex_);
	std::thread([] {
		std::notify_all_at_thread_exit(changed, std::unique_lock<std::mutex>(mutex_));
		left = 1;
	}).detach();
	changed.wait(l, [] { return left == 1; });
}

extern "C" int shoal_main(int, char **)
{
	threads();
	futures();
	stops();
	twenty();
	cancels();
	std::puts("ok");
	return 0;
}
