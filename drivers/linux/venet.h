/* SPDX-License-Identifier: GPL-2.0-only */
/* venet.h - what venet's files share. */
#ifndef VENET_H
#define VENET_H

#include <linux/netdevice.h>
#include <linux/u64_stats_sync.h>
#include <net/xdp.h>
#include "ioq.h"
#include "vbus.h"
#include "venet_abi.h"

struct venet;
struct venet_pair;

/* A frame with its header, and how many receive buffers the longest one takes. */
#define VENET_LONGEST		((u32)sizeof(struct venet_header) + VENET_FRAME_MAX)
#define VENET_LONGEST_BUFFERS	DIV_ROUND_UP(VENET_LONGEST, VENET_BUFFER_MIN)

#define VENET_RING_MAX		256u
#define VENET_RING_MIN		64u	/* a power of two above VENET_LONGEST_BUFFERS */
#define VENET_ARENA_MIN		ALIGN(VENET_LONGEST, PAGE_SIZE)
#define VENET_ARENA_MAX		(512u << 10)

/*
 * Counters of a ring; each has one writer at a time: NAPI, or who holds the transmit lock.  Frames
 * and bytes are all that the host hands over or takes, as it counts them itself.
 */
enum {
	VENET_RX_FRAMES,
	VENET_RX_BYTES,
	VENET_RX_DROPS,
	VENET_RX_ERRORS,
	VENET_RX_XDP_FRAMES,
	VENET_RX_XDP_DROPS,
	VENET_RX_XDP_TX,
	VENET_RX_XDP_REDIRECTS,
	VENET_RX_COUNTERS
};

enum {
	VENET_TX_FRAMES,
	VENET_TX_BYTES,
	VENET_TX_DROPS,
	VENET_TX_STOPS,
	VENET_TX_XDP_FRAMES,
	VENET_TX_XDP_DROPS,
	VENET_TX_COUNTERS
};

struct venet_stats {
	struct u64_stats_sync sync;
	u64_stats_t value[VENET_RX_COUNTERS];
};
static_assert((int)VENET_TX_COUNTERS <= (int)VENET_RX_COUNTERS);

static inline void venet_count(struct venet_stats *stats, u32 counter)
{
	u64_stats_update_begin(&stats->sync);
	u64_stats_inc(&stats->value[counter]);
	u64_stats_update_end(&stats->sync);
}

static inline void venet_count_frame(struct venet_stats *stats, u32 frames, u32 bytes, u32 len)
{
	u64_stats_update_begin(&stats->sync);
	u64_stats_inc(&stats->value[frames]);
	u64_stats_add(&stats->value[bytes], len);
	u64_stats_update_end(&stats->sync);
}

/* One consistent copy of the first @count counters. */
void venet_stats_read(const struct venet_stats *stats, u64 *value, u32 count);

/**
 * struct venet_ring - an IOQ in the window
 * @q: our view; TX under the transmit lock, RX in NAPI
 */
struct venet_ring {
	struct vbus_device *vdev;
	struct vbus_region region;
	struct ioq q;
	u32 count;
	void *north;
	void *south;
};

/* venet_ring.c */
int venet_ring_alloc(struct venet_ring *ring, u32 count);
void venet_ring_free(struct venet_ring *ring);

/* Empty, and known to the host. */
int venet_ring_share(struct venet_ring *ring);

/* The next completion; -EAGAIN when there is none, -EPROTO when the host lies. */
int venet_ring_pop(struct venet_ring *ring, struct ioq_buffer *done);

/* Hand over what was pushed, and tell the host if it wants to know. */
static inline void venet_ring_publish(struct venet_ring *ring)
{
	ioq_push_publish(&ring->q);
	vbus_region_inject(ring->vdev, &ring->region);
}

/**
 * struct venet_rx - room for frames, and what arrives in it
 * @buffers: @ring.count times VENET_BUFFER_MIN in the window; only the host writes them
 * @ids:     buffers that are with us; a stack of @free of them
 * @posted:  per id, whether the host has it
 * @limit:   buffers that the host gets; ethtool -G
 * @pushed:  buffers since the last publish
 * @piece:   completions that hold the frame at hand, @pieces of them
 * @frag:    memory that frames longer than one piece are copied into
 * @page:    for the next frame that an XDP program looks at, or NULL
 */
struct venet_rx {
	struct venet_ring ring;
	u8 *buffers;
	u64 buffers_at;
	u16 ids[VENET_RING_MAX];
	bool posted[VENET_RING_MAX];
	u32 free;
	u32 limit;
	u32 pushed;
	struct {
		u32 id;
		u32 len;
	} piece[VENET_LONGEST_BUFFERS];
	u32 pieces;
	struct page_frag frag;
	struct page *page;
	struct xdp_rxq_info info;
	struct venet_stats stats;
};

/**
 * struct venet_tx - frames on their way to the host, in an arena of the window
 *
 * A frame takes one piece of the arena and one slot.  Slots are used in turn: those from @first to
 * @next are taken, and the arena from the oldest one's piece to @head.
 *
 * @limit:    slots that may be taken; ethtool -G
 * @returned: frames that came back, @watched of them when the watch looked last
 */
struct venet_tx {
	struct venet_ring ring;
	struct netdev_queue *queue;
	u8 *arena;
	u64 arena_at;
	u32 arena_size;
	u32 head;
	u32 first;
	u32 next;
	u32 limit;
	u32 returned;
	u32 watched;
	struct {
		u32 at;
		u32 bytes;	/* that BQL knows of */
		bool posted;
	} slot[VENET_RING_MAX];
	struct venet_stats stats;
};

/* A ring each way, and the NAPI that serves both. */
struct venet_pair {
	struct venet *venet;
	u32 index;
	struct napi_struct napi;
	struct venet_rx rx;
	struct venet_tx tx;
} ____cacheline_aligned;

/* Bits in force since the first open, per feature group; a replay must give them again. */
struct venet_features {
	u32 sg;
	u32 eventq;
	u32 l4ro;
	u32 config;
};

/**
 * struct venet - one card
 * @pair:   @pairs_max of them have rings, the first @pairs are in use
 * @status: the host's page, or NULL without LINKSTATE
 * @running: fast paths may run; changes under rtnl
 * @frozen: no region is shared, and a replay starts the card if it is up; cleared under rtnl
 * @coalesce: fewer doorbells, on the event queue of each pair; no events: one for each signal
 * @xdp:    the program that looks at each frame first, or NULL
 * @mode:   tells the host what to receive
 * @lost:   takes the carrier away when a recovery takes too long
 * @watch:  looks whether frames come back from the host
 */
struct venet {
	struct vbus_device *vdev;
	struct net_device *netdev;
	struct venet_features features;
	u32 pairs_max;
	u32 pairs;
	struct venet_pair *pair;
	struct vbus_region status_region;
	const struct venet_status *status;
	bool running;
	bool frozen;
	struct {
		u32 events;
		u32 microseconds;
	} coalesce;
	struct bpf_prog __rcu *xdp;
	struct work_struct mode;
	struct delayed_work lost;
	struct delayed_work watch;
};

/* Rtnl held.  A card that the host does not serve now tells everything when it is started. */
static inline bool venet_is_served(const struct venet *venet)
{
	return venet->running && !READ_ONCE(venet->frozen);
}

/* So does one whose connection was lost on the way. */
static inline int venet_told(int err)
{
	return err == -ESTALE || err == -ETIMEDOUT ? 0 : err;
}

/* venet_agree.c */
extern const struct venet_features venet_wanted;
/* Open and negotiate; the device is closed again when this fails. */
int venet_connect(struct venet *venet, struct venet_features *features);
/* The header asks for nothing beyond @bits, of SG or L4RO; whether it fits its frame is open. */
bool venet_may(u32 bits, const struct venet_header *header);
/* Pairs of rings that the host would serve. */
int venet_ask_pairs(struct venet *venet, u32 *pairs);
/* Address, MTU and offloads of a new card, as the host has them. */
int venet_configure(struct venet *venet);
/* After a recovery: an error unless all that is in use is there still. */
int venet_compare(struct venet *venet, const struct venet_features *now);

/* venet_link.c; rtnl held */
int venet_start(struct venet *venet);
void venet_halt(struct venet *venet);
/* Halt, and have the host stop as well; what has come for pairs from @first on is lost. */
void venet_end(struct venet *venet, u32 first);
void venet_update_carrier(struct venet *venet);
/* From @pairs on, which are at most @pairs_max; the link goes down and up for it. */
int venet_set_pairs(struct venet *venet, u32 pairs);
/* What the host may send from now on; @one_page: to an XDP program. */
int venet_tell_offloads(struct venet *venet, netdev_features_t features, bool one_page);
extern const struct net_device_ops venet_netdev_ops;

/* venet_pair.c */
u32 venet_pairs_paid(const struct vbus_device *vdev);
int venet_pairs_alloc(struct venet *venet, u32 pairs);
void venet_pairs_free(struct venet *venet);
int venet_pairs_share(struct venet *venet);
void venet_pairs_unshare(struct venet *venet);
int venet_poll(struct napi_struct *napi, int budget);

/* venet_irq.c */
int venet_request_irqs(struct venet *venet);
void venet_free_irqs(struct venet *venet);

/* venet_rx.c */
int venet_rx_alloc(struct venet_rx *rx, u32 count);
void venet_rx_free(struct venet_rx *rx);
int venet_rx_share(struct venet_rx *rx);
/* Hand the host as many buffers as it may have.  In NAPI, or while it is off. */
void venet_rx_fill(struct venet_rx *rx);
/* What came before the link went down is not delivered after it came up again.  NAPI is off. */
void venet_rx_discard(struct venet_rx *rx);
int venet_rx(struct venet_pair *pair, int budget);
/* Copy the next @len bytes of the frame at hand out of the window. */
struct venet_reader {
	struct venet_rx *rx;
	u32 piece;
	u32 at;
};
void venet_rx_read(struct venet_reader *reader, void *to, u32 len);

/* venet_tx.c */
int venet_tx_alloc(struct venet_tx *tx, u32 count, u32 arena_size);
void venet_tx_free(struct venet_tx *tx);
int venet_tx_share(struct venet_tx *tx);
netdev_tx_t venet_xmit(struct sk_buff *skb, struct net_device *netdev);
netdev_features_t venet_features_check(struct sk_buff *skb, struct net_device *netdev,
				       netdev_features_t features);
/* Take back what was sent, and let a stopped queue go on; false when somebody has the lock. */
bool venet_tx_clean(struct venet_tx *tx);
/* A frame without offloads; false when there is no room.  Transmit lock held. */
bool venet_tx_send(struct venet_tx *tx, const void *data, u32 len);
void venet_watch(struct work_struct *work);

/* venet_xdp.c */
int venet_bpf(struct net_device *netdev, struct netdev_bpf *bpf);
int venet_xdp_xmit(struct net_device *netdev, int count, struct xdp_frame **frames, u32 flags);
u32 venet_xdp_mtu_max(void);
/* What the programs of a poll left to do; bits of the answers below. */
#define VENET_XDP_SENT		BIT(0)
#define VENET_XDP_REDIRECTED	BIT(1)
void venet_xdp_flush(struct venet_pair *pair, u32 todo);
/* Show the program the frame at hand, of @len bytes: an skb when it shall pass, or NULL. */
struct sk_buff *venet_xdp_run(struct venet_pair *pair, struct bpf_prog *program,
			      struct venet_reader *reader, u32 len, u32 *todo);

/* venet_ethtool.c */
extern const struct ethtool_ops venet_ethtool_ops;
int venet_tell_coalesce(struct venet *venet);

/* venet_mode.c */
void venet_mode_work(struct work_struct *work);
int venet_tell_mode(struct venet *venet);
void venet_set_rx_mode(struct net_device *netdev);
int venet_set_mac(struct net_device *netdev, void *address);

#endif /* VENET_H */
