/* seat_test.c - each request for a seat is taken by one process, and by none if it was withdrawn. */
#include "shm/segment.h"

#include <criterion/criterion.h>
#include <linux/futex.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEAT 3

static void set_up(void)
{
	cr_assert(sh_segment_create(16ul << 20) >= 0);
}

Test(seat, a_seat_is_claimed_once, .init = set_up)
{
	uint32_t ask = sh_seat_reserve(SEAT);

	cr_expect_eq(atomic_load(&sh_root->seat[SEAT].state), SEAT_STARTING);
	cr_expect_eq(sh_seat_claimed(&sh_root->seat[SEAT]), 0);
	cr_expect(sh_seat_claim(SEAT, ask));
	cr_expect_eq(sh_seat_claimed(&sh_root->seat[SEAT]), getpid());
	cr_expect(!sh_seat_claim(SEAT, ask), "two in one seat");
	cr_expect(!sh_seat_unreserve(SEAT), "who has come is not sent away");
	cr_expect_eq(sh_seat_claimed(&sh_root->seat[SEAT]), getpid());
}

Test(seat, a_late_process_does_not_get_the_seat, .init = set_up)
{
	uint32_t first = sh_seat_reserve(SEAT), second;

	cr_expect(sh_seat_unreserve(SEAT));
	cr_expect(!sh_seat_claim(SEAT, first), "taken back, and claimed");
	cr_expect_eq(sh_seat_claimed(&sh_root->seat[SEAT]), 0);
	second = sh_seat_reserve(SEAT);
	cr_expect_neq(second, first);
	cr_expect(!sh_seat_claim(SEAT, first), "of an earlier ask");
	cr_expect(sh_seat_claim(SEAT, second));
}

/* The mark of the last death would end the next process before it began. */
Test(seat, a_new_seat_has_no_mark_of_the_last_death, .init = set_up)
{
	pid_t child = fork();

	if (child == 0) {
		sh_seat_take(SEAT);
		_exit(0);
	}
	cr_assert_eq(waitpid(child, NULL, 0), child);
	cr_expect(sh_seat_dead(SEAT));
	sh_seat_reserve(SEAT);
	cr_expect(!sh_seat_dead(SEAT));
}

/*
 * A seat goes from the mark of a death to another pid: of two that see the mark one gets it, and its own death is
 * marked.
 */
Test(seat, only_one_process_takes_the_seat_word, .init = set_up)
{
	_Atomic uint32_t *word = &sh_root->zygote_word;
	uint32_t dead;
	int status;
	pid_t child;

	child = fork();
	if (child == 0) {
		sh_robust_hold(word);
		_exit(0);
	}
	cr_assert_eq(waitpid(child, NULL, 0), child);
	dead = atomic_load(word);
	child = fork();
	if (child == 0)
		_exit(sh_robust_take(word, dead) && !sh_robust_take(word, dead) ? 0 : 1);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect_eq(status, 0);
	cr_expect(atomic_load(word) & FUTEX_OWNER_DIED, "its own death is marked");
}
