// SPDX-License-Identifier: Apache-2.0
package suite;

import static suite.Suite.eventually;
import static suite.Suite.want;
import static suite.Suite.wantSame;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.ZooKeeper;

/** What Curator's recipes, of any version, expect of a ZooKeeper. API of 2.12. */
public final class CuratorSuite {
    static String addr;

    static CuratorFramework connect() throws Exception {
        CuratorFramework curator = CuratorFrameworkFactory.builder().connectString(addr).sessionTimeoutMs(10_000)
                .connectionTimeoutMs(10_000).retryPolicy(new ExponentialBackoffRetry(100, 5)).build();
        curator.start();
        want(curator.blockUntilConnected(15, TimeUnit.SECONDS), "no connection to " + addr);
        return curator;
    }

    static String root(String name) {
        return "/curator-" + name + "-" + System.nanoTime();
    }

    static void remove(CuratorFramework curator, String path) throws Exception {
        curator.delete().deletingChildrenIfNeeded().forPath(path);
    }

    static void basics() throws Exception {
        CuratorFramework curator = connect();
        String r = root("basics");
        curator.create().creatingParentsIfNeeded().withMode(CreateMode.EPHEMERAL).forPath(r + "/a/b/c", "x".getBytes());
        wantSame(new String(curator.getData().forPath(r + "/a/b/c")), "x");
        curator.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath(r + "/p-");
        wantSame(curator.getChildren().forPath(r).size(), 2);
        curator.inTransaction().create().forPath(r + "/t").and().setData().forPath(r + "/t", "1".getBytes()).and().commit();
        wantSame(new String(curator.getData().forPath(r + "/t")), "1");
        remove(curator, r);
        want(curator.checkExists().forPath(r) == null, "still there");
        curator.close();
    }

    static void locks() throws Exception {
        String r = root("lock");
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        ExecutorService threads = Executors.newFixedThreadPool(5);
        List<Future<?>> ends = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            ends.add(threads.submit(() -> {
                CuratorFramework mine = connect();
                InterProcessMutex lock = new InterProcessMutex(mine, r);
                for (int round = 0; round < 5; round++) {
                    want(lock.acquire(30, TimeUnit.SECONDS), "no lock");
                    most.accumulateAndGet(inside.incrementAndGet(), Math::max);
                    mine.checkExists().forPath(r);
                    inside.decrementAndGet();
                    lock.release();
                }
                mine.close();
                return null;
            }));
        }
        for (Future<?> end : ends) {
            end.get(60, TimeUnit.SECONDS);
        }
        threads.shutdown();
        wantSame(most.get(), 1);
        CuratorFramework curator = connect();
        InterProcessReadWriteLock both = new InterProcessReadWriteLock(curator, r + "-rw");
        want(both.readLock().acquire(5, TimeUnit.SECONDS), "read lock");
        want(!both.writeLock().acquire(200, TimeUnit.MILLISECONDS), "write lock beside a reader");
        both.readLock().release();
        InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(curator, r + "-s", 1);
        want(semaphore.acquire(5, TimeUnit.SECONDS) != null, "semaphore");
        want(semaphore.acquire(200, TimeUnit.MILLISECONDS) == null, "second of one");
        curator.close();
    }

    static void latch() throws Exception {
        CuratorFramework a = connect();
        CuratorFramework b = connect();
        String r = root("latch");
        LeaderLatch first = new LeaderLatch(a, r, "a");
        LeaderLatch second = new LeaderLatch(b, r, "b");
        first.start();
        want(first.await(15, TimeUnit.SECONDS), "no leader");
        second.start();
        eventually("two take part", () -> first.getParticipants().size() == 2);
        want(!second.hasLeadership(), "two leaders");
        a.close();
        want(second.await(15, TimeUnit.SECONDS), "leadership not handed over");
        second.close();
        b.close();
    }

    static void caches() throws Exception {
        CuratorFramework curator = connect();
        CuratorFramework other = connect();
        String r = root("cache");
        curator.create().forPath(r);
        PathChildrenCache children = new PathChildrenCache(curator, r, true);
        children.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
        TreeCache tree = new TreeCache(curator, r);
        tree.start();
        NodeCache node = new NodeCache(curator, r + "/n");
        node.start(true);
        for (int i = 0; i < 10; i++) {
            other.create().withMode(CreateMode.EPHEMERAL).forPath(r + "/" + i, ("d" + i).getBytes());
        }
        other.create().forPath(r + "/n", "1".getBytes());
        other.setData().forPath(r + "/n", "2".getBytes());
        eventually("children", () -> children.getCurrentData().size() == 11);
        eventually("tree", () -> tree.getCurrentChildren(r) != null && tree.getCurrentChildren(r).size() == 11);
        eventually("node", () -> node.getCurrentData() != null && "2".equals(new String(node.getCurrentData().getData())));
        other.close();
        eventually("ephemerals gone", () -> children.getCurrentData().size() == 1);
        children.close();
        tree.close();
        node.close();
        remove(curator, r);
        curator.close();
    }

    static void counters() throws Exception {
        CuratorFramework curator = connect();
        String r = root("count");
        DistributedAtomicLong number = new DistributedAtomicLong(curator, r + "/a", new ExponentialBackoffRetry(10, 10));
        for (int i = 0; i < 20; i++) {
            want(number.increment().succeeded(), "increment");
        }
        wantSame(number.get().postValue(), 20L);
        SharedCount shared = new SharedCount(curator, r + "/s", 5);
        shared.start();
        shared.setCount(7);
        eventually("shared", () -> shared.getCount() == 7);
        shared.close();
        remove(curator, r);
        curator.close();
    }

    static void discovery() throws Exception {
        CuratorFramework curator = connect();
        CuratorFramework other = connect();
        String r = root("services");
        ServiceInstance<Void> instance = ServiceInstance.<Void>builder().name("demo").address("10.0.0.5").port(20880)
                .id("10.0.0.5:20880").build();
        ServiceDiscovery<Void> publisher =
                ServiceDiscoveryBuilder.builder(Void.class).client(other).basePath(r).thisInstance(instance).build();
        publisher.start();
        ServiceDiscovery<Void> reader = ServiceDiscoveryBuilder.builder(Void.class).client(curator).basePath(r).build();
        reader.start();
        Collection<ServiceInstance<Void>> found = reader.queryForInstances("demo");
        wantSame(found.iterator().next().getPort(), 20880);
        ServiceCache<Void> cache = reader.serviceCacheBuilder().name("demo").build();
        cache.start();
        wantSame(cache.getInstances().size(), 1);
        publisher.unregisterService(instance);
        eventually("withdrawn", () -> cache.getInstances().isEmpty());
        publisher.registerService(instance);
        eventually("published again", () -> cache.getInstances().size() == 1);
        other.getZookeeperClient().getZooKeeper().close();
        eventually("gone with its session", () -> cache.getInstances().isEmpty());
        cache.close();
        reader.close();
        curator.close();
        other.close();
    }

    static void expiry() throws Exception {
        CuratorFramework curator = connect();
        List<ConnectionState> states = new ArrayList<>();
        curator.getConnectionStateListenable().addListener((c, state) -> states.add(state));
        ZooKeeper zk = curator.getZookeeperClient().getZooKeeper();
        long session = zk.getSessionId();
        // Another client takes the session over and ends it.
        ZooKeeper thief = new ZooKeeper(addr, 10_000, event -> { }, session, zk.getSessionPasswd());
        eventually("taken over", () -> thief.getState().isConnected());
        thief.close();
        eventually("a new session", () -> {
            try {
                return curator.checkExists().forPath("/") != null
                        && curator.getZookeeperClient().getZooKeeper().getSessionId() != session;
            } catch (Exception e) {
                return false;
            }
        });
        eventually("lost and back", () -> states.contains(ConnectionState.LOST) && states.contains(ConnectionState.RECONNECTED));
        curator.close();
    }

    public static void main(String[] args) throws Exception {
        addr = args[0];
        Suite suite = new Suite();
        suite.check("basics", CuratorSuite::basics);
        suite.check("locks", CuratorSuite::locks);
        suite.check("leader latch", CuratorSuite::latch);
        suite.check("caches", CuratorSuite::caches);
        suite.check("counters", CuratorSuite::counters);
        suite.check("x-discovery", CuratorSuite::discovery);
        suite.check("expiry", CuratorSuite::expiry);
        try {
            Class.forName("suite.Curator5").getMethod("add", Suite.class).invoke(null, suite);
        } catch (ClassNotFoundException e) {
            // Before 5.
        }
        suite.end();
    }
}
