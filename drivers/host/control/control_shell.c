// SPDX-License-Identifier: MIT
/*
 * control_shell.c - what a device can be told, and the file of those that were named here.
 *
 * A shell is an object of strings: uuid, type, attributes as they were written, and "mask GROUP"
 * for each masked group.  It stays when its device is connected: it keeps the name.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "fail_point.h"

#define STATE		"devices.json"
#define STATE_NEW	STATE ".new"

static bool is_switch(const char *text)
{
	return !strcmp(text, "0") || !strcmp(text, "1");
}

static bool is_mac(const char *text)
{
	uint8_t mac[6];

	return control_mac(text, mac);
}

static bool is_mask(const char *text)
{
	uint32_t group, bits;

	return control_mask(text, &group, &bits);
}

static bool is_number(const char *text)
{
	uint32_t n;

	return control_number(text, &n);
}

static bool is_path(const char *text)
{
	return text[0] == '/' && strlen(text) < VBUSD_ARGUMENT_LEN;
}

static bool is_serial(const char *text)
{
	return strlen(text) <= VBUSD_SERIAL_LEN;
}

static bool is_interface(const char *text)
{
	return text[0] && strlen(text) < 16 && !strpbrk(text, "/%: \t");
}

static const struct control_attribute attributes[] = {
	{ "client_mac", CONTROL_FOR_NET, is_mac, "a card's address, such as 52:54:00:12:34:56" },
	{ "enabled", CONTROL_FOR_NET | CONTROL_LIVE, is_switch, "0 or 1" },
	{ "ifname", CONTROL_FOR_TAP, is_interface, "the name of an interface, 1 to 15 letters" },
	{ "mtu", CONTROL_FOR_NET, is_number, "a number of bytes; 0: 1500" },
	{ "path", CONTROL_FOR_PATH, is_path, "an absolute path of less than 108 bytes" },
	{ "readonly", CONTROL_FOR_DISK, is_switch, "0 or 1" },
	{ "serial", CONTROL_FOR_DISK, is_serial, "up to 20 letters" },
	{ "block_size", CONTROL_FOR_DISK, is_number, "a number of bytes; 0: as the image has it" },
	{ "mask", CONTROL_FOR_NET | CONTROL_FOR_DISK | CONTROL_LIVE, is_mask,
	  "a group and its bits, such as 1 0x1" },
	{ NULL },
};

const struct control_attribute *control_attribute(const char *key)
{
	const struct control_attribute *a = attributes;

	while (a->name && strcmp(a->name, key))
		a++;
	return a->name ? a : NULL;
}

static unsigned int kinds_of(const struct vbus_class_info *klass)
{
	return (vbus_class_is_net(klass) ? CONTROL_FOR_NET : CONTROL_FOR_DISK) |
	       (klass->backend == VBUS_BACKEND_TAP ? CONTROL_FOR_TAP : 0) |
	       (klass->backend == VBUS_BACKEND_SOCKET || klass->backend == VBUS_BACKEND_IMAGE ?
		CONTROL_FOR_PATH : 0);
}

bool control_device_has(const struct vbus_class_info *klass, const char *key)
{
	const struct control_attribute *a = control_attribute(key);

	return a && (!klass || a->for_what & kinds_of(klass));
}

const char *control_shell_text(const json_t *shell, const char *key)
{
	const char *text = json_string_value(json_object_get(shell, key));

	return text ? text : "";
}

uint32_t control_shell_masked(const json_t *shell, uint32_t group)
{
	uint32_t bits;
	char key[32];

	snprintf(key, sizeof(key), "mask %u", group);
	return control_number(control_shell_text(shell, key), &bits) ? bits : 0;
}

/* What the file says is judged like what a user writes. */
static bool shell_is_ok(const char *name, json_t *shell)
{
	const struct vbus_class_info *klass = control_class_find(control_shell_text(shell, "type"));
	const char *key, *judged, *text;
	char mask[64];
	uint8_t uuid[VBUS_UUID_LEN];
	json_t *value;

	if (!control_name(name) || !control_uuid(control_shell_text(shell, "uuid"), uuid) ||
	    (!klass && json_object_get(shell, "type")))
		return false;
	json_object_foreach(shell, key, value) {
		/* The walk goes on from key: what is judged has a name of its own. */
		judged = key;
		text = json_string_value(value);
		if (!text)
			return false;
		if (!strcmp(key, "uuid") || !strcmp(key, "type"))
			continue;
		if (!strncmp(key, "mask ", 5)) {
			snprintf(mask, sizeof(mask), "%s %s", key + 5, text);
			judged = "mask";
			text = mask;
		}
		if (!klass || !control_device_has(klass, judged) ||
		    !control_attribute(judged)->is_ok(text))
			return false;
	}
	return true;
}

int control_shells_load(void)
{
	int fd = openat(control.state, STATE, O_RDONLY | O_CLOEXEC);
	json_error_t error;
	const char *name;
	json_t *shell;

	if (fd < 0 && errno == ENOENT) {
		control.shells = json_object();
		return 0;
	}
	control.shells = json_loadfd(fd, JSON_REJECT_DUPLICATES, &error);
	close(fd);
	if (!json_is_object(control.shells))
		return control_refuse(EINVAL, STATE ": is not understood (%s); mend it or remove "
				      "it", error.text);
	json_object_foreach(control.shells, name, shell)
		if (!shell_is_ok(name, shell))
			return control_refuse(EINVAL, STATE ": device %.40s is not understood; "
					      "mend it or remove it", name);
	return 0;
}

/* All or nothing, also for one who pulls the plug. */
static int write_file(const json_t *shells)
{
	int fd = openat(control.state, STATE_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool ok = fd >= 0 && !json_dumpfd(shells, fd, JSON_INDENT(1) | JSON_SORT_KEYS) &&
		  !fsync(fd);

	if (fd >= 0)
		close(fd);
	VBUS_FAIL_POINT(NAMES_WRITTEN);
	if (!ok || renameat(control.state, STATE_NEW, control.state, STATE) < 0 ||
	    fsync(control.state) < 0)
		return control_refuse(EIO, STATE ": cannot be written (%s)", strerror(errno));
	VBUS_FAIL_POINT(NAMES_KEPT);
	return 0;
}

int control_shells_keep(json_t *shells)
{
	int err = control.in_parts ? 0 : write_file(shells);

	if (err) {
		json_decref(shells);
		return err;
	}
	json_decref(control.shells);
	control.shells = shells;
	control.changes++;
	return 0;
}
