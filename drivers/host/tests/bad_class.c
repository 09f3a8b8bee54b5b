// SPDX-License-Identifier: MIT
/* bad_class.c - modules that are none; each is built with one of these words defined. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef BAD_NAME
#define NAME	"two\nlines"
#elif defined(BAD_TAKEN)
#define NAME	"venet-tap"
#elif defined(NUMBER)
#define NAME	"many-" NUMBER
#else
#define NAME	"bad"
#endif

/* The example, what it exports under another name (and the tag of that type); then made worse. */
#define vbus_class	good_class
#include "../classes/example/echo.c"
#undef vbus_class

__attribute__((constructor)) static void start(void)
{
#if defined(BAD_CRASH)
	abort();
#elif defined(BAD_HANG)
	pause();
#elif defined(BAD_ROOT)
	/* With rights or with vbusd's descriptors it does not get as far as to export nothing. */
	if (!geteuid() || fcntl(200, F_GETFD) >= 0)
		abort();
#endif
}

#if !defined(BAD_NONE) && !defined(BAD_ROOT)
#ifdef BAD_OPS
static const struct vbus_class_ops few = { .attach = attach, .detach = detach };
#endif

const struct good_class vbus_class = {
#ifdef BAD_ABI
	.abi = 99,
#else
	.abi = VBUS_CLASS_ABI,
#endif
#ifdef BAD_OPS
	.ops = &few,
#else
	.ops = &ops,
#endif
	.info = {
		.name = NAME,
		.type = "echo",
		.version = 1,
#ifdef BAD_GROUPS
		.feature = { { 1, 1 }, { 2, 1 }, { 1, 2 } },
#endif
	},
};
#endif
