// SPDX-License-Identifier: MIT
/* control_device.c - devices by name: shells that wait to be connected, and what vbusd has. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "control.h"

static bool is_printable(const char *text)
{
	while (*text >= ' ' && *text <= '~')
		text++;
	return !*text;
}

static int keep_value(const char *name, const char *key, const char *text)
{
	json_t *shells = json_deep_copy(control.shells);

	json_object_set_new(json_object_get(shells, name), key, json_string(text));
	return control_shells_keep(shells);
}

/* Where vbusd has the device of out->uuid; -ENOENT: nowhere. */
static int locate(struct control_device *out)
{
	struct vbusd_bus_status bus;
	uint32_t b, d;
	int err;

	for (b = 0; !(err = control_ask_bus(b, &bus)); b++)
		for (d = 0; !control_ask_device(bus.name, d, &out->status); d++)
			if (!memcmp(out->status.uuid, out->uuid, VBUS_UUID_LEN)) {
				memcpy(out->bus, bus.name, sizeof(out->bus));
				out->klass = control_class_find(out->status.klass);
				return 0;
			}
	return err;
}

int control_device_find(const char *name, struct control_device *out)
{
	int err;

	memset(out, 0, sizeof(*out));
	out->shell = json_object_get(control.shells, name);
	if (out->shell)
		out->klass = control_class_find(control_shell_text(out->shell, "type"));
	if (!control_uuid(out->shell ? control_shell_text(out->shell, "uuid") : name, out->uuid))
		return control_refuse(ENOENT, "device %.40s: is not there", name);
	err = locate(out);
	if (err == -ENOENT && out->shell)
		return 0;
	return err == -ENOENT ? control_refuse(ENOENT, "device %.40s: is not there", name) : err;
}

const char *control_device_name(const uint8_t *uuid, char *room)
{
	const char *name;
	json_t *shell;

	control_uuid_text(uuid, room);
	json_object_foreach(control.shells, name, shell)
		if (!strcmp(control_shell_text(shell, "uuid"), room))
			return name;
	return room;
}

int control_device_make(const char *name)
{
	char text[CONTROL_UUID_TEXT], room[CONTROL_UUID_TEXT];
	uint8_t uuid[VBUS_UUID_LEN];
	json_t *shells;

	if (!control_name(name) || strlen(name) > 63)
		return control_refuse(EINVAL, "a device needs a name of letters, digits, - _ . "
				      "(up to 63)");
	if (json_object_get(control.shells, name))
		return control_refuse(EEXIST, "device %s: exists", name);
	if (!control_uuid(name, uuid)) {
		if (getrandom(uuid, sizeof(uuid), 0) != sizeof(uuid))
			return control_refuse(EIO, "device %s: no randomness", name);
		uuid[6] = (uuid[6] & 0x0f) | 0x40;
		uuid[8] = (uuid[8] & 0x3f) | 0x80;
	}
	control_uuid_text(uuid, text);
	if (strcmp(control_device_name(uuid, room), text))
		return control_refuse(EEXIST, "device %s: has a name already", name);
	shells = json_deep_copy(control.shells);
	json_object_set_new(shells, name, json_pack("{s:s}", "uuid", text));
	return control_shells_keep(shells);
}

int control_device_forget(const char *name)
{
	struct control_device dev;
	json_t *shells;
	int err = control_device_find(name, &dev);

	if (err)
		return err;
	if (dev.bus[0])
		return control_refuse(EBUSY, "device %.63s: is connected to bus %s", name, dev.bus);
	shells = json_deep_copy(control.shells);
	json_object_del(shells, name);
	return control_shells_keep(shells);
}

/* Once; the MAC is the UUID's end, under a prefix that QEMU's cards have as well. */
static int set_type(const char *name, const struct control_device *dev, const char *text)
{
	const struct vbus_class_info *klass = control_class_find(text);
	json_t *shells, *shell;

	if (dev->klass || dev->bus[0])
		return control_refuse(EINVAL, "device %.63s: has a type already", name);
	if (!klass)
		return control_refuse(ENOENT, "class %.40s: is not known", text);
	shells = json_deep_copy(control.shells);
	shell = json_object_get(shells, name);
	json_object_set_new(shell, "type", json_string(klass->name));
	if (vbus_class_is_net(klass))
		json_object_set_new(shell, "client_mac",
				    json_sprintf("52:54:00:%02x:%02x:%02x", dev->uuid[13],
						 dev->uuid[14], dev->uuid[15]));
	return control_shells_keep(shells);
}

/* Those that count at once. */
static int tell(const struct control_device *dev, const char *key, const char *text)
{
	struct vbusd_request q = { .op = VBUSD_LINK };

	memcpy(q.bus, dev->bus, sizeof(q.bus));
	memcpy(q.uuid, dev->uuid, sizeof(q.uuid));
	if (!strcmp(key, "mask")) {
		q.op = VBUSD_MASK;
		control_mask(text, &q.mask[0].gid, &q.mask[0].bits);
	} else if (!strcmp(text, "0")) {
		q.flags = VBUSD_LINK_DOWN;
	}
	return control_ask(&q);
}

int control_device_set(const char *name, const char *key, const char *text)
{
	const struct control_attribute *a = control_attribute(key);
	struct control_device dev;
	uint32_t group, bits;
	char mask[32], value[32];
	int err = control_device_find(name, &dev);

	if (err)
		return err;
	if (!strcmp(key, "type"))
		return set_type(name, &dev, text);
	if (!dev.klass || !control_device_has(dev.klass, key))
		return control_refuse(ENOENT, "device %.63s: has no %.40s", name, key);
	if (!is_printable(text) || !a->is_ok(text))
		return control_refuse(EINVAL, "device %.63s: %s: wants %s", name, key, a->wants);
	if (dev.bus[0] && !(a->for_what & CONTROL_LIVE))
		return control_refuse(EBUSY, "device %.63s: %s: is connected to bus %s", name, key,
				      dev.bus);
	if (dev.bus[0] && (err = tell(&dev, key, text)))
		return err;
	if (!dev.shell)
		return 0;
	if (strcmp(key, "mask"))
		return keep_value(name, key, text);
	control_mask(text, &group, &bits);
	if (!dev.bus[0] && bits & ~vbus_class_bits(dev.klass, group))
		return control_refuse(EOPNOTSUPP, "device %.63s: group %u has no bits %#x", name,
				      group, bits & ~vbus_class_bits(dev.klass, group));
	snprintf(mask, sizeof(mask), "mask %u", group);
	snprintf(value, sizeof(value), "%#x", bits);
	return keep_value(name, mask, value);
}

/* All that a shell says, in one request: a guest that looks at once sees no other device. */
static void describe(const struct control_device *dev, struct vbusd_request *q)
{
	bool is_tap = dev->klass->backend == VBUS_BACKEND_TAP;
	const char *serial = control_shell_text(dev->shell, "serial");
	const struct vbus_mask *f;
	uint32_t i = 0;

	snprintf(q->argument, sizeof(q->argument), "%s",
		 control_shell_text(dev->shell, is_tap ? "ifname" : "path"));
	memcpy(q->uuid, dev->uuid, sizeof(q->uuid));
	memcpy(q->klass, dev->klass->name, sizeof(q->klass));
	control_mac(control_shell_text(dev->shell, "client_mac"), q->mac);
	memcpy(q->serial, serial, strnlen(serial, sizeof(q->serial)));
	control_number(control_shell_text(dev->shell, "mtu"), &q->mtu);
	control_number(control_shell_text(dev->shell, "block_size"), &q->block_size);
	if (!strcmp(control_shell_text(dev->shell, "readonly"), "1"))
		q->flags |= VBUSD_READ_ONLY;
	if (!strcmp(control_shell_text(dev->shell, "enabled"), "0"))
		q->flags |= VBUSD_LINK_DOWN;
	for (f = dev->klass->feature; f->bits; f++, i++)
		q->mask[i] = (struct vbus_mask){
			.gid = f->gid, .bits = control_shell_masked(dev->shell, f->gid),
		};
}

int control_device_connect(const char *bus, const char *name)
{
	struct vbusd_request q = { .op = VBUSD_DEVICE_ADD };
	struct control_device dev;
	int err = control_device_find(name, &dev);

	if (err)
		return err;
	if (dev.bus[0])
		return control_refuse(EBUSY, "device %.63s: is connected to bus %s", name, dev.bus);
	if (!dev.klass)
		return control_refuse(EINVAL, "device %.63s: has no type yet", name);
	err = control_bus_name(&q, bus);
	if (err)
		return err;
	describe(&dev, &q);
	return control_ask(&q);
}

int control_device_disconnect(const char *bus, const char *name)
{
	struct vbusd_request q = { .op = VBUSD_DEVICE_REMOVE };
	struct control_device dev;
	int err = control_device_find(name, &dev);

	if (err)
		return err;
	if (strcmp(dev.bus, bus))
		return control_refuse(ENOENT, "device %.63s: is not connected to bus %.31s", name,
				      bus);
	memcpy(q.bus, dev.bus, sizeof(q.bus));
	memcpy(q.uuid, dev.uuid, sizeof(q.uuid));
	return control_ask(&q);
}
