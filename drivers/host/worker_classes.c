// SPDX-License-Identifier: MIT
/* worker_classes.c - what each class does; class_info.c has what vbusd must know of it. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "classes/vblk.h"
#include "classes/venet.h"
#include "log.h"

static const struct {
	const char *name;
	const struct vbus_class_ops *ops;
} built_in[] = {
	{ "venet-loopback", &venet_loopback_class },
	{ "venet-tap", &venet_tap_class },
	{ "venet-passt", &venet_passt_class },
	{ "vblk-file", &vblk_file_class },
};

static const struct vbus_class *module[VBUSD_MODULES];
static uint32_t modules;

const struct vbus_class_ops *vbus_class_ops_find(const char *name)
{
	uint32_t i;

	for (i = 0; i < sizeof(built_in) / sizeof(built_in[0]); i++)
		if (!strcmp(built_in[i].name, name))
			return built_in[i].ops;
	for (i = 0; i < modules; i++)
		if (!strcmp(module[i]->info.name, name))
			return module[i]->ops;
	return NULL;
}

static bool is_whole(const struct vbus_class *klass)
{
	const struct vbus_class_ops *ops = klass->ops;

	if (!ops || !ops->attach || !ops->detach || !ops->close || !ops->call || !ops->share ||
	    !ops->signal || !ops->run)
		return false;
	/* Whoever writes to an image waits for the one before, and has it alone. */
	if (klass->info.backend == VBUS_BACKEND_IMAGE && !ops->fence)
		return false;
	return klass->info.backend != VBUS_BACKEND_SOCKET || ops->backend;
}

/* The class in the module at descriptor @fd; or NULL, and why. */
static const struct vbus_class *load(int fd, char *why)
{
	const struct vbus_class *klass;
	char path[32];
	void *handle;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		snprintf(why, VBUSD_TEXT_LEN, "%s", dlerror());
		return NULL;
	}
	klass = dlsym(handle, "vbus_class");
	if (!klass) {
		snprintf(why, VBUSD_TEXT_LEN, "exports no vbus_class");
		return NULL;
	}
	if (klass->abi != VBUS_CLASS_ABI) {
		snprintf(why, VBUSD_TEXT_LEN, "is built for classes of version %u, not %u",
			 klass->abi, VBUS_CLASS_ABI);
		return NULL;
	}
	if (!is_whole(klass)) {
		snprintf(why, VBUSD_TEXT_LEN, "lacks an operation that every class has");
		return NULL;
	}
	return klass;
}

void vbus_classes_load(const struct vbus_bus *bus)
{
	char why[VBUSD_TEXT_LEN];
	int fd;

	for (fd = VBUS_WORKER_MODULE_FD; modules < VBUSD_MODULES && fcntl(fd, F_GETFD) >= 0; fd++) {
		module[modules] = load(fd, why);
		if (!module[modules] || vbus_class_add(&module[modules]->info) < 0) {
			vbus_log(NULL, "a class that was added cannot be loaded (%s)", why);
			vbus_leave(bus, "a class is missing");
		}
		modules++;
		close(fd);
	}
}

_Noreturn void vbus_class_describe(void)
{
	struct vbus_class_answer answer = { 0 };
	const struct vbus_class *klass = load(VBUS_WORKER_MODULE_FD, answer.why);

	if (klass)
		answer.info = klass->info;
	_exit(write(VBUS_WORKER_FD, &answer, sizeof(answer)) != (ssize_t)sizeof(answer));
}
