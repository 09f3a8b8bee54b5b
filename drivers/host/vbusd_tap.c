// SPDX-License-Identifier: MIT
/*
 * vbusd_tap.c - a tap interface by name, made when there is none; whoever runs vbusd brings it up.
 *
 * Before each frame goes a header of ten bytes: what is left to whoever receives it.  Workers say how
 * much of that there may be.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vbusd.h"

int vbusd_tap_open(const char *interface, char *text)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int header = sizeof(struct virtio_net_hdr);
	size_t len = strlen(interface);
	int fd;

	if (!len || len >= sizeof(request.ifr_name) || strpbrk(interface, "/%: \t\n")) {
		snprintf(text, VBUSD_TEXT_LEN,
			 "venet-tap needs the name of an interface, 1 to 15 letters");
		return -1;
	}
	memcpy(request.ifr_name, interface, len);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		snprintf(text, VBUSD_TEXT_LEN, "/dev/net/tun: %s", strerror(errno));
		return -1;
	}
	if (ioctl(fd, TUNSETIFF, &request) < 0) {
		snprintf(text, VBUSD_TEXT_LEN, "interface %s: %s", interface,
			 errno == EBUSY ? "another program has it open" :
			 errno == EINVAL ? "is no tap, or one that was made with multi_queue" :
			 strerror(errno));
		close(fd);
		return -1;
	}
	/* A persistent one remembers what its last user had. */
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0) {
		snprintf(text, VBUSD_TEXT_LEN, "interface %s: %s", interface, strerror(errno));
		close(fd);
		return -1;
	}
	return fd;
}

bool vbusd_tap_is(int fd, const char *interface)
{
	struct ifreq is = { 0 };

	return !ioctl(fd, TUNGETIFF, &is) && is.ifr_flags & IFF_VNET_HDR &&
	       !strncmp(is.ifr_name, interface, sizeof(is.ifr_name));
}
