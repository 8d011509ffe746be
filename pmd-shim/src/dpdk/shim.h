/* What is inline or a macro in DPDK's headers, as functions and constants that can be called and bound. */
#ifndef PMD_SHIM_DPDK_H
#define PMD_SHIM_DPDK_H

/* DPDK's own compiler flags include this one first. */
#include <rte_config.h>

#include <rte_acl.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_malloc.h>
#include <rte_mempool.h>
#include <rte_vect.h>
#include <rte_version.h>

/* Starts the environment. Its page of usage, printed when it does not like an argument, goes nowhere. */
int shim_init(int count, char **arguments);

/* Once a burst. */
uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t room);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);

/* A pool of `frames` buffers with `room` bytes each, headroom included; NULL when it cannot be, with the reason in shim_errno(). */
struct rte_mempool *shim_pool(const char *name, uint32_t frames, uint32_t cache, uint16_t room);
/* One frame, reset; NULL when all are in use. */
struct rte_mbuf *shim_alloc(struct rte_mempool *pool);
/* Gives a frame back, with all its segments. */
void shim_free(struct rte_mbuf *frame);

/* Calls `each` with every piece of memory that the pool's buffers are in. */
void shim_pool_memory(struct rte_mempool *pool, void (*each)(void *start, size_t len));

int shim_errno(void);

/* Receives every message of DPDK's log: its level (smaller is worse) and its text. */
typedef void (*shim_log_fn)(uint32_t level, const char *text, size_t len);
/* Sends the log there. Returns 0, or -1 when there is no memory. */
int shim_log_to(shim_log_fn sink);

/* The device's name, for as long as it is there; NULL where there is none. */
const char *shim_device_name(const struct rte_eth_dev_info *info);

/* How a port spreads what it receives over its queues; no types, no spreading. */
struct shim_rss {
    uint64_t types;
    const uint8_t *key;
    uint8_t key_len;
};
/* Configures a port with as many queues in either direction. Returns 0 or a negative error. */
int shim_configure(uint16_t port, uint16_t queues, uint32_t mtu, uint64_t rx_offloads, const struct shim_rss *rss);
/* Spreads the entries of the port's table of `size` entries over the queues, one after the other. Returns 0 or a negative error. */
int shim_spread(uint16_t port, uint16_t size, uint16_t queues);
/* Whether the port hashes these types with this key, and its table is what shim_spread makes of it. */
int shim_is_spread(uint16_t port, const struct shim_rss *rss, uint16_t size, uint16_t queues);
/* 1 where the link is up, 0 where not, or a negative error. Does not wait. */
int shim_link(uint16_t port);

static const uint64_t SHIM_RX_L4_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t SHIM_RX_L4_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t SHIM_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;

static const uint64_t SHIM_OFFLOAD_IPV4 = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_OFFLOAD_UDP = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t SHIM_OFFLOAD_TCP = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;

static const uint64_t SHIM_RSS_L3_SRC_ONLY = RTE_ETH_RSS_L3_SRC_ONLY;
static const uint64_t SHIM_RSS_L3_DST_ONLY = RTE_ETH_RSS_L3_DST_ONLY;
static const uint64_t SHIM_RSS_IPV4 = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
static const uint64_t SHIM_RSS_IPV6 =
    RTE_ETH_RSS_IPV6 | RTE_ETH_RSS_FRAG_IPV6 | RTE_ETH_RSS_NONFRAG_IPV6_OTHER | RTE_ETH_RSS_IPV6_EX;
static const uint64_t SHIM_RSS_L4_IPV4 =
    RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV4_SCTP;
static const uint64_t SHIM_RSS_L4_IPV6 = RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP |
                                         RTE_ETH_RSS_NONFRAG_IPV6_SCTP | RTE_ETH_RSS_IPV6_TCP_EX |
                                         RTE_ETH_RSS_IPV6_UDP_EX;

static const uint8_t SHIM_ACL_MASK = RTE_ACL_FIELD_TYPE_MASK;
static const uint8_t SHIM_ACL_RANGE = RTE_ACL_FIELD_TYPE_RANGE;
static const uint8_t SHIM_ACL_BITMASK = RTE_ACL_FIELD_TYPE_BITMASK;
static const uint32_t SHIM_ACL_AVX2 = RTE_ACL_CLASSIFY_AVX2;
static const uint32_t SHIM_ACL_AVX512X16 = RTE_ACL_CLASSIFY_AVX512X16;
static const uint32_t SHIM_ACL_AVX512X32 = RTE_ACL_CLASSIFY_AVX512X32;
static const int32_t SHIM_ACL_PRIORITY_MAX = RTE_ACL_MAX_PRIORITY;
static const uint16_t SHIM_SIMD_512 = RTE_VECT_SIMD_512;
static const int SHIM_SOCKETS_MAX = RTE_MAX_NUMA_NODES;

static const uint32_t SHIM_LOG_ERROR = RTE_LOG_ERR;
static const uint32_t SHIM_LOG_WARNING = RTE_LOG_WARNING;

static const uint16_t SHIM_PORTS_MAX = RTE_MAX_ETHPORTS;
static const uint64_t SHIM_NO_OWNER = RTE_ETH_DEV_NO_OWNER;
static const uint16_t SHIM_RETA_MAX = RTE_ETH_RSS_RETA_SIZE_512;

#endif
