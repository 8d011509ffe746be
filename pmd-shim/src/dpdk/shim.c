/* Bodies of shim.h. Calls that are made for every frame take a whole burst, so that the border between the languages is crossed once. */
#define _GNU_SOURCE
#include "shim.h"

#include <rte_mbuf_pool_ops.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int shim_init(int count, char **arguments)
{
    fflush(stdout);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int kept = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (nowhere >= 0 && kept >= 0)
        dup2(nowhere, STDOUT_FILENO);
    int outcome = rte_eal_init(count, arguments);
    fflush(stdout);
    if (nowhere >= 0 && kept >= 0)
        dup2(kept, STDOUT_FILENO);
    if (nowhere >= 0)
        close(nowhere);
    if (kept >= 0)
        close(kept);
    return outcome;
}

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t room)
{
    return rte_eth_rx_burst(port, queue, frames, room);
}

uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
    return rte_eth_tx_burst(port, queue, frames, count);
}

struct rte_mempool *shim_pool(const char *name, uint32_t frames, uint32_t cache, uint16_t room)
{
    /*
     * As rte_pktmbuf_pool_create does it, but for ordinary pages: there no device needs a buffer to be in one piece physically. Else
     * each buffer would begin with a page of its own, so that all their headers compete for the same lines of the first-level cache,
     * and net_af_xdp, which counts with buffers side by side, would lose those at the end.
     */
    unsigned int flags = rte_eal_has_hugepages() ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG;
    struct rte_pktmbuf_pool_private settings;

    memset(&settings, 0, sizeof(settings));
    settings.mbuf_data_room_size = room;
    struct rte_mempool *pool = rte_mempool_create_empty(name, frames, sizeof(struct rte_mbuf) + room, cache,
                                                        sizeof(settings), SOCKET_ID_ANY, flags);
    if (pool == NULL)
        return NULL;
    int outcome = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
    if (outcome == 0) {
        rte_pktmbuf_pool_init(pool, &settings);
        outcome = rte_mempool_populate_default(pool);
    }
    if (outcome < 0) {
        rte_mempool_free(pool);
        rte_errno = -outcome;
        return NULL;
    }
    rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
    return pool;
}

struct rte_mbuf *shim_alloc(struct rte_mempool *pool)
{
    return rte_pktmbuf_alloc(pool);
}

void shim_free(struct rte_mbuf *frame)
{
    rte_pktmbuf_free(frame);
}

int shim_errno(void)
{
    return rte_errno;
}

static void pass_on(struct rte_mempool *pool, void *each, struct rte_mempool_memhdr *memory, unsigned int index)
{
    (void)pool;
    (void)index;
    (*(void (**)(void *, size_t))each)(memory->addr, memory->len);
}

void shim_pool_memory(struct rte_mempool *pool, void (*each)(void *start, size_t len))
{
    rte_mempool_mem_iter(pool, pass_on, &each);
}

static ssize_t write_log(void *cookie, const char *text, size_t len)
{
    shim_log_fn sink = *(shim_log_fn *)cookie;
    /* Of the calling thread; -1 when the text does not come from the log's own functions. */
    int level = rte_log_cur_msg_loglevel();
    sink(level < 0 ? RTE_LOG_INFO : (uint32_t)level, text, len);
    return (ssize_t)len;
}

int shim_log_to(shim_log_fn sink)
{
    static shim_log_fn kept;
    cookie_io_functions_t functions = {.write = write_log};

    kept = sink;
    FILE *file = fopencookie(&kept, "w", functions);
    if (file == NULL)
        return -1;
    return rte_openlog_stream(file);
}

const char *shim_device_name(const struct rte_eth_dev_info *info)
{
    return info->device == NULL ? NULL : rte_dev_name(info->device);
}

int shim_configure(uint16_t port, uint16_t queues, uint32_t mtu, uint64_t rx_offloads, const struct shim_rss *rss)
{
    struct rte_eth_conf conf;

    memset(&conf, 0, sizeof(conf));
    conf.rxmode.mtu = mtu;
    conf.rxmode.offloads = rx_offloads;
    if (rss->types != 0) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = rss->types;
        /* Read only, whatever the type says. */
        conf.rx_adv_conf.rss_conf.rss_key = (uint8_t *)(uintptr_t)rss->key;
        conf.rx_adv_conf.rss_conf.rss_key_len = rss->key_len;
    }
    return rte_eth_dev_configure(port, queues, queues, &conf);
}

#define GROUPS (RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE)

int shim_spread(uint16_t port, uint16_t size, uint16_t queues)
{
    struct rte_eth_rss_reta_entry64 table[GROUPS];

    if (size > RTE_ETH_RSS_RETA_SIZE_512 || queues == 0)
        return -EINVAL;
    memset(table, 0, sizeof(table));
    for (uint16_t entry = 0; entry < size; entry++) {
        struct rte_eth_rss_reta_entry64 *group = &table[entry / RTE_ETH_RETA_GROUP_SIZE];
        group->mask |= UINT64_C(1) << (entry % RTE_ETH_RETA_GROUP_SIZE);
        group->reta[entry % RTE_ETH_RETA_GROUP_SIZE] = entry % queues;
    }
    return rte_eth_dev_rss_reta_update(port, table, size);
}

int shim_is_spread(uint16_t port, const struct shim_rss *rss, uint16_t size, uint16_t queues)
{
    uint8_t key[UINT8_MAX];
    struct rte_eth_rss_conf conf = {.rss_key = key, .rss_key_len = rss->key_len};
    struct rte_eth_rss_reta_entry64 table[GROUPS];

    memset(key, 0, sizeof(key));
    /* Drivers may report the other types coarser or finer than they were asked for. */
    const uint64_t ends = RTE_ETH_RSS_L3_SRC_ONLY | RTE_ETH_RSS_L3_DST_ONLY;
    if (rte_eth_dev_rss_hash_conf_get(port, &conf) != 0 || ((conf.rss_hf ^ rss->types) & ends) != 0 ||
        memcmp(key, rss->key, rss->key_len) != 0)
        return 0;
    if (size > RTE_ETH_RSS_RETA_SIZE_512 || queues == 0)
        return 0;
    memset(table, 0, sizeof(table));
    for (uint16_t group = 0; group * RTE_ETH_RETA_GROUP_SIZE < size; group++)
        table[group].mask = UINT64_MAX;
    if (rte_eth_dev_rss_reta_query(port, table, size) != 0)
        return 0;
    for (uint16_t entry = 0; entry < size; entry++) {
        if (table[entry / RTE_ETH_RETA_GROUP_SIZE].reta[entry % RTE_ETH_RETA_GROUP_SIZE] != entry % queues)
            return 0;
    }
    return 1;
}

int shim_link(uint16_t port)
{
    struct rte_eth_link link;

    memset(&link, 0, sizeof(link));
    int outcome = rte_eth_link_get_nowait(port, &link);
    return outcome != 0 ? outcome : link.link_status == RTE_ETH_LINK_UP;
}
